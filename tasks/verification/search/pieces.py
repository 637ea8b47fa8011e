"""Branch and bound over curves: what enters one is split, until the lines beside it are near.

A ReLU is split at 0, a smooth curve in the middle, a jump on both of its sides. Each part is
bounded anew with its pieces cut, and with multipliers for the ends of the cuts. So it proves, but
it never ends in an exact answer: a curve does not become its lines.

Source: Wang et al. 2021 (beta-CROWN), section 3; Shi et al. 2025 (GenBaB), section 3, for curves.
"""

import heapq
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.alpha import Relaxed
from robsweep.tasks.verification.bounds.backward import (
    Carried,
    Choice,
    Lower,
    chosen_bounds,
    slacks,
)
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.bounds.smooth import lines
from robsweep.tasks.verification.bounds.support import lowest
from robsweep.tasks.verification.reading.curves import JUMPS, Curve
from robsweep.tasks.verification.reading.layers import Relu, Smooth, evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED, Property, margin
from robsweep.tasks.verification.search.branching import Limit

_STEPS, _RATE = 6, 0.2  # of the ascent on multipliers
_AT_ONCE = 16  # subproblems in one batch
_LEAST = 1e-3  # the width of a smooth piece that is not split any more
_BESIDE = 1e-9  # how far beside a jump it is split
_MOST = 100_000  # subproblems in the heap


# By layer and unit: what enters it lies in between.
_Cuts = dict[tuple[int, int], tuple[float, float]]


class _Part(NamedTuple):
    """A subproblem, with the bound of what it is a part of."""

    disjunct: int
    lower: float
    cuts: _Cuts


class _Place(NamedTuple):
    """One open subproblem, in the order of the heap."""

    lower: float
    order: int
    part: _Part
    split: tuple[int, int, float]  # the layer, the unit, and where


