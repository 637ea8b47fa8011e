"""Branch and bound by itself, and the smaller networks that it searches."""

import math
import time

import pytest
import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.alpha import Relaxed
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_crown
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property, margin, untargeted
from robsweep.tasks.verification.reading.torch.module import read
from robsweep.tasks.verification.search.branching import Limit, Search
from robsweep.tasks.verification.search.reduced import without_dead_units
from tests.tasks.verification.small_nets import ball, convolutional, dense, smallest_margin

NEVER = Limit(math.inf, math.inf, math.inf)


def _search(network: Network, box: Bounds, unsafe: Property) -> Search:
    bounds, margins = by_crown(network, box, unsafe)
    known = {d: low for d, low in enumerate(margins.lower[0].tolist()) if low <= BOUNDARY}
    return Search(Relaxed.of(network, bounds), unsafe, known)


@pytest.mark.parametrize("seed", range(8))
def test_bounds_end_at_the_smallest_margin_or_prove(seed: int) -> None:
    net = dense(seed, 3, 5, 3, 3)
    x, eps = torch.rand(1, 3), 0.1 + 0.1 * (seed % 3)
    label = net(x).argmax(1)
    exact = smallest_margin(net, x[0], int(label), eps)
    search = _search(read(net, (3,)), ball(x, eps), untargeted(label, 3))
    found: list[Tensor] = []
    search.run(NEVER, lambda point: found.append(point) is None)
    if found:
        assert exact <= 0
        assert margin(untargeted(label, 3), net(found[0].float())).item() <= 1e-6
        return
    least = min(search.lower().values(), default=exact)
    assert least <= max(exact, BOUNDARY * 1.01)
    assert (least > BOUNDARY) <= (exact > 0)


def test_stopping_and_going_on_is_one_search() -> None:
    net = dense(3, 4, 16, 12, 3)
    x = torch.full((1, 4), 0.45)
    label = net(x).argmax(1)
    unsafe, network = untargeted(label, 3), read(net, (4,))

    def run(pieces: int) -> tuple[dict[int, float], int]:
        search = _search(network, ball(x, 0.3), unsafe)
        for i in range(1, pieces + 1):
            search.run(NEVER._replace(branches=2000 * i / pieces), lambda _: False)
        return search.lower(), search.branches

    assert run(1)[1] > 500
    assert run(1) == run(4)


def test_bounds_only_rise_and_hold() -> None:
    net, shape = convolutional("residual")
    network = read(net, shape)
    x = torch.rand(1, *shape)
    label = net(x).topk(2).indices[:, 1]  # the first one wins everywhere
    unsafe = untargeted(label, 3)
    search, box = _search(network, ball(x, 0.5), unsafe), ball(x, 0.5)
    points = box.lower + torch.rand(2000, *shape) * (box.upper - box.lower)
    sampled = margin(unsafe.rows([0] * 2000), evaluate(network, points)[-1]).min().item()
    before = min(search.lower().values())
    for branches in (2, 100, 400):
        search.run(NEVER._replace(branches=branches), lambda _: False)
        now = min(search.lower().values())
        assert before <= now <= max(sampled, BOUNDARY * 1.01)
        before = now


def test_nothing_is_found_that_the_judge_refuses() -> None:
    net = dense(1, 2, 6, 3)
    x = torch.rand(1, 2)
    label = net(x).argmax(1)
    search = _search(read(net, (2,)), ball(x, 0.9), untargeted(label, 3))
    started = time.monotonic()
    search.run(NEVER, lambda _: False)
    assert time.monotonic() - started < 60
    assert min(search.lower().values()) <= 0


def test_what_is_proved_otherwise_is_forgotten() -> None:
    net = dense(3, 4, 16, 12, 4)
    x = torch.full((1, 4), 0.45)
    search = _search(read(net, (4,)), ball(x, 0.4), untargeted(net(x).argmax(1), 4))
    search.run(NEVER._replace(branches=50), lambda _: False)
    one = next(d for d, low in search.lower().items() if low <= BOUNDARY)
    search.forget({one})
    assert all(place.disjunct() != one for place in search.pool)


@pytest.mark.parametrize("seed", range(3))
def test_a_network_without_its_dead_units_is_the_same_in_the_box(seed: int) -> None:
    net = dense(seed, 5, 30, 20, 4)
    x = torch.rand(1, 5)
    network, box = read(net, (5,)), ball(x, 0.05)
    bounds = by_crown(network, box, untargeted(torch.tensor([0]), 4)).bounds
    smaller, _, kept, _ = without_dead_units(Relaxed.of(network, bounds))
    assert sum(map(math.prod, smaller.shapes)) < sum(map(math.prod, network.shapes))
    assert [b.lower.shape[1:] for b in kept] == [torch.Size(s) for s in smaller.shapes]
    points = box.lower + torch.rand(200, 5) * (box.upper - box.lower)
    torch.testing.assert_close(evaluate(smaller, points)[-1], evaluate(network, points)[-1])


def test_units_that_something_else_reads_stay() -> None:
    net, shape = convolutional("residual")
    network = read(net, shape)
    bounds = by_crown(network, ball(torch.rand(1, *shape), 0.01), untargeted(torch.tensor([0]), 3))
    relaxed = Relaxed.of(network, bounds.bounds)
    assert without_dead_units(relaxed).exact.shapes == network.shapes
