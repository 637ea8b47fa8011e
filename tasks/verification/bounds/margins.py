"""CROWN: bounds on every value and on the margins, tightened by backward linear relaxation."""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.backward import lower_bounds, unit_bounds
from robsweep.tasks.verification.bounds.intervals import Bounds, interval, next_bounds
from robsweep.tasks.verification.reading.layers import (
    BENT,
    Conv,
    Layer,
    Linear,
    MaxPool,
    Network,
    Relu,
    Smooth,
)
from robsweep.tasks.verification.reading.properties import Property


def crown(network: Network, box: Bounds, *, within: list[Bounds] | None = None) -> list[Bounds]:
    """Like `interval`, with what enters a bent layer tightened where it is undecided.

    Source: Zhang et al. 2018 (CROWN), section 3.3, with the adaptive lower slope.

    Args:
        within: Bounds that hold already, to be intersected with.
    """
    readers = _read_by(network)
    mixing = 0  # of two affine maps in a row, intervals know only so much
    bounds = [box]
    for k, layer in enumerate(network.layers):
        bounds.append(next_bounds(network, bounds))
        if within is not None:
            bounds[-1] = _intersected(bounds[-1], within[k + 1])
        mixing += isinstance(layer, Linear | Conv)
        relaxed = any(isinstance(one, BENT) for one in network.layers[:k])
        relaxed = relaxed or mixing > 1 or network.within is not None
        if relaxed and not isinstance(layer, BENT):
            lower, upper = bounds[-1]
            if readers[k + 1] & {MaxPool, Smooth}:
                bounds[-1] = _tightened(network, bounds, lower < upper)
            elif Relu in readers[k + 1]:
                bounds[-1] = _tightened(network, bounds, (lower < 0) & (upper > 0))
    return bounds


class Margins(NamedTuple):
    """Lower bounds on how far the logits are from each disjunct of the region, (N, D) each.

    A disjunct is not reached where they are > 0.
    """

    lower: Tensor  # as the network runs, if its steps are known
    reals: Tensor  # over the reals

    def best(self, other: "Margins") -> "Margins":
        return Margins(*map(torch.maximum, self, other))

    def rows(self, index: Tensor) -> "Margins":
        return Margins(self.lower[index], self.reals[index])


class Bounded(NamedTuple):
    """Bounds on each value, and on the margins."""

    bounds: list[Bounds]
    margins: Margins

    def rows(self, index: list[int]) -> "Bounded":
        where = torch.tensor(index, dtype=torch.int64, device=self.margins.lower.device)
        return Bounded([b.rows(where) for b in self.bounds], self.margins.rows(where))


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
) -> Margins:
    """Margins by one backward pass.

    Args:
        back_to: The value whose bounds end it; 0 is the whole network.
    """
    shape, classes = unsafe.bias.shape, unsafe.weight.shape[3]
    owner = torch.arange(len(unsafe.bias), device=unsafe.bias.device)
    owner = owner.repeat_interleave(shape[1] * shape[2])
    rows = unsafe.weight.reshape(-1, classes)
    found = lower_bounds(network, bounds, rows, owner, back_to=back_to)
    return margins_of(*(part.reshape(shape) + unsafe.bias for part in found))


def margins_of(lower: Tensor, reals: Tensor) -> Margins:
    """Of disjuncts, from lower bounds (N, D, C) on their rows."""
    both = (one.amax(2).nan_to_num(-torch.inf, torch.inf, -torch.inf) for one in (lower, reals))
    return Margins(*both)


def best_margins(network: Network, bounds: list[Bounds], unsafe: Property) -> Margins:
    """The better of the whole backward pass and of its last affine step, as in `margins`."""
    short = margins(network, bounds, unsafe, back_to=last_affine(network))
    return short.best(margins(network, bounds, unsafe))


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
