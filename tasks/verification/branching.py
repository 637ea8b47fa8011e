"""Branch and bound: an undecided ReLU is split into its halves, until bounds decide each part.

Source: Wang et al. 2021 (beta-CROWN), section 3; the choice of the ReLU after Bunel et al. 2020
(BaBSR), section 4.
"""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.verification.alpha import (
    Ascent,
    Relaxed,
    Settings,
    ascended,
    first_settings,
    undecided_units,
)
from tasks.verification.intervals import Bounds
from tasks.verification.layers import evaluate
from tasks.verification.properties import BOUNDARY, PROVED, Property

_ASCENT = Ascent(5, 0.3)
_AT_ONCE = {"cpu": 128, "cuda": 4096}  # subproblems in one batch
_ROOM = 2**26  # numbers in the open subproblems, before the search goes deeper first


class Limit(NamedTuple):
    until: float  # on the monotonic clock
    branches: float
    stuck: float  # subproblems without any undecided ReLU that their bounds leave open


class Branched(NamedTuple):
    """How far the search came."""

    lower: dict[int, float]  # disjunct -> lower bound on its margin
    branches: int  # subproblems that were bounded
    candidate: Tensor | None = None  # (1, *shape): the counterexample that ended the search


class _Batch(NamedTuple):
    """P subproblems: a disjunct, and signs of some ReLUs, the units of all layers in one row."""

    disjunct: Tensor  # (P,) int64
    lower: Tensor  # (P,) float64
    signs: Tensor  # (P, U) int8: 1 for on, -1 for off, 0 for either
    slopes: Tensor  # (P, U) float32, where the parent's ascent ended
    sizes: Tensor  # (P, U) float32, likewise
    split: Tensor  # (P,) int64: the unit to split next; -1 if all are decided


class _Place(NamedTuple):
    """One open subproblem, in the order of the heap."""

    lower: float
    order: int
    batch: _Batch
    row: int


class _Search(NamedTuple):
    """One sample's search, which its subproblems share."""

    relaxed: Relaxed  # with its bounds, (1, *shape)
    units: Mapping[int, Tensor]
    weight: Tensor  # (D, K): of one row of each disjunct
    bias: Tensor  # (D,)
    scale: Tensor  # (U,): of the multipliers, so that they are of the order of 1

    def by_layer(self, part: Tensor) -> dict[int, Tensor]:
        widths = [len(units) for units in self.units.values()]
        return dict(zip(self.units, torch.split(part, widths, 1), strict=True))


