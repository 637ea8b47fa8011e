"""Branch and bound: an undecided ReLU is split into its halves, until bounds decide each part.

Source: Wang et al. 2021 (beta-CROWN), section 3; the choice of the ReLU after Bunel et al. 2020
(BaBSR), section 4.
"""

import heapq
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.alpha import (
    Ascent,
    Relaxed,
    Settings,
    ascended,
    first_settings,
    undecided_units,
)
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.support import lowest
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED, Property, margin
from robsweep.tasks.verification.search.cutting import First, by_margin, by_sign, first_of
from robsweep.tasks.verification.search.reduced import without_dead_units

_ASCENT = Ascent(4, 0.15, 0.3)
_AT_ONCE = {"cpu": 128, "cuda": 4096}  # subproblems in one batch
_WIDTH = {"cpu": 2**21, "cuda": 2**28}  # numbers in one value of all of them
_ROOM = 2**26  # numbers in the open subproblems, before the search goes deeper first


class Limit(NamedTuple):
    until: float  # on the monotonic clock
    branches: float
    stuck: float  # subproblems without any undecided ReLU that their bounds leave open


class _Batch(NamedTuple):
    """P subproblems: a disjunct, and signs of some ReLUs, the units of all layers in one row."""

    disjunct: Tensor  # (P,) int64
    lower: Tensor  # (P,) float64
    signs: Tensor  # (P, U) int8: 1 for on, -1 for off, 0 for either
    slopes: Tensor  # (P, U) float32, where the parent's ascent ended
    sizes: Tensor  # (P, U) float32, likewise
    split: Tensor  # (P,) int64: the unit to split next; -1 if all are decided
    # (P, 2, inputs) and (P, 2, units) float64: what is left of the box, and of what enters the
    # first ReLUs; of nothing where these are not cut
    box: Tensor
    first: Tensor


class _Place(NamedTuple):
    """One open subproblem, in the order of the heap."""

    lower: float
    order: int
    alone: _Batch  # without the first dimension

    def disjunct(self) -> int:
        return int(self.alone.disjunct)