class Pieces:
    """One sample's search, which can be interrupted and gone on with."""

    def __init__(self, relaxed: Relaxed, unsafe: Property, known: Mapping[int, float]) -> None:
        """Nothing is bounded yet.

        Args:
            relaxed: Of one sample.
            known: The disjuncts to prove, with lower bounds on their margins.
        """
        self.relaxed, self.unsafe, self.known = relaxed, unsafe, dict(known)
        layers = relaxed.exact.layers
        self.bent = [k for k, layer in enumerate(layers) if isinstance(layer, Relu | Smooth)]
        self.fresh = [_Part(d, low, {}) for d, low in known.items()]
        self.pool: list[_Place] = []
        self.stuck: list[tuple[int, float]] = []
        self.branches = 0

    def run(self, limit: Limit, is_counterexample: Callable[[Tensor], bool]) -> None:
        """As `branching.Search.run`."""
        while self.fresh or self.pool:
            late = time.monotonic() >= limit.until
            if late or self.branches >= limit.branches or len(self.stuck) >= limit.stuck:
                break
            if not self.fresh:
                take: Callable[[list[_Place]], _Place] = (
                    heapq.heappop if len(self.pool) < _MOST else list.pop
                )
                places = [take(self.pool) for _ in range(min(len(self.pool), _AT_ONCE // 2))]
                self.fresh = [half for place in places for half in self._halves(place)]
            some, self.fresh = self.fresh[:_AT_ONCE], self.fresh[_AT_ONCE:]
            if self._bounded(some, is_counterexample):
                break

    def forget(self, proved: Collection[int]) -> None:
        self.pool = [place for place in self.pool if place.part.disjunct not in proved]
        heapq.heapify(self.pool)
        self.fresh = [one for one in self.fresh if one.disjunct not in proved]
        self.stuck = [one for one in self.stuck if one[0] not in proved]

    def lower(self) -> dict[int, float]:
        """Disjunct -> lower bound on its margin."""
        best = dict.fromkeys(self.known, PROVED)
        open_ones = [(place.part.disjunct, place.lower) for place in self.pool]
        for disjunct, lower in (*open_ones, *self.stuck, *((d, low) for d, low, _ in self.fresh)):
            best[disjunct] = min(best[disjunct], lower)
        return {d: max(lower, self.known[d]) for d, lower in best.items()}

    def _halves(self, place: _Place) -> list[_Part]:
        k, unit, at = place.split
        value, part = self.relaxed.exact.inputs[k][0], place.part
        whole = [float(end.flatten(1)[0, unit]) for end in self.relaxed.bounds[value]]
        low, high = part.cuts.get((k, unit), whole)
        return [
            part._replace(lower=place.lower, cuts={**part.cuts, (k, unit): ends})
            for ends in ((low, at), (at, high))
        ]

    def _bounded(self, some: list[_Part], is_counterexample: Callable[[Tensor], bool]) -> bool:
        """Bounds subproblems and keeps what is open; whether a counterexample was found."""
        network, count = self.relaxed.exact, len(some)
        within = self._cut(some)
        box = within[0]
        device = box.lower.device
        bounds = crown(network, box, within=within)
        empty = torch.zeros(count, dtype=torch.bool, device=device)
        for low, high in bounds:
            empty |= (low > high).flatten(1).any(1)
        bounds = [Bounds(low, torch.maximum(low, high)) for low, high in bounds]
        disjuncts = torch.tensor([one.disjunct for one in some], device=device)
        rows, bias = self.unsafe.weight[0][disjuncts], self.unsafe.bias[0][disjuncts]
        owner = torch.arange(count, device=device)
        best = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
        forms: dict[int, Tensor] = {}
        for c in range(rows.shape[1]):
            found = self._ascended(some, bounds, rows[:, c], owner)
            lower = (found.lower.deployed + bias[:, c]).nan_to_num(-torch.inf, PROVED, -torch.inf)
            better = lower > best
            best = torch.where(better, lower, best)
            for k, form in found.forms.items():
                shape = (-1, *[1] * (form.dim() - 1))
                old = forms.get(k, torch.zeros_like(form))
                forms[k] = torch.where(better.reshape(shape), form, old)
        best = torch.where(empty, torch.full_like(best, PROVED), best)
        splits = self._splits(bounds, forms)
        for i, (disjunct, before, cuts) in enumerate(some):
            self.branches += 1
            lower_here = max(before, float(best[i]))
            if lower_here > BOUNDARY:
                continue
            split = splits[i]
            if split is None:
                self.stuck.append((disjunct, lower_here))
            else:
                part = _Part(disjunct, lower_here, cuts)
                place = _Place(lower_here, self.branches, part, split)
                heapq.heappush(self.pool, place)
        corners = lowest(network.within, forms[0], box)
        one = Property(*(p.expand(count, *p.shape[1:]) for p in self.unsafe))
        margins = margin(one, evaluate(network, corners)[-1]).nan_to_num(torch.inf)
        least = int(margins.argmin())
        return bool(margins[least] <= 0) and is_counterexample(corners[least : least + 1])

    def _cut(self, some: list[_Part]) -> list[Bounds]:
        """The sample's bounds, for each subproblem, with what enters its pieces cut."""
        count = len(some)
        cut = [
            Bounds(*(part.expand(count, *part.shape[1:]).clone() for part in b))
            for b in self.relaxed.bounds
        ]
        for i, (_, _, cuts) in enumerate(some):
            for (k, unit), (low, high) in cuts.items():
                lower, upper = cut[self.relaxed.exact.inputs[k][0]]
                lower[i].view(-1)[unit] = max(low, float(lower[i].view(-1)[unit]))
                upper[i].view(-1)[unit] = min(high, float(upper[i].view(-1)[unit]))
        return cut

    def _ascended(
        self, some: list[_Part], bounds: list[Bounds], rows: Tensor, owner: Tensor
    ) -> Carried:
        """Lower bounds by ascent on the multipliers of the cuts, evaluated in float64."""
        network = self.relaxed.exact
        ends, given = self._ends(some)
        sizes = {k: [torch.zeros_like(e).requires_grad_() for e in two] for k, two in ends.items()}
        slack = slacks(network, bounds)
        beside = {
            k: lines(layer.curve, *bounds[network.inputs[k][0]])
            for k, layer in enumerate(network.layers)
            if isinstance(layer, Smooth)
        }
        if sizes:
            variables = [one for two in sizes.values() for one in two]
            optimiser = torch.optim.Adam(variables, lr=_RATE, maximize=True)
            for _ in range(_STEPS):
                choice = _choice(ends, given, sizes)._replace(lines=beside)
                found = chosen_bounds(network, bounds, rows, owner, choice, None)
                gradients = torch.autograd.grad(found.lower.reals.sum(), variables)
                for one, gradient in zip(variables, gradients, strict=True):
                    one.grad = gradient.nan_to_num(0.0, 0.0, 0.0)
                optimiser.step()
                with torch.no_grad():
                    for one in variables:
                        one.clamp_(min=0)
        with torch.no_grad():
            choice = _choice(ends, given, sizes)._replace(lines=beside)
            cut = chosen_bounds(network, bounds, rows, owner, choice, slack)
            if not sizes:
                return cut
            plain = chosen_bounds(network, bounds, rows, owner, Choice({}, {}, {}, beside), slack)
            worse = cut.lower.deployed < plain.lower.deployed
            lower = Lower(*map(torch.maximum, cut.lower, plain.lower))
            mixed = {
                k: torch.where(worse.reshape(-1, *[1] * (form.dim() - 1)), plain.forms[k], form)
                for k, form in cut.forms.items()
            }
            return cut._replace(lower=lower, forms=mixed)

    def _ends(self, some: list[_Part]) -> tuple[dict[int, list[Tensor]], dict[int, list[Tensor]]]:
        """By layer: the lower and upper ends of its cuts, (P, *shape), and where there are any."""
        network = self.relaxed.exact
        ends: dict[int, list[Tensor]] = {}
        given: dict[int, list[Tensor]] = {}
        zeros = self.relaxed.bounds[0].lower
        for i, (_, _, cuts) in enumerate(some):
            for (k, unit), both in cuts.items():
                shape = (len(some), *network.shapes[k + 1])
                for parts in (ends, given):
                    parts.setdefault(k, [zeros.new_zeros(shape) for _ in both])
                whole = self.relaxed.bounds[network.inputs[k][0]]
                for side, end in enumerate(both):
                    if end != float(whole[side].flatten(1)[0, unit]):
                        ends[k][side][i].view(-1)[unit] = end
                        given[k][side][i].view(-1)[unit] = 1.0
        return ends, given

    def _splits(
        self, bounds: list[Bounds], forms: Mapping[int, Tensor]
    ) -> list[tuple[int, int, float] | None]:
        """What costs each bound most, and where to split it; None if nothing is left."""
        count = len(bounds[0].lower)
        scores, where = [], []
        for k in self.bent:
            layer = self.relaxed.exact.layers[k]
            low, high = (end.flatten(1) for end in bounds[self.relaxed.exact.inputs[k][0]])
            if isinstance(layer, Smooth):
                _, below, above = lines(layer.curve, low, high)
                gap, at = above - below, _middle(layer.curve, low, high)
            else:
                gap = -low * high / (high - low).clamp(min=1e-300)
                at = torch.where((low < 0) & (high > 0), 0.0, torch.nan)
            score = forms[k + 1].flatten(1).abs() * gap + 1e-12 * gap
            scores.append(torch.where(at.isnan(), -1.0, score))
            where.append(at)
        if not scores:
            return [None] * count
        widths = [one.shape[1] for one in scores]
        best, place = torch.cat(scores, 1).nan_to_num(0.0).max(1)
        points = torch.cat(where, 1)
        found: list[tuple[int, int, float] | None] = []
        for i, (score_here, unit) in enumerate(zip(best.tolist(), place.tolist(), strict=True)):
            layer_at, left = 0, unit
            while left >= widths[layer_at]:
                left -= widths[layer_at]
                layer_at += 1
            split = (self.bent[layer_at], left, float(points[i, unit]))
            found.append(split if score_here >= 0 else None)
        return found


def _choice(
    ends: Mapping[int, list[Tensor]],
    given: Mapping[int, list[Tensor]],
    sizes: Mapping[int, list[Tensor]],
) -> Choice:
    """Multipliers of z >= low and of z <= high."""
    pushes, offsets = {}, {}
    for k, (low, high) in sizes.items():
        below, above = low * given[k][0], high * given[k][1]
        pushes[k] = above - below
        offsets[k] = (below * ends[k][0] - above * ends[k][1]).flatten(1).sum(1)
    return Choice({}, pushes, offsets)


def _middle(curve: Curve, low: Tensor, high: Tensor) -> Tensor:
    """Where to split; not a number where it is not worth it."""
    middle = (low + high) / 2
    if curve not in JUMPS:
        return torch.where(high - low > _LEAST, middle, torch.nan)
    jump = torch.zeros_like(low)
    if curve not in ("sign", "positive", "nonzero"):
        jump = middle.round() + (0.5 if curve == "round" else 0.0)
    found = torch.full_like(low, torch.nan)
    for at in (jump + _BESIDE * (1 + jump.abs()), jump - _BESIDE * (1 + jump.abs())):
        found = torch.where((low < at) & (at < high), at, found)
    return found
