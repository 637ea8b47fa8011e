"""CROWN on many boxes of one small network at once, and which input each bound suffers from.

Only units that intervals leave undecided in a box are carried back, all boxes' in one matrix.
A box's bounds begin with those of the box that it is a part of, so most units stay decided.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.chains import Chain, piece_slack
from robsweep.tasks.verification.bounds.intervals import Bounds

_CHUNK = {"cpu": 2**17, "cuda": 2**25}  # numbers in one tensor of forms
_BELOW = 0.3  # how much the gap above a line below counts, as its slope could be another
_DIRECT = 0.2  # and how much what an input adds by itself


class Boxed(NamedTuple):
    """What is known of R linear forms on the outputs, in each of B boxes."""

    lower: Tensor  # (B, R), as the network runs if its steps are known
    # (B, R, inputs): a form is at least `lower`, plus this times the way from where it is lowest
    forms: Tensor
    gains: Tensor  # (B, R, free inputs): of its looseness, what each input is to blame for
    bounds: list[Bounds]  # on what enters each ReLU, (B, units) each


class _Lines(NamedTuple):
    """Of one ReLU layer, (B, units) each."""

    above: Tensor  # the slope of the line from (l, 0) to (u, u)
    start: Tensor  # its height at 0
    below: Tensor  # the slope of a line through 0
    slack: Tensor  # (units,), what rounding may add to what enters


def bounded(
    chain: Chain, box: Bounds, rows: Tensor, free: Tensor, within: list[Bounds] | None = None
) -> Boxed:
    """Lower bounds on forms on the outputs.

    Source: Zhang et al. 2018 (CROWN), section 3.3, with the adaptive lower slope.

    Args:
        box: (B, inputs).
        rows: (R, outputs).
        free: int64, the inputs that are judged.
        within: Bounds that hold already, as in `Boxed`.
    """
    boxes = _Boxes(chain, box, free)
    for k in range(len(chain.pieces) - 1):
        boxes.enter(None if within is None else within[k])
    return boxes.forms(rows)


class _Boxes:
    """B boxes, bounded from one ReLU layer to the next."""

    def __init__(self, chain: Chain, box: Bounds, free: Tensor) -> None:
        self.chain, self.free = chain, free
        self.middle, self.radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
        self.read = box  # by the next piece
        self.lines: list[_Lines] = []
        self.bounds: list[Bounds] = []
        # by ReLU layer: which part of a unit's width each free input makes, (B, units, free)
        self.shares: list[Tensor] = []

    def _slack(self, k: int) -> Tensor:
        hull = Bounds(self.read.lower.amin(0, keepdim=True), self.read.upper.amax(0, keepdim=True))
        return piece_slack(self.chain, self.chain.pieces[k], hull)

    def enter(self, within: Bounds | None) -> None:
        """Bounds what enters the next ReLU layer."""
        k = len(self.bounds)
        weight, bias, _ = self.chain.pieces[k]
        slack = self._slack(k)
        middle = (self.read.lower + self.read.upper) / 2
        radius = (self.read.upper - self.read.lower) / 2
        middle = middle @ weight.T + bias
        radius = radius @ weight.abs().T + slack
        lower = (middle - radius).nan_to_num(-torch.inf, torch.inf, -torch.inf)
        upper = (middle + radius).nan_to_num(torch.inf, torch.inf, -torch.inf)
        if within is not None:
            lower = torch.maximum(lower, within.lower)
            upper = torch.minimum(upper, within.upper)
        if k:
            shares = self._tightened(k, slack, lower, upper)
        else:
            reach = weight.abs()[:, self.free]
            shares = reach[None] * self.radius[:, None, self.free]
        self.shares.append(shares)
        self.bounds.append(Bounds(lower, upper))
        self.read = Bounds(lower.clamp(min=0), upper.clamp(min=0))
        low, high = lower.clamp(max=0), upper.clamp(min=0)
        width = high - low
        above = torch.where(width > 0, high / width.clamp(min=1e-300), 0)
        self.lines.append(_Lines(above, -above * low, (high > -low).double(), slack))

    def _tightened(self, k: int, slack: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Puts what CROWN knows better into the bounds; the shares of the undecided units."""
        weight, bias, _ = self.chain.pieces[k]
        shares = lower.new_zeros(*lower.shape, len(self.free))
        owner, unit = ((lower < 0) & (upper > 0)).nonzero().unbind(1)
        size = max(
            1, _CHUNK[lower.device.type] // (2 * max(len(p.bias) for p in self.chain.pieces))
        )
        for own, one in zip(owner.split(size), unit.split(size), strict=True):
            both = torch.cat([weight[one], -weight[one]])
            constant = torch.cat([bias[one], -bias[one]]) - slack[one].repeat(2)
            least, form, _ = self._back(both, constant, own.repeat(2), k)
            low, minus_high = least.nan_to_num(-torch.inf, torch.inf, -torch.inf).chunk(2)
            lower[own, one] = torch.maximum(lower[own, one], low)
            upper[own, one] = torch.minimum(upper[own, one], -minus_high)
            reach = sum(form[:, self.free].abs().chunk(2))
            shares[own, one] = reach * self.radius[own][:, self.free] / 2
        return shares

    def forms(self, rows: Tensor) -> Boxed:
        last = len(self.chain.pieces) - 1
        weight, bias, _ = self.chain.pieces[last]
        count, forms = len(self.middle), len(rows)
        constant = rows @ bias - rows.abs() @ self._slack(last)
        owner = torch.arange(count, device=rows.device).repeat_interleave(forms)
        whole = (rows @ weight).repeat(count, 1)
        lower, form, gains = self._back(whole, constant.repeat(count), owner, last, judged=forms)
        lower = lower.nan_to_num(-torch.inf, torch.inf, -torch.inf)
        gains = gains + _DIRECT * 2 * form[:, self.free].abs() * self.radius[owner][:, self.free]
        shape = (count, forms, -1)
        return Boxed(
            lower.reshape(count, forms),
            form.reshape(shape),
            gains.nan_to_num(0.0).reshape(shape),
            self.bounds,
        )

    def _back(
        self, form: Tensor, lower: Tensor, owner: Tensor, k: int, *, judged: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Carries forms on what piece k reads back to the inputs.

        Args:
            form: (P, units).
            lower: (P,), their constants.
            owner: (P,), the box of each.
            judged: If not 0, as many forms of each box are there, in order, whose gaps are told.

        Returns:
            Their lower bounds (P,), forms on the inputs (P, inputs), and gaps (P, free inputs).
        """
        gains = lower.new_zeros(len(lower), len(self.free))
        for j in range(k - 1, -1, -1):
            above, start, below, slack = self.lines[j]
            weight, bias, _ = self.chain.pieces[j]
            negative = form.clamp(max=0)
            positive = form - negative
            start = start[owner]
            lower = lower + (negative * start).sum(1)
            if judged:
                width = (self.bounds[j].upper - self.bounds[j].lower).clamp(min=1e-300)
                gap = (_BELOW * positive - negative) * start / width[owner]
                shape = (-1, judged, gap.shape[1])
                gains = gains + 2 * (gap.reshape(shape) @ self.shares[j]).reshape(gains.shape)
            form = (negative * above[owner]).addcmul_(positive, below[owner])
            lower = lower + form @ bias - form.abs() @ slack
            form = form @ weight
        lower = lower + (form * self.middle[owner]).sum(1)
        return lower - (form.abs() * self.radius[owner]).sum(1), form, gains
