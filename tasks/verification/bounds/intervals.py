"""Interval bounds on every value of a network over a box of images, in float64.

They hold in real arithmetic for the network with these weights: each step is widened by more than
the rounding of one layer adds up to. A network with its steps as it runs is bounded there too, in
float32, by what `rounding` adds.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.rounding import added
from robsweep.tasks.verification.bounds.smooth import ranges
from robsweep.tasks.verification.bounds.support import narrowed
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Gather,
    Layer,
    Linear,
    MaxPool,
    Network,
    Relu,
    Reshape,
    Scale,
    Smooth,
    Sum,
    apply,
    weighted,
)

_ROUNDING = 1e-11  # rounding of a sum of n float64 terms is below n * 1.2e-16 of their magnitudes


class Bounds(NamedTuple):
    """What N samples' values lie between, each (N, *shape); a box is the bounds of its images."""

    lower: Tensor
    upper: Tensor

    def rows(self, index: Tensor) -> "Bounds":
        return Bounds(self.lower[index], self.upper[index])

    def size(self) -> Tensor:
        return torch.maximum(self.lower.abs(), self.upper.abs())


def interval_step(layer: Layer, *boxes: Bounds) -> Bounds:
    """Source: Gowal et al. 2018, section 3, equation 6."""
    box = boxes[0]
    match layer:
        case Linear() | Conv() | Scale():
            middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
            radius = radius + _ROUNDING * (middle.abs() + radius)
            middle = apply(layer, middle)
            radius = weighted(layer, radius, layer.weight.abs(), _ROUNDING * layer.bias.abs())
            return Bounds(middle - radius, middle + radius)
        case Smooth():
            return Bounds(*ranges(layer.curve, *box))
        case Sum():
            signed = [
                (b if factor > 0 else Bounds(b.upper, b.lower))
                for b, factor in zip(boxes, layer.factors, strict=True)
            ]
            lower = apply(layer, *(b.lower for b in signed))
            upper = apply(layer, *(b.upper for b in signed))
            if layer.apart:
                return Bounds(lower, upper)
            size = sum(b.lower.abs() + b.upper.abs() for b in boxes)
            return Bounds(lower - _ROUNDING * size, upper + _ROUNDING * size)
        case Relu() | MaxPool() | Reshape() | Gather():
            return Bounds(apply(layer, box.lower), apply(layer, box.upper))


def next_bounds(network: Network, bounds: list[Bounds]) -> Bounds:
    """Those on the next value, from bounds on all values before it."""
    layer = len(bounds) - 1
    read = [bounds[v] for v in network.inputs[layer]]
    box = interval_step(network.layers[layer], *read)
    if network.within is not None and network.inputs[layer] == (0,):
        box = Bounds(*narrowed(network.within, network.layers[layer], box))
    if (error := added(network, layer, [one.size() for one in read])) is None:
        return box
    # where it overflows, nothing is known of it
    lower = (box.lower - error).nan_to_num(-torch.inf, torch.inf, -torch.inf)
    return Bounds(lower, (box.upper + error).nan_to_num(torch.inf, torch.inf, -torch.inf))


def interval(network: Network, box: Bounds) -> list[Bounds]:
    """Bounds on each value of the network: the box itself first, the logits last."""
    bounds = [box]
    for _ in network.layers:
        bounds.append(next_bounds(network, bounds))
    return bounds
