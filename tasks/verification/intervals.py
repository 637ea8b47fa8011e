"""Interval bounds on every layer over a box of images, in float64.

They hold in real arithmetic for the network with these weights: each step is widened by more than
the rounding of one layer adds up to.
"""

from typing import NamedTuple

from torch import Tensor

from tasks.verification.layers import Conv, Layer, Linear, Network, apply, weighted

_ROUNDING = 1e-11  # rounding of a sum of n float64 terms is below n * 1.2e-16 of their magnitudes


class Bounds(NamedTuple):
    """What N samples' values lie between, each (N, *shape); a box is the bounds of its images."""

    lower: Tensor
    upper: Tensor

    def rows(self, index: Tensor) -> "Bounds":
        return Bounds(self.lower[index], self.upper[index])


def interval_step(layer: Layer, box: Bounds) -> Bounds:
    """Source: Gowal et al. 2018, section 3, equation 6."""
    if not isinstance(layer, Linear | Conv):
        return Bounds(apply(layer, box.lower), apply(layer, box.upper))
    middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    radius = radius + _ROUNDING * (middle.abs() + radius)
    middle = apply(layer, middle)
    radius = weighted(layer, radius, layer.weight.abs(), _ROUNDING * layer.bias.abs())
    return Bounds(middle - radius, middle + radius)


def interval(network: Network, box: Bounds) -> list[Bounds]:
    """Bounds on what enters each layer, and last on the logits."""
    bounds = [box]
    for layer in network.layers:
        bounds.append(interval_step(layer, bounds[-1]))
    return bounds
