import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.verification.bounds import backward
from robsweep.tasks.verification.bounds.alpha import Ascent, Relaxed, optimised_margins
from robsweep.tasks.verification.bounds.intervals import interval
from robsweep.tasks.verification.bounds.margins import (
    best_margins,
    crown,
    last_affine,
    margins,
    unstable_relus,
)
from robsweep.tasks.verification.bounds.smooth import lines, ranges
from robsweep.tasks.verification.reading.curves import CURVES, Curve
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.properties import untargeted
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.small_nets import ball, convolutional, dense, points_in


def _net(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    return (dense(0, 6, 12, 9, 4), (6,)) if name == "dense" else convolutional(name)


@pytest.mark.parametrize("eps", [0.0, 0.02, 0.2])
@pytest.mark.parametrize(
    "name",
    ["dense", "functional", "pooled", "averaged", "residual", "rearranged", "curved"],
)
def test_bounds_contain_every_value_and_margin_of_sampled_points(name: str, eps: float) -> None:
    module, shape = _net(name)
    network = read(module, shape)
    x = torch.rand(6, *shape)
    y = torch.arange(6) % network.shapes[-1][0]
    unsafe = untargeted(y, network.shapes[-1][0])
    plain, tight = interval(network, ball(x, eps)), crown(network, ball(x, eps))
    loose = margins(network, plain, unsafe, back_to=last_affine(network)).lower
    known = best_margins(network, tight, unsafe)
    lower = known.lower
    ascent = Ascent(10, 0.3)
    highest = optimised_margins(Relaxed.of(network, tight), unsafe, known, ascent).margins.lower
    assert (highest >= lower - 1e-12).all()
    for points in points_in(x, eps, 200):
        for k, value in enumerate(evaluate(network, points)):
            for b in (plain[k], tight[k]):
                assert (b.lower <= value).all()
                assert (value <= b.upper).all()
        real = value.gather(1, y[:, None]) - value
        real.scatter_(1, y[:, None], torch.inf)
        assert (lower <= real).all()
        assert (highest <= real).all()
        assert (loose <= real).all()
    if eps == 0:
        torch.testing.assert_close(lower, real, rtol=0, atol=1e-7)
    assert (unstable_relus(network, tight) <= unstable_relus(network, plain)).all()
    assert (lower >= loose - 1e-12).all()


def test_crown_is_exact_on_linear_networks() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 4)
    )
    network = read(module, (1, 6, 6))
    x, y, eps = torch.rand(5, 1, 6, 6), torch.tensor([0, 1, 2, 3, 0]), 0.07
    box = ball(x, eps)
    found = margins(network, crown(network, box), untargeted(y, 4)).lower
    for i in range(5):
        for other in set(range(4)) - {int(y[i])}:
            point = box.rows(torch.tensor([i])).lower.requires_grad_()
            logits = module.double()(point)[0]
            difference = logits[y[i]] - logits[other]
            (slope,) = torch.autograd.grad(difference, point)
            lowest = difference + (slope.clamp(max=0) * (box.upper[i] - box.lower[i])).sum()
            assert found[i, other] == pytest.approx(lowest.item(), abs=1e-7)
            assert found[i, other] < lowest


def test_samples_and_chunks_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    module, shape = convolutional("pooled")
    network = read(module, shape)
    x, y = torch.rand(7, *shape), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    together = margins(network, crown(network, ball(x, 0.1)), untargeted(y, 4)).lower
    monkeypatch.setitem(backward._CHUNK, "cpu", 10**6)
    for i in range(7):
        alone = margins(
            network, crown(network, ball(x[i : i + 1], 0.1)), untargeted(y[i : i + 1], 4)
        )
        torch.testing.assert_close(alone.lower[0], together[i], rtol=1e-9, atol=1e-9)


def test_max_pool_is_exact_where_one_input_dominates() -> None:
    module = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        module[2].weight[:] = torch.tensor([[1.0], [-1.0]])
    network = read(module, (1, 2, 2))
    x = torch.tensor([[0.1, 0.2], [0.8, 0.3]]).reshape(1, 1, 2, 2)
    for label, expected in ((0, 2 * 0.7), (1, -2 * 0.9)):
        found = margins(network, crown(network, ball(x, 0.1)), untargeted(torch.tensor([label]), 2))
        assert found.lower[0, 1 - label] == pytest.approx(expected, abs=1e-6)


def test_a_branch_that_is_taken_away_again_leaves_nothing() -> None:
    class Cancelled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.out = nn.Linear(3, 8), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            wide = torch.relu(100 * self.wide(x))
            return self.out(wide - wide + 1.0)

    network = read(Cancelled(), (3,))
    lower = margins(
        network, crown(network, ball(torch.rand(1, 3), 0.2)), untargeted(torch.tensor([0]), 2)
    )
    out = evaluate(network, torch.zeros(1, 3, dtype=torch.float64))[-1][0]
    assert lower.lower[0, 1] == pytest.approx((out[0] - out[1]).item(), abs=1e-3)


@pytest.mark.parametrize("curve", CURVES)
def test_lines_and_ranges_hold_and_are_near(curve: Curve) -> None:
    torch.manual_seed(0)
    middle, width = torch.randn(400).double() * 4, torch.rand(400).double() ** 3 * 8
    lower, upper = middle - width, middle + width
    width[0] = 0
    slope, below, above = lines(curve, lower, upper)
    least, most = ranges(curve, lower, upper)
    share = torch.linspace(0, 1, 5001, dtype=torch.float64)[:, None]
    x = lower + share * (upper - lower)
    value = CURVES[curve].of(x)
    assert ((slope * x + below <= value) & (value <= slope * x + above)).all()
    assert ((least <= value) & (value <= most)).all()
    torch.testing.assert_close(most, value.amax(0), rtol=0, atol=1e-9)
    torch.testing.assert_close(least, value.amin(0), rtol=0, atol=1e-5)
    off = value - slope * x
    assert (above - off.amax(0) <= 0.01 * (upper - lower) + 1e-9).all()
    assert (off.amin(0) - below <= 0.01 * (upper - lower) + 1e-9).all()