def branch(
    relaxed: Relaxed,
    unsafe: Property,
    known: Mapping[int, float],
    limit: Limit,
    is_counterexample: Callable[[Tensor], bool],
) -> Branched:
    """Splits until every disjunct is proved, a counterexample is found or the limit is reached.

    Args:
        relaxed: Of one sample.
        known: The disjuncts to prove, with lower bounds on their margins.
        is_counterexample: Judges points (1, *shape) whose margin is <= 0 here.
    """
    search = _search(relaxed, unsafe, known)
    fresh, count = _roots(search, known), 0
    if not fresh.signs.shape[1]:
        return Branched(dict(known), 0)
    pool: list[_Place] = []  # a heap, the lowest bound first
    stuck: list[_Place] = []  # with no ReLU left to split
    room, most = _ROOM // fresh.signs.shape[1], _AT_ONCE[fresh.signs.device.type]
    while True:
        fresh, point, least = _bounded(search, fresh)
        if least <= 0 and is_counterexample(point):
            return Branched(dict(known), count + len(fresh.lower), point)
        for i, (lower, split) in enumerate(
            zip(fresh.lower.tolist(), fresh.split.tolist(), strict=True)
        ):
            count += 1
            if lower <= BOUNDARY and split < 0:
                stuck.append(_Place(lower, count, fresh, i))
            elif lower <= BOUNDARY:
                heapq.heappush(pool, _Place(lower, count, fresh, i))
        late = time.monotonic() >= limit.until
        if not pool or count >= limit.branches or len(stuck) >= limit.stuck or late:
            break
        # the end of a heap holds high bounds: taking those closes subproblems, which saves room
        take: Callable[[list[_Place]], _Place] = heapq.heappop if len(pool) < room else list.pop
        fresh = _halves([take(pool) for _ in range(min(len(pool), most // 2))])
    best = dict.fromkeys(known, PROVED)
    for place in (*pool, *stuck):
        disjunct = int(place.batch.disjunct[place.row])
        best[disjunct] = min(best[disjunct], place.lower)
    return Branched({d: max(lower, known[d]) for d, lower in best.items()}, count)


def _search(relaxed: Relaxed, unsafe: Property, known: Mapping[int, float]) -> _Search:
    """With the first row of each disjunct that is not always true."""
    index = unsafe.bias[0].isfinite().double().argmax(1)
    each = torch.arange(len(index), device=index.device)
    units = undecided_units(relaxed.exact, relaxed.bounds)
    weight, bias = unsafe.weight[0, each, index], unsafe.bias[0, each, index]
    rows = weight[list(known)]
    owner = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    forms = ascended(relaxed, rows, owner, {}, Settings({}, {}), {}, Ascent(0, 0.0)).forms
    parts = [forms[k + 1].flatten(1)[:, some].abs().amax(0) for k, some in units.items()]
    scale = torch.cat([*parts, bias.new_zeros(0)]).clamp(min=1e-12)
    return _Search(relaxed, units, weight, bias, scale)


def _roots(search: _Search, known: Mapping[int, float]) -> _Batch:
    disjunct = torch.tensor(list(known), device=search.bias.device)
    start = first_settings(search.relaxed, torch.zeros_like(disjunct), search.units).slopes
    slopes = torch.cat([*start.values(), search.bias.new_zeros(len(disjunct), 0).float()], 1)
    return _Batch(
        disjunct,
        torch.tensor([*known.values()], dtype=torch.float64, device=disjunct.device),
        torch.zeros_like(slopes, dtype=torch.int8),
        slopes,
        torch.zeros_like(slopes),
        torch.full_like(disjunct, -1),
    )


def _halves(places: Sequence[_Place]) -> _Batch:
    """Both children of each subproblem: its ReLU on, then off."""
    columns = zip(*([part[place.row] for part in place.batch] for place in places), strict=True)
    both = _Batch(*(torch.stack(column).repeat_interleave(2, 0) for column in columns))
    sign = torch.tensor([[1], [-1]], dtype=torch.int8, device=both.signs.device)
    signs = both.signs.scatter(1, both.split[:, None], sign.repeat(len(places), 1))
    return both._replace(signs=signs)


def _bounded(search: _Search, some: _Batch) -> tuple[_Batch, Tensor, float]:
    """Bounds subproblems and picks what to split next; also the best point seen, and its margin."""
    network = search.relaxed.exact
    signs = search.by_layer(some.signs)
    bounds = _within(search, signs)
    settings = Settings(search.by_layer(some.slopes), search.by_layer(some.sizes))
    owner = torch.arange(len(some.lower), device=some.lower.device)
    relaxed = search.relaxed._replace(bounds=bounds)
    weight, bias = search.weight[some.disjunct], search.bias[some.disjunct]
    scaled = search.by_layer(some.signs * search.scale.float())
    found = ascended(relaxed, weight, owner, search.units, settings, scaled, _ASCENT)
    after = some._replace(
        lower=torch.maximum(some.lower, found.lower + bias),
        slopes=torch.cat([*found.settings.slopes.values()], 1),
        sizes=torch.cat([*found.settings.sizes.values()], 1),
        split=_next_split(search, bounds, found.forms),
    )
    corners = torch.where(found.forms[0] > 0, *bounds[0])
    margins = (evaluate(network, corners)[-1] * weight).sum(1) + bias
    best = margins.argmin()
    return after, corners[best : best + 1], margins[best].item()


def _within(search: _Search, signs: Mapping[int, Tensor]) -> list[Bounds]:
    """The sample's bounds, with those of ReLUs that have a sign cut at 0: (P, *shape)."""
    network, bounds = search.relaxed.exact, search.relaxed.bounds
    count = len(next(iter(signs.values())))
    cut = [Bounds(*(part.expand(count, *part.shape[1:]) for part in b)) for b in bounds]
    for k, units in search.units.items():
        value = network.inputs[k][0]
        lower, upper = (part.flatten(1).clone() for part in cut[value])
        lower[:, units] = torch.where(signs[k] > 0, lower[:, units].clamp(min=0), lower[:, units])
        upper[:, units] = torch.where(signs[k] < 0, upper[:, units].clamp(max=0), upper[:, units])
        shape = network.shapes[value]
        cut[value] = Bounds(lower.reshape(-1, *shape), upper.reshape(-1, *shape))
    return cut


def _next_split(search: _Search, bounds: list[Bounds], forms: Mapping[int, Tensor]) -> Tensor:
    """The undecided unit whose line above costs the bound most, (P,); -1 where none is left."""
    scores = []
    for k, units in search.units.items():
        lower, upper = (p.flatten(1)[:, units] for p in bounds[search.relaxed.exact.inputs[k][0]])
        form = forms[k + 1].flatten(1)[:, units]
        gap = -lower * upper / (upper - lower).clamp(min=1e-300)
        # the line below costs less, as its slope is free
        score = torch.where(form < 0, -form, 0.01 * form) * gap
        scores.append(torch.where((lower < 0) & (upper > 0), score, -1))
    best, unit = torch.cat(scores, 1).max(1)
    return torch.where(best >= 0, unit, -1)
