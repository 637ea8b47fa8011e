"""Activations that are bounded only: their ranges, and lines above and below them.

Everything holds in real arithmetic: `_ROUNDING` is far above what a library function is off by.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.reading.curves import CURVES, INTEGERS, JUMPS, Curve

_ROUNDING = 1e-12
_CELLS = 32
_TINY = 2.0**-126  # what is smaller may be taken for 0 where it runs


class Lines(NamedTuple):
    """slope * x + below <= f(x) <= slope * x + above, all of one shape."""

    slope: Tensor
    below: Tensor
    above: Tensor


def ranges(curve: Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """What the values lie between for arguments in [lower, upper]."""
    if curve in JUMPS:
        return _jumping(curve, lower, upper)
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
    curvature, and by at most h / 4 times the spread of its slopes. Where it jumps, lines are level.
    """
    if curve in JUMPS:
        return Lines(torch.zeros_like(lower), *_jumping(curve, lower, upper))
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


def _jumping(curve: Curve, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """What comes of any number in between, or of 0 in the place of one that is hardly any."""
    of = JUMPS[curve]
    if curve == "nonzero":
        sure = (lower >= _TINY) | (upper <= -_TINY)
        never = (lower == 0) & (upper == 0)
        return sure.to(lower), (~never).to(lower)
    low = of(torch.where(lower.abs() < _TINY, lower.clamp(max=0), lower))
    high = of(torch.where(upper.abs() < _TINY, upper.clamp(min=0), upper))
    if curve in INTEGERS:
        wild = (lower < -INTEGERS[curve]) | (upper > INTEGERS[curve])
        return low.masked_fill(wild, -torch.inf), high.masked_fill(wild, torch.inf)
    return low, high
