"""CROWN: bounds on every value and on the margins, tightened by backward linear relaxation."""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.backward import lower_bounds, unit_bounds
from robsweep.tasks.verification.bounds.intervals import Bounds, interval, interval_step
from robsweep.tasks.verification.reading.layers import BENT, Layer, MaxPool, Network, Relu, Smooth
from robsweep.tasks.verification.reading.properties import Property


def crown(network: Network, box: Bounds, *, within: list[Bounds] | None = None) -> list[Bounds]:
    """Like `interval`, with what enters a bent layer tightened where it is undecided.

    Source: Zhang et al. 2018 (CROWN), section 3.3, with the adaptive lower slope.

    Args:
        within: Bounds that hold already, to be intersected with.
    """
    readers = _read_by(network)
    bounds = [box]
    for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
        bounds.append(interval_step(layer, *(bounds[v] for v in read)))
        if within is not None:
            bounds[-1] = _intersected(bounds[-1], within[k + 1])
        relaxed = any(isinstance(one, BENT) for one in network.layers[:k])
        if relaxed and not isinstance(layer, BENT):
            lower, upper = bounds[-1]
            if readers[k + 1] & {MaxPool, Smooth}:
                bounds[-1] = _tightened(network, bounds, lower < upper)
            elif Relu in readers[k + 1]:
                bounds[-1] = _tightened(network, bounds, (lower < 0) & (upper > 0))
    return bounds


class Bounded(NamedTuple):
    """Bounds on each value, and margins as `margins` gives them."""

    bounds: list[Bounds]
    margins: Tensor

    def rows(self, index: list[int]) -> "Bounded":
        where = torch.tensor(index, dtype=torch.int64, device=self.margins.device)
        return Bounded([b.rows(where) for b in self.bounds], self.margins[where])


def by_intervals(network: Network, box: Bounds, unsafe: Property) -> Bounded:
    bounds = interval(network, box)
    return Bounded(bounds, margins(network, bounds, unsafe, back_to=last_affine(network)))


def by_crown(network: Network, box: Bounds, unsafe: Property) -> Bounded:
    bounds = crown(network, box)
    return Bounded(bounds, best_margins(network, bounds, unsafe))


def _intersected(one: Bounds, other: Bounds) -> Bounds:
    return Bounds(torch.maximum(one.lower, other.lower), torch.minimum(one.upper, other.upper))


def _read_by(network: Network) -> list[set[type[Layer]]]:
    """Which types of layers read each value."""
    readers: list[set[type[Layer]]] = [set() for _ in network.shapes]
    for layer, read in zip(network.layers, network.inputs, strict=True):
        for value in read:
            readers[value].add(type(layer))
    return readers


def unstable_relus(network: Network, bounds: list[Bounds]) -> Tensor:
    """How many ReLUs may be on or off: (N,) int64."""
    count = torch.zeros(len(bounds[0].lower), dtype=torch.int64, device=bounds[0].lower.device)
    for layer, read in zip(network.layers, network.inputs, strict=True):
        if isinstance(layer, Relu):
            lower, upper = bounds[read[0]]
            count += ((lower < 0) & (upper > 0)).flatten(1).sum(1)
    return count


def margins(
    network: Network, bounds: list[Bounds], unsafe: Property, *, back_to: int = 0
) -> Tensor:
    """Lower bounds on how far the logits are from each disjunct of the unsafe region.

    Args:
        back_to: The value whose bounds end the backward pass; 0 is the whole network.

    Returns:
        (N, D); a disjunct is not reached where it is > 0.
    """
    shape, classes = unsafe.bias.shape, unsafe.weight.shape[3]
    owner = torch.arange(len(unsafe.bias), device=unsafe.bias.device)
    owner = owner.repeat_interleave(shape[1] * shape[2])
    rows = unsafe.weight.reshape(-1, classes)
    lower = lower_bounds(network, bounds, rows, owner, back_to=back_to).reshape(shape)
    return (lower + unsafe.bias).amax(2).nan_to_num(-torch.inf, torch.inf, -torch.inf)


def best_margins(network: Network, bounds: list[Bounds], unsafe: Property) -> Tensor:
    """The better of the whole backward pass and of its last affine step, as in `margins`."""
    short = margins(network, bounds, unsafe, back_to=last_affine(network))
    return torch.maximum(short, margins(network, bounds, unsafe))


def last_affine(network: Network) -> int:
    """The first value after which all layers are affine: where an interval margin starts."""
    after = [k + 1 for k, one in enumerate(network.layers) if isinstance(one, BENT)]
    return max(after, default=0)


def _tightened(network: Network, bounds: list[Bounds], undecided: Tensor) -> Bounds:
    """The last bounds, intersected with CROWN's for the undecided units: (N, *shape) bool."""
    owner, unit = undecided.flatten(1).nonzero().unbind(1)
    if not len(owner):
        return bounds[-1]
    shape = undecided.shape
    low, high = (b.flatten(1).clone() for b in bounds[-1])
    found = unit_bounds(network, bounds, owner, unit)
    low[owner, unit] = torch.maximum(low[owner, unit], found.lower)
    high[owner, unit] = torch.minimum(high[owner, unit], found.upper)
    return Bounds(low.reshape(shape), high.reshape(shape))
