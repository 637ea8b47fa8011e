import time

import numpy as np
import pytest
import torch
from torch import nn

from robsweep.tasks.recheck import milp, proofs
from robsweep.tasks.recheck.bounds import ball, intervals, relaxed
from robsweep.tasks.recheck.layers import forward, with_margins
from robsweep.tasks.recheck.network import read
from robsweep.tasks.recheck.proofs import derive
from robsweep.tasks.recheck.sampling import Point, inside
from tests.tasks.recheck.test_network import residual
from tests.tasks.verification.small_nets import Skip, dense, smallest_margin


def pooled(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 2, 2), nn.MaxPool2d(2, 1, 1), nn.ReLU(), nn.Conv2d(2, 2, 2)]
    layers += [nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 3)]
    net = nn.Sequential(*layers).eval().requires_grad_(False)
    net[-1].bias -= net(torch.full((1, 1, 3, 3), 0.5))[0]
    return net


def label_of(net: nn.Module, image: torch.Tensor) -> int:
    return int(net(image[None]).argmax())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("tried", [True, False])
def test_verdict_is_that_of_brute_force(
    seed: int, tried: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = dense(seed, 2, 4, 3, 3)
    image, eps = torch.rand(2), 0.02 + 0.1 * (seed % 3)
    label = label_of(net, image)
    exact = smallest_margin(net, image, label, eps)
    if not tried:  # all is left to bounds and solver
        monkeypatch.setattr(proofs, "lowest", lambda *_: Point(np.zeros(2), np.inf))
    shown = derive(read(net, (2,)), image.numpy(), label, eps, 30.0, 0)
    assert shown.outcome == ("ok" if exact > 0 else "wrong"), (exact, shown)


@pytest.mark.parametrize("seed", range(4))
def test_a_skip_connection_gets_the_verdict_of_brute_force_on_its_chain(seed: int) -> None:
    chain = dense(seed, 2, 5, 2, 3)
    net = Skip(chain).eval().requires_grad_(False)
    image, eps = torch.rand(2), 0.05 + 0.1 * (seed % 3)
    label = label_of(net, image)
    exact = smallest_margin(chain, image, label, eps)
    layers = read(net, (2,))
    shown = derive(layers, image.numpy(), label, eps, 30.0, 0)
    assert shown.outcome == ("ok" if exact > 0 else "wrong"), (exact, shown)


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
@pytest.mark.parametrize("net_of", [pooled, residual])
def test_bounds_hold_and_the_solver_reaches_the_smallest_margin(net_of, seed: int) -> None:
    net = net_of(seed)
    side = 3 if net_of is pooled else 4
    image = torch.rand(1, side, side).numpy()
    layers = with_margins(read(net, image.shape), 1)
    box = ball(image, 0.2 if net_of is pooled else 0.02)
    share = np.random.default_rng(seed).uniform(size=(20000, side * side))
    share[::2] = share[::2].round()
    points = box.lower + share * (box.upper - box.lower)
    found = relaxed(layers, box)
    loose = intervals(layers, box)
    for k in range(len(layers) + 1):
        values = forward(layers[:k], points)
        for bounds in (found[k], loose[k]):
            assert (values >= bounds.lower).all()
            assert (values <= bounds.upper).all()
        assert (found[k].lower >= loose[k].lower - 1e-12).all()
    least = forward(layers, points).min(axis=0)
    for output in range(2):
        (answer,) = milp.smallest(layers, found, np.array([output]), 30.0)
        assert answer.bound is not None
        assert found[-1].lower[output] - 1e-6 <= answer.bound <= least[output]
        there = forward(layers, np.array(answer.pixels)[None])[0, output]
        # a point and a bound of the same sign are all that is asked for
        assert answer.bound - 1e-6 <= there <= max(answer.bound / 0.1, 0.1 * answer.bound) + 1e-6


def spike() -> nn.Sequential:
    """The first of two classes wins but within 1e-3 of one point."""
    kink, out = nn.Linear(1, 3), nn.Linear(3, 2)
    with torch.no_grad():
        kink.weight[:] = 1000.0
        kink.bias[:] = torch.tensor([-699.0, -700.0, -701.0])
        out.weight[:] = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 1.0]])
        out.bias[:] = torch.tensor([0.5, 0.0])
    return nn.Sequential(kink, nn.ReLU(), out).eval().requires_grad_(False)


def test_a_planted_narrow_counterexample_refutes_a_proof() -> None:
    layers, image = read(spike(), (1,)), np.array([0.5], dtype=np.float32)
    assert derive(layers, image, 0, 0.3, 30.0, 0).outcome == "wrong"
    assert derive(layers, image, 0, 0.19, 30.0, 0).outcome == "ok"


def test_a_tie_is_adversarial() -> None:
    net = nn.Sequential(nn.Linear(1, 2)).requires_grad_(False)
    net[0].weight[:] = torch.tensor([[1.0], [0.0]])
    net[0].bias[:] = torch.tensor([0.0, 0.25])
    layers, image = read(net, (1,)), np.array([0.5], dtype=np.float32)
    assert derive(layers, image, 0, 0.25, 30.0, 0).outcome == "wrong"
    assert derive(layers, image, 0, 0.2499, 30.0, 0).outcome == "ok"


def hard() -> tuple[nn.Sequential, np.ndarray]:
    return dense(0, 8, 60, 60, 3), torch.full((8,), 0.4).numpy()


@pytest.mark.parametrize("program", [None, "import time; time.sleep(600)", "raise SystemExit(9)"])
def test_what_the_solver_does_not_decide_is_never_ok(
    program: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, image = hard()
    net[-1].bias[0] += 10 * float(net(torch.from_numpy(image)[None]).std())
    if program is not None:
        monkeypatch.setattr(milp, "COMMAND", ("-c", program))
        monkeypatch.setattr(milp, "_START", 0.5)
    monkeypatch.setattr(proofs, "lowest", lambda *_: Point(image, np.inf))
    started = time.monotonic()
    shown = derive(read(net, (8,)), image, 1, 0.4, 0.01, 0)
    assert shown.outcome == "open", shown
    assert time.monotonic() - started < 30


def test_the_box_has_no_slack() -> None:
    image = np.array([0.5, 0.0, 1.0], dtype=np.float32)
    box = ball(image, 0.1)
    assert inside(box, box.lower)
    assert inside(box, box.upper)
    for i in range(3):
        for end, away in ((box.lower, -1), (box.upper, 2)):
            outside = end.copy()
            outside[i] = np.nextafter(outside[i], away)
            assert not inside(box, outside)
    assert not inside(box, np.full(3, np.nan))
