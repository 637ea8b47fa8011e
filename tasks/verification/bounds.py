"""CROWN: bounds on every value and on the margins, tightened by backward linear relaxation."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.verification.backward import lower_bounds, unit_bounds
from tasks.verification.intervals import Bounds, interval_step
from tasks.verification.layers import BENT, Layer, MaxPool, Network, Relu, Smooth
from tasks.verification.properties import Property

_LEANS = (1e-6, 0.5, 2.0, 1e6)


def crown(network: Network, box: Bounds, *, within: list[Bounds] | None = None) -> list[Bounds]:
    """Like `interval`, with what enters a bent layer tightened where it is undecided.

    Source: Zhang et al. 2018 (CROWN), section 3.3, with the adaptive lower slope.

    Args:
        within: Bounds that hold already, to be intersected with.
    """
    readers = _readers(network)
    bounds = [box]
    for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
        bounds.append(interval_step(layer, *(bounds[v] for v in read)))
        if within is not None:
            bounds[-1] = _intersected(bounds[-1], within[k + 1])
        relaxed = any(isinstance(one, BENT) for one in network.layers[:k])
        if relaxed and not isinstance(layer, BENT):
            lower, upper = bounds[-1]
            if any(isinstance(reader, MaxPool | Smooth) for reader in readers[k + 1]):
                bounds[-1] = _tightened(network, bounds, lower < upper)
            elif any(isinstance(reader, Relu) for reader in readers[k + 1]):
                bounds[-1] = _tightened(network, bounds, (lower < 0) & (upper > 0))
    return bounds


class Crowned(NamedTuple):
    """Bounds on each value, and margins as `margins` gives them."""

    bounds: list[Bounds]
    margins: Tensor


def crown_of_many_slopes(network: Network, box: Bounds, unsafe: Property) -> Crowned:
    """CROWN's bounds from several choices of lower slopes, intersected: each of them holds."""
    bounds = crown(network, box)
    best = best_margins(network, bounds, unsafe)
    for lean in _LEANS:
        layers = (
            replace(one, lean=lean) if isinstance(one, Relu) else one for one in network.layers
        )
        leaning = network._replace(layers=tuple(layers))
        bounds = crown(leaning, box, within=bounds)
        best = torch.maximum(best, margins(leaning, bounds, unsafe))
    return Crowned(bounds, torch.maximum(best, best_margins(network, bounds, unsafe)))


def _intersected(one: Bounds, other: Bounds) -> Bounds:
    return Bounds(torch.maximum(one.lower, other.lower), torch.minimum(one.upper, other.upper))


def _readers(network: Network) -> list[list[Layer]]:
    """Which layers read each value."""
    readers: list[list[Layer]] = [[] for _ in network.shapes]
    for layer, read in zip(network.layers, network.inputs, strict=True):
        for value in read:
            readers[value].append(layer)
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
    return (lower + unsafe.bias).amax(2)


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
