"""Smooth activations: their ranges, and lines above and below them.

Everything holds in real arithmetic: `_ROUNDING` is far above what a library function is off by.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.reading.curves import CURVES, Curve

_ROUNDING = 1e-12
_CELLS = 32


class Lines(NamedTuple):
    """slope * x + below <= f(x) <= slope * x + above, all of one shape."""

    slope: Tensor
    below: Tensor
    above: Tensor


def ranges(curve: Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """What the values lie between for arguments in [lower, upper]."""
    shape = CURVES[curve]
    ends = shape.of(lower), shape.of(upper)
    low, high = torch.minimum(*ends), torch.maximum(*ends)
    # a little wider than the point itself, which is not a float64 number
    dips = (lower < shape.lowest + 1e-6) & (upper > shape.lowest - 1e-6)
    low = torch.where(dips, low.new_tensor(shape.least), low)
    return low - _ROUNDING * (1 + low.abs()), high + _ROUNDING * (1 + high.abs())


def lines(curve: Curve, lower: Tensor, upper: Tensor) -> Lines:
    """Parallel lines with the slope of the chord, pushed out until they hold.

    Between two grid points at distance h, a function is off its chord by at most h^2 / 8 times its
    curvature, and by at most h / 4 times the spread of its slopes.
    """
    shape = CURVES[curve]
    width = (upper - lower).clamp(min=1e-9)
    slope = ((shape.of(upper) - shape.of(lower)) / width).clamp(*shape.slopes)
    below, above = torch.full_like(slope, torch.inf), torch.full_like(slope, -torch.inf)
    for i in range(_CELLS + 1):
        x = lower + (upper - lower) * (i / _CELLS)
        off = shape.of(x) - slope * x
        below, above = torch.minimum(below, off), torch.maximum(above, off)
    cell = width / _CELLS * 1.001
    bow = torch.minimum(
        cell.square() * (shape.curvature / 8), cell * ((shape.slopes[1] - shape.slopes[0]) / 4)
    )
    size = torch.maximum(lower.abs(), upper.abs())
    slack = bow + _ROUNDING * (1 + size)
    return Lines(slope, below - slack, above + slack)
