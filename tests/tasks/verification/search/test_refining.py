"""Small trees for each unit: their bounds hold, are never wider, and come near the exact ranges."""

import math

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.reading.layers import Network, Relu, evaluate, in_float32
from robsweep.tasks.verification.reading.properties import BOUNDARY
from robsweep.tasks.verification.reading.torch.module import read, read_as_deployed
from robsweep.tasks.verification.search.refining import can_refine, refined
from tests.tasks.verification.small_nets import ball, convolutional, dense, smallest_margin


def _relu_inputs(network: Network) -> list[int]:
    return [network.inputs[k][0] for k, one in enumerate(network.layers) if isinstance(one, Relu)]


def _least(net: nn.Sequential, unit: int, sign: float, x: Tensor, eps: float) -> float:
    """Of `sign` times what enters a unit of the second ReLU layer, by linear programs."""
    both = nn.Linear(net[0].out_features, 2).requires_grad_(False)
    both.weight[:], both.bias[:] = 0, 0
    both.weight[0], both.bias[0] = sign * net[2].weight[unit], sign * net[2].bias[unit]
    return smallest_margin(nn.Sequential(net[0], net[1], both), x[0], 0, eps)


def test_trees_take_most_of_what_relaxation_loses() -> None:
    """Some hundred linear programs, of each undecided unit."""
    net, x, eps = dense(5, 3, 6, 5, 4, 3), torch.full((1, 3), 0.5), 0.5
    network = read(net, (3,))
    before = crown(network, ball(x, eps))
    found = refined(network, before, 64, math.inf)
    second = _relu_inputs(network)[1]
    lower, upper = (end[0] for end in before[second])
    units = ((lower < 0) & (upper > 0)).nonzero()[:, 0].tolist()
    loss = left = 0.0
    for unit in units:
        for sign, was, now in zip((1.0, -1.0), before[second], found.bounds[second], strict=True):
            low, better = sign * was[0, unit].item(), sign * now[0, unit].item()
            exact = _least(net, unit, sign, x, eps)
            assert low <= better
            assert better <= max(exact, BOUNDARY) + 1e-6
            loss, left = loss + min(exact, 0.0) - low, left + min(exact, 0.0) - min(better, 0.0)
    assert len(units) == 4
    assert loss > 0
    assert left < 0.1 * loss


@pytest.mark.parametrize("name", ["dense", "residual", "pooled", "rearranged", "averaged"])
@pytest.mark.parametrize("deployed", [False, True])
def test_refined_bounds_hold(name: str, *, deployed: bool) -> None:
    net, shape = (dense(5, 4, 8, 8, 6, 3), (4,)) if name == "dense" else convolutional(name)
    network = (read_as_deployed if deployed else read)(net, shape)
    assert can_refine(network)
    box = ball(torch.rand(1, *shape), 0.3)
    before = crown(network, box)
    found = refined(network, before, 4, math.inf)
    share = torch.rand(500, *shape, dtype=torch.float64)
    share[::2] = share[::2].round()
    points = box.lower + share * (box.upper - box.lower)
    values = evaluate(network, points)
    narrower = 0
    for value in _relu_inputs(network):
        (low, high), (was_low, was_high) = found.bounds[value], before[value]
        assert (values[value] >= low - 1e-9).all()
        assert (values[value] <= high + 1e-9).all()
        assert (low >= was_low).all()
        assert (high <= was_high).all()
        narrower += int((high - low < was_high - was_low).sum())
    assert narrower or not found.branches
    if deployed:
        single = evaluate(in_float32(network), points.float())
        for value in _relu_inputs(network):
            low, high = found.bounds[value]
            assert ((single[value] >= low) & (single[value] <= high)).all()


def test_bounds_found_before_the_end_hold_and_later_sweeps_only_tighten() -> None:
    network = read(dense(1, 4, 10, 8, 8, 3), (4,))
    bounds = crown(network, ball(torch.full((1, 4), 0.4), 0.4))
    assert refined(network, bounds, 4, -math.inf).branches == 0
    first = refined(network, bounds, 2, math.inf)
    second = refined(network, first.bounds, 8, math.inf)

    def widths(some: list[Bounds]) -> float:
        return sum(float((some[v].upper - some[v].lower).sum()) for v in _relu_inputs(network))

    assert widths(second.bounds) < widths(first.bounds) < widths(bounds)


def test_nothing_is_refined_behind_one_layer_or_beside_curves() -> None:
    assert not can_refine(read(dense(0, 3, 5, 3), (3,)))
    net, shape = convolutional("curved")
    assert not can_refine(read(net, shape))


class _Folded(nn.Module):
    """|x| in layers beside each other: not all ReLUs that come first are before the second."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.abs(self.two(torch.abs(self.one(x))))
        out: Tensor = self.out(x)
        return out


def test_branches_beside_each_other_are_refined_as_well() -> None:
    torch.manual_seed(5)
    network = read(_Folded().eval().requires_grad_(False), (3,))
    box = ball(torch.full((1, 3), 0.5), 0.5)
    bounds = crown(network, box)
    found = refined(network, bounds, 8, math.inf)
    points = box.lower + torch.rand(2000, 3, dtype=torch.float64) * (box.upper - box.lower)
    values = evaluate(network, points)
    for value in _relu_inputs(network):
        low, high = found.bounds[value]
        assert ((values[value] >= low - 1e-9) & (values[value] <= high + 1e-9)).all()
    assert found.branches
