"""CROWN on many boxes of one small network at once, and which input each bound suffers from.

Only units that intervals leave undecided in a box are carried back, all boxes' in one matrix.
A box's bounds begin with those of the box that it is a part of, so most units stay decided.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.alpha import adam
from robsweep.tasks.verification.bounds.chains import Chain, piece_slack
from robsweep.tasks.verification.bounds.intervals import Bounds

_CHUNK = {"cpu": 2**17, "cuda": 2**25}  # numbers in one tensor of forms
_BELOW = 0.3  # how much the gap above a line below counts, as its slope could be another
_RATE = 0.25  # of the ascent; falls to a fifth
_DIRECT = 0.2  # and how much what an input adds by itself


class Forms(NamedTuple):
    """What is known of P linear forms on the outputs, each over one of B boxes."""

    lower: Tensor  # (P,), as the network runs if its steps are known
    # (P, inputs): a form is at least `lower`, plus this times the way from where it is lowest
    slopes: Tensor
    gains: Tensor  # (P, free inputs): of its looseness, what each input is to blame for


class _Lines(NamedTuple):
    """Of one ReLU layer, (B, units) each."""

    above: Tensor  # the slope of the line from (l, 0) to (u, u)
    start: Tensor  # its height at 0
    below: Tensor  # the slope of a line through 0
    slack: Tensor  # what rounding may add to what enters


class Boxes:
    """B boxes of one network, and bounds (B, units) on what enters each ReLU."""

    def __init__(
        self, chain: Chain, box: Bounds, free: Tensor, within: list[Bounds] | None = None
    ) -> None:
        """Bounds all that enters ReLUs.

        Source: Zhang et al. 2018 (CROWN), section 3.3, with the adaptive lower slope.

        Args:
            box: (B, inputs).
            free: int64, the inputs that are judged.
            within: Bounds that hold already.
        """
        self.chain, self.box, self.free = chain, box, free
        self.middle, self.radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
        self.lines: list[_Lines] = []
        self.bounds: list[Bounds] = []
        # by ReLU layer: which part of a unit's width each free input makes, (B, units, free)
        self.shares: list[Tensor] = []
        self.read = box  # by the next piece
        for k in range(len(chain.pieces) - 1):
            self._enter(None if within is None else within[k])
        self.slack = piece_slack(chain, chain.pieces[-1], self.read)

    def _enter(self, within: Bounds | None) -> None:
        """Bounds what enters the next ReLU layer."""
        k = len(self.bounds)
        weight, bias, _ = self.chain.pieces[k]
        slack = piece_slack(self.chain, self.chain.pieces[k], self.read)
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
        for own, one in zip(torch.split(owner, size), torch.split(unit, size), strict=True):
            both = torch.cat([weight[one], -weight[one]])
            constant = torch.cat([bias[one], -bias[one]]) - slack[own, one].repeat(2)
            carried = self._back(both, constant, own.repeat(2), k)
            low, minus_high = carried.lower.nan_to_num(-torch.inf, torch.inf, -torch.inf).chunk(2)
            lower[own, one] = torch.maximum(lower[own, one], low)
            upper[own, one] = torch.minimum(upper[own, one], -minus_high)
            reach = torch.stack(carried.slopes[:, self.free].abs().chunk(2)).mean(0)
            shares[own, one] = reach * self.radius[own][:, self.free]
        return shares

    def forms(self, rows: Tensor, owner: Tensor, steps: int = 0) -> Forms:
        """Lower bounds on forms on the outputs.

        Args:
            rows: (P, outputs).
            owner: (P,) int64, the box of each.
            steps: Of an ascent on the slopes below, Xu et al. 2021 (alpha-CROWN), section 3. Each
                step ends in bounds that hold, of which the best are returned.
        """
        weight, bias, _ = self.chain.pieces[-1]
        constant = rows @ bias - (rows.abs() * self.slack[owner]).sum(1)
        rows = rows @ weight
        if not steps:
            return self._forms(self._back(rows, constant, owner, len(self.lines)), owner)
        below = [line.below[owner] for line in self.lines]
        moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in below]
        best, chosen = torch.full_like(constant, -torch.inf), [one.clone() for one in below]
        for step in range(steps + 1):
            carried = self._back(rows, constant, owner, len(self.lines), below)
            better = (carried.lower > best)[:, None]
            best = torch.maximum(best, carried.lower.nan_to_num(-torch.inf, torch.inf, -torch.inf))
            chosen = [torch.where(better, *both) for both in zip(below, chosen, strict=True)]
            if step == steps:
                break
            rate = _RATE * 0.2 ** (step / steps)
            rises = self._rises(carried, owner, below)
            for one, rise, both in zip(below, rises, moments, strict=True):
                adam(one, rise.nan_to_num(0.0, 0.0, 0.0), both, rate, step + 1)
                one.clamp_(0, 1)
        carried = self._back(rows, constant, owner, len(self.lines), chosen)
        return self._forms(carried, owner)

    def _forms(self, carried: "_Carried", owner: Tensor) -> Forms:
        """Ends a backward pass, and asks where its gaps come from."""
        lower = carried.lower.nan_to_num(-torch.inf, torch.inf, -torch.inf)
        reach = carried.slopes[:, self.free].abs() * self.radius[owner][:, self.free]
        gains = 2 * _DIRECT * reach
        layers = zip(self.lines, self.bounds, self.shares, carried.forms, strict=True)
        for line, bounds, shares, form in layers:
            width = (bounds.upper - bounds.lower).clamp(min=1e-300)
            gap = torch.where(form > 0, _BELOW * form, -form) * (line.start / width)[owner]
            gains = gains + 2 * (gap[:, None] @ shares[owner])[:, 0]
        return Forms(lower, carried.slopes, gains.nan_to_num(0.0, 0.0, 0.0))

    def _rises(self, carried: "_Carried", owner: Tensor, below: list[Tensor]) -> list[Tensor]:
        """Of the bounds, with the slopes below: from the relaxed values where they are lowest."""
        corner = Bounds(self.box.lower[owner], self.box.upper[owner])
        value = torch.where(carried.slopes > 0, *corner)
        rises = []
        for k, (line, form) in enumerate(zip(self.lines, carried.forms, strict=True)):
            weight, bias, _ = self.chain.pieces[k]
            entering = value @ weight.T + bias
            positive = form > 0
            rises.append(torch.where(positive, form * entering, 0))
            above = entering * line.above[owner] + line.start[owner]
            value = torch.where(positive, entering * below[k], above)
        return rises

    def _back(
        self,
        form: Tensor,
        lower: Tensor,
        owner: Tensor,
        k: int,
        below: list[Tensor] | None = None,
    ) -> "_Carried":
        """Carries forms on what piece k reads back to the inputs.

        Args:
            form: (P, units).
            lower: (P,), their constants.
            owner: (P,), the box of each.
            below: Slopes in [0, 1] that only undecided units use, (P, units) by layer.
        """
        forms: list[Tensor] = []
        for j in range(k - 1, -1, -1):
            above, start, least, slack = self.lines[j]
            weight, bias, _ = self.chain.pieces[j]
            forms.insert(0, form)
            negative = form.clamp(max=0)
            lower = lower + (negative * start[owner]).sum(1)
            slope = least[owner]
            if below is not None:
                slope = torch.where(start[owner] > 0, below[j], slope)
            form = (negative * above[owner]).addcmul_(form - negative, slope)
            lower = lower + form @ bias - (form.abs() * slack[owner]).sum(1)
            form = form @ weight
        lower = lower + (form * self.middle[owner]).sum(1)
        return _Carried(lower - (form.abs() * self.radius[owner]).sum(1), form, forms)


class _Carried(NamedTuple):
    lower: Tensor  # (P,)
    slopes: Tensor  # (P, inputs)
    forms: list[Tensor]  # (P, units), on what each ReLU layer returns