class Search:
    """One sample's search, which can be interrupted and gone on with."""

    def __init__(self, relaxed: Relaxed, unsafe: Property, known: Mapping[int, float]) -> None:
        """Nothing is bounded yet.

        Args:
            relaxed: Of one sample.
            known: The disjuncts to prove, with lower bounds on their margins.
        """
        self.relaxed, self.known = without_dead_units(relaxed), dict(known)
        network, bounds = self.relaxed.exact, self.relaxed.bounds
        self.units = undecided_units(network, bounds)
        self.unsafe = unsafe
        self.weight, self.bias, self.scale = self._rows()
        self.first = first_of(self.relaxed) if self.units else None
        self.fresh: _Batch | None = self._roots() if known else None
        self.pool: list[_Place] = []  # a heap, the lowest bound first
        self.stuck: list[tuple[int, float]] = []  # disjunct and bound, with no ReLU left to split
        self.branches = 0

    def run(self, limit: Limit, is_counterexample: Callable[[Tensor], bool]) -> None:
        """Splits until all is proved, a counterexample is found or the limit is reached.

        Args:
            is_counterexample: Judges points (1, *shape) whose margin is <= 0 here.
        """
        room, most = self._room(), self._at_once()
        while self.fresh is not None or self.pool:
            # the end of a heap holds high bounds: taking those closes subproblems, and saves room
            take: Callable[[list[_Place]], _Place] = (
                heapq.heappop if len(self.pool) < room else list.pop
            )
            fresh = self.fresh or _halves(
                [take(self.pool) for _ in range(min(len(self.pool), most // 2))]
            )
            self.fresh = None
            fresh, corners = _bounded(self, fresh)
            self._sorted(fresh)
            point, least = self._best_of(corners)
            late = time.monotonic() >= limit.until
            found = least <= 0 and is_counterexample(point)
            if found or late or self.branches >= limit.branches or len(self.stuck) >= limit.stuck:
                break

    def deepen(self, rounds: int, until: float) -> None:
        """Splits the lowest subproblem of each disjunct, `rounds` times over.

        Args:
            until: On the monotonic clock.
        """
        at_once = self._at_once()
        while self.fresh is not None and time.monotonic() < until:
            some = _Batch(*(part[:at_once] for part in self.fresh))
            rest = _Batch(*(part[at_once:] for part in self.fresh))
            self.fresh = rest if len(rest.lower) else None
            self._sorted(_bounded(self, some)[0])
        if self.fresh is not None:
            return
        trees: dict[int, list[_Place]] = {}
        for place in sorted(self.pool):
            trees.setdefault(place.disjunct(), []).append(place)
        for _ in range(rounds):
            lowest = [heapq.heappop(tree) for tree in trees.values() if tree]
            self.pool = []
            while lowest and time.monotonic() < until:
                halved, lowest = lowest[: at_once // 2], lowest[at_once // 2 :]
                self._sorted(_bounded(self, _halves(halved))[0])
            for place in (*self.pool, *lowest):
                heapq.heappush(trees[place.disjunct()], place)
            if time.monotonic() >= until or sum(map(len, trees.values())) > self._room():
                break
        self.pool = [place for tree in trees.values() for place in tree]
        heapq.heapify(self.pool)

    def forget(self, proved: Collection[int]) -> None:
        """Gives up subproblems of disjuncts that have been proved otherwise."""
        self.pool = [place for place in self.pool if place.disjunct() not in proved]
        heapq.heapify(self.pool)
        self.stuck = [one for one in self.stuck if one[0] not in proved]

    def lower(self) -> dict[int, float]:
        """Disjunct -> lower bound on its margin."""
        best = dict.fromkeys(self.known, PROVED)
        if self.fresh is not None:
            return dict(self.known)
        open_ones = [(place.disjunct(), place.lower) for place in self.pool]
        for disjunct, lower in (*open_ones, *self.stuck):
            best[disjunct] = min(best[disjunct], lower)
        return {d: max(lower, self.known[d]) for d, lower in best.items()}

    def by_layer(self, part: Tensor) -> dict[int, Tensor]:
        widths = [len(units) for units in self.units.values()]
        return dict(zip(self.units, torch.split(part, widths, 1), strict=True))

    def _room(self) -> int:
        """How many open subproblems may wait."""
        cut = sum(self._ends(value, 1).numel() for value in self.cut_values())
        return _ROOM // max(1, len(self.scale) + cut)

    def _at_once(self) -> int:
        """How many subproblems are bounded in one batch."""
        device = self.scale.device.type
        widest = max(torch.Size(shape).numel() for shape in self.relaxed.exact.shapes)
        return min(max(2, _WIDTH[device] // widest), _AT_ONCE[device])

    def _best_of(self, points: Tensor) -> tuple[Tensor, float]:
        """The one (1, *shape) with the smallest margin."""
        unsafe = Property(*(part.expand(len(points), *part.shape[1:]) for part in self.unsafe))
        outputs = evaluate(self.relaxed.exact, points)[-1]
        margins = margin(unsafe, outputs).nan_to_num(torch.inf)
        best = margins.argmin()
        return points[best : best + 1], margins[best].item()

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """One row of each disjunct, weight (D, K) and bias (D,): the one that is furthest off.

        Also the scale of each unit's multiplier, (U,), so that they are of the order of 1.
        """
        weight, bias = self.unsafe.weight[0], self.unsafe.bias[0]
        disjuncts, per, classes = weight.shape
        owner = torch.zeros(disjuncts * per, dtype=torch.int64, device=weight.device)
        none, rows = Settings({}, {}), weight.reshape(-1, classes)
        found = ascended(self.relaxed, rows, owner, {}, none, {}, Ascent(0, 0.0))
        bounds = (found.lower.deployed.reshape(bias.shape) + bias).masked_fill(
            bias.isinf(), -torch.inf
        )
        index = bounds.argmax(1)
        each = torch.arange(disjuncts, device=weight.device)
        asked = (each * per + index)[list(self.known)]
        # those that the rows depend on at all
        self.units = {k: some for k, some in self.units.items() if k + 1 in found.forms}
        parts = [
            found.forms[k + 1].flatten(1)[asked][:, some].abs().mean(0)
            for k, some in self.units.items()
        ]
        scale = torch.cat([*parts, bias.new_zeros(0)]).clamp(1e-12, 1e12)
        return weight[each, index], bias[each, index], scale

    def _roots(self) -> _Batch:
        disjunct = torch.tensor(list(self.known), device=self.bias.device)
        start = first_settings(self.relaxed, torch.zeros_like(disjunct), self.units).slopes
        slopes = torch.cat([*start.values(), self.bias.new_zeros(len(disjunct), 0).float()], 1)
        return _Batch(
            disjunct,
            torch.tensor([*self.known.values()], dtype=torch.float64, device=disjunct.device),
            torch.zeros_like(slopes, dtype=torch.int8),
            slopes,
            torch.zeros_like(slopes),
            torch.full_like(disjunct, -1),
            *(self._ends(value, len(disjunct)) for value in self.cut_values()),
        )

    def cut_values(self) -> tuple[int | None, int | None]:
        """Those whose bounds differ between subproblems, beside signs."""
        return (
            (None, None)
            if self.first is None
            else (0, self.relaxed.exact.inputs[self.first.layer][0])
        )

    def _ends(self, value: int | None, count: int) -> Tensor:
        if value is None:
            return self.bias.new_zeros(count, 2, 0)
        ends = [end.flatten(1) for end in self.relaxed.bounds[value]]
        return torch.stack(ends, 1).expand(count, -1, -1)

    def _sorted(self, fresh: _Batch) -> None:
        """Keeps the subproblems that are still open."""
        numbers = zip(fresh.lower.tolist(), fresh.split.tolist(), strict=True)
        for i, (lower, split) in enumerate(numbers):
            self.branches += 1
            if lower > BOUNDARY:  # closed: nothing unsafe is left in it
                continue
            if split < 0:
                self.stuck.append((int(fresh.disjunct[i]), lower))
            else:
                # a copy, so that the others can go
                alone = _Batch(*(part[i].clone() for part in fresh))
                heapq.heappush(self.pool, _Place(lower, self.branches, alone))


def _halves(places: Sequence[_Place]) -> _Batch:
    """Both children of each subproblem: its ReLU on, then off."""
    columns = zip(*(place.alone for place in places), strict=True)
    both = _Batch(*(torch.stack(column).repeat_interleave(2, 0) for column in columns))
    sign = torch.tensor([[1], [-1]], dtype=torch.int8, device=both.signs.device)
    signs = both.signs.scatter(1, both.split[:, None], sign.repeat(len(places), 1))
    return both._replace(signs=signs)


def _bounded(search: Search, some: _Batch) -> tuple[_Batch, Tensor]:
    """Bounds subproblems, picks what to split next; also where bounds are reached, (P, *shape)."""
    if search.first is not None:
        some = _cut_by_sign(search, search.first, some)
    signs = search.by_layer(some.signs)
    bounds = _within(search, some, signs)
    settings = Settings(search.by_layer(some.slopes), search.by_layer(some.sizes))
    owner = torch.arange(len(some.lower), device=some.lower.device)
    relaxed = search.relaxed._replace(bounds=bounds)
    weight, bias = search.weight[some.disjunct], search.bias[some.disjunct]
    scaled = search.by_layer(some.signs * search.scale.float())
    found = ascended(relaxed, weight, owner, search.units, settings, scaled, _ASCENT)
    after = some._replace(
        lower=found.lower.deployed + bias,
        slopes=torch.cat([some.slopes[:, :0], *found.settings.slopes.values()], 1),
        sizes=torch.cat([some.sizes[:, :0], *found.settings.sizes.values()], 1),
        split=_next_split(search, bounds, found.forms),
    )
    if search.first is not None:
        after = _cut_by_margin(search, search.first, after, found.forms, bounds)
    after = after._replace(lower=torch.maximum(some.lower, after.lower))
    return after, lowest(relaxed.exact.within, found.forms[0], bounds[0])


def _cut_by_sign(search: Search, first: First, some: _Batch) -> _Batch:
    """Takes away where the last of the ReLUs that were split has not the sign that is given."""
    units = search.units[first.layer]
    own = ((some.split >= 0) & (some.split < len(units))).nonzero()[:, 0]
    if not len(own):
        return some
    split = some.split[own]
    sign = some.signs[own].gather(1, split[:, None])[:, 0].double()
    box, ends = (Bounds(*part[own].unbind(1)) for part in (some.box, some.first))
    found = by_sign(first, units[split], sign, box, ends)
    return some._replace(
        lower=some.lower.index_put(
            (own,), torch.where(found.lower > BOUNDARY, PROVED, some.lower[own])
        ),
        box=some.box.index_put((own,), torch.stack(found.box, 1)),
        first=some.first.index_put((own,), torch.stack(found.units, 1)),
    )


def _cut_by_margin(
    search: Search, first: First, some: _Batch, forms: Mapping[int, Tensor], bounds: list[Bounds]
) -> _Batch:
    """Takes away what is not unsafe; the bounds in `some` are those that the forms give."""
    value = search.relaxed.exact.inputs[first.layer][0]
    box, units = (Bounds(*(end.flatten(1) for end in bounds[v])) for v in (0, value))
    found = by_margin(first, some.lower, forms[0].flatten(1), box, units)
    bounds = [*bounds]
    bounds[value] = found.units
    split = _next_split(search, bounds, forms)
    return some._replace(
        lower=found.lower,
        split=torch.where(split < 0, some.split, split),  # one more step shows that none is needed
        box=torch.stack(found.box, 1),
        first=torch.stack(found.units, 1),
    )


def _within(search: Search, some: _Batch, signs: Mapping[int, Tensor]) -> list[Bounds]:
    """The subproblems' bounds, with those of ReLUs that have a sign cut at 0: (P, *shape)."""
    network, bounds, count = search.relaxed.exact, search.relaxed.bounds, len(some.lower)
    within = [Bounds(*(part.expand(count, *part.shape[1:]) for part in b)) for b in bounds]
    for value, ends in zip(search.cut_values(), (some.box, some.first), strict=True):
        if value is not None:
            within[value] = Bounds(
                *(end.reshape(count, *network.shapes[value]) for end in ends.unbind(1))
            )
    for k, units in search.units.items():
        value = network.inputs[k][0]
        lower, upper = (part.flatten(1).clone() for part in within[value])
        lower[:, units] = torch.where(signs[k] > 0, lower[:, units].clamp(min=0), lower[:, units])
        upper[:, units] = torch.where(signs[k] < 0, upper[:, units].clamp(max=0), upper[:, units])
        shape = network.shapes[value]
        within[value] = Bounds(lower.reshape(-1, *shape), upper.reshape(-1, *shape))
    return within


def _next_split(search: Search, bounds: list[Bounds], forms: Mapping[int, Tensor]) -> Tensor:
    """The undecided unit whose line above costs the bound most, (P,); -1 where none is left."""
    scores = []
    for k, units in search.units.items():
        lower, upper = (p.flatten(1)[:, units] for p in bounds[search.relaxed.exact.inputs[k][0]])
        form = forms[k + 1].flatten(1)[:, units]
        gap = -lower * upper / (upper - lower).clamp(min=1e-300)
        # the line below costs less, as its slope is free
        score = torch.where(form < 0, -form, 0.01 * form) * gap
        scores.append(torch.where((lower < 0) & (upper > 0), score, -1))
    if not len(search.scale):
        return torch.full((len(bounds[0].lower),), -1, device=bounds[0].lower.device)
    best, unit = torch.cat(scores, 1).nan_to_num(0.0).max(1)
    return torch.where(best >= 0, unit, -1)
