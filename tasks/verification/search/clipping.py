"""What is asked of many boxes at once, and cutting off parts of boxes where nothing is unsafe."""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property

_ROUNDING = 1e-9  # of a step, and 1e-3 of it of where it begins: far more than float64 is off by


class Asked(NamedTuple):
    """The rows of D disjuncts: one is unsafe where all of its rows are at most `BOUNDARY`."""

    weight: Tensor  # (R, outputs)
    bias: Tensor  # (R,)
    slots: Tensor  # (D, C) int64, each disjunct's rows; shorter ones repeat one

    @classmethod
    def of(cls, unsafe: Property, disjuncts: list[int]) -> "Asked":
        """Those of one sample's disjuncts, in the order given, without what is there twice."""
        rows: list[Tensor] = []
        slots: list[list[int]] = []
        for disjunct in disjuncts:
            both = torch.cat([unsafe.weight[0, disjunct], unsafe.bias[0, disjunct, :, None]], 1)
            real = both[~torch.isneginf(both[:, -1])]  # the others hold everywhere
            distinct = torch.unique(real if len(real) else both[:1], dim=0)
            first = sum(map(len, rows))
            slots.append(list(range(first, first + len(distinct))))
            rows.append(distinct)
        longest = max(map(len, slots))
        padded = [one + one[-1:] * (longest - len(one)) for one in slots]
        all_rows = torch.cat(rows)
        index = torch.tensor(padded, device=all_rows.device)
        return cls(all_rows[:, :-1].contiguous(), all_rows[:, -1], index)

    def best_rows(self, lower: Tensor) -> Tensor:
        """Of each disjunct, the row that is furthest off: (B, R) -> (B, D)."""
        best = lower[:, self.slots].argmax(2, keepdim=True)
        return self.slots.expand(len(lower), -1, -1).gather(2, best)[:, :, 0]


def clipped(box: Bounds, lower: Tensor, rows: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Bounds]:
    """The bounds (B, D) of disjuncts, and the part of each box where one may be reached.

    Args:
        lower: (B, D), what is known of them already.
        rows: Of each disjunct some rows' bounds (B, D), and slopes (B, D, inputs) as in `Forms`.

    Returns:
        A disjunct that is not reached anywhere has its bound above `BOUNDARY`, by how much means
        nothing; a box in which none is stays as it is.
    """
    low0, high0 = (end[:, None] for end in box)
    low, high = (end.expand(*lower.shape, -1) for end in (low0, high0))
    for least, slope in rows:
        size = slope.abs()
        moved = (size * torch.where(slope > 0, low - low0, high0 - high)).sum(2)
        at_least = least + moved * (1 - _ROUNDING)
        lower = torch.maximum(lower, at_least.nan_to_num(-torch.inf))
        room = (BOUNDARY - at_least).clamp(min=0)[:, :, None] / size.clamp(min=1e-300)
        step = room * (1 + _ROUNDING) + 1e-3 * _ROUNDING * (low0.abs() + high0.abs())
        step = step.nan_to_num(torch.inf, torch.inf)
        up, down = torch.minimum(high, low + step), torch.maximum(low, high - step)
        low, high = torch.where(slope < 0, down, low), torch.where(slope > 0, up, high)
    open_ones = (lower <= BOUNDARY)[:, :, None]
    first = torch.where(open_ones, low, torch.inf).amin(1)
    last = torch.where(open_ones, high, -torch.inf).amax(1)
    some = open_ones.any(1)
    return lower, Bounds(torch.where(some, first, box.lower), torch.where(some, last, box.upper))
