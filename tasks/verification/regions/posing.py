"""The question about one sample and its region, as attack, bounds and solver take it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.bounds.margins import by_intervals
from robsweep.tasks.verification.question import Posed, Robustness, by_the_image, region_of
from robsweep.tasks.verification.reading.properties import BOUNDARY, Verdict
from robsweep.tasks.verification.reading.within import Ball
from robsweep.tasks.verification.regions.area import Through
from robsweep.tasks.verification.search.counterexamples import Subject
from robsweep.tasks.verification.verdicts import Row, rounding_error

_AT_ONCE = 64  # parts that are bounded together


class Asked(NamedTuple):
    """Of one sample, whose region has P parts: what is verified in each of them is verified."""

    subject: Subject  # from the parameters of its images on
    posed: Posed  # P of them


def asked_of(
    subject: Subject, image: Tensor, label: Tensor, asked: Robustness, position: int = 0
) -> Asked:
    """Puts the map from parameters to images in front of the network.

    Args:
        image: Float32 (1, *shape).
        label: Int64 (1,).
        position: Of the sample among those that `asked` is about.
    """
    assert asked.regions is not None
    area = asked.regions.of(image[0], position)
    classes = subject.network.shapes[-1][0]
    parts = len(area.box.lower)
    labels = label.expand(parts)
    holds_image = area.holds_own()
    own = area.box.lower[:1].float() if area.own is None else area.own[None]
    images = own.expand(parts, *own.shape[1:])
    region = region_of(area.box, images, holds_image)
    eps = None
    if isinstance(area.within, Ball):
        eps, region = area.within.radius, region._replace(ball=area.within)
    posed = Posed(
        images,
        labels,
        asked.unsafe(labels, classes),
        area.box,
        region,
        holds_image,
        eps,
        area.within.norm if isinstance(area.within, Ball) else "linf",
        area,
    )
    network = area.before(subject.network)
    if area.map is None:
        return Asked(subject._replace(network=network), posed)
    deployed, exact = (Through(area, model) for model in (subject.model, subject.exact))
    return Asked(Subject(deployed, exact, network), posed)


class Ordered(NamedTuple):
    """The parts, those first whose margin intervals know least of, and their rows so far."""

    order: list[int]  # of those that are open
    rows: list[Row]  # of the others


def by_likelihood(asked: Asked, stages: frozenset[str]) -> Ordered:
    """What intervals prove of each part, if they may."""
    subject, posed = asked
    count = len(posed.labels)
    if count == 1:
        return Ordered([0], [])
    found = []
    for some in torch.split(torch.arange(count, device=posed.labels.device), _AT_ONCE):
        here = posed.rows(some)
        found.append(by_intervals(subject.network, here.box, here.unsafe).margins)
    lower, reals = (torch.cat(part).amin(1) for part in zip(*found, strict=True))
    clean = by_the_image(subject, posed.rows([0])).rows
    proved = lower > BOUNDARY
    if clean or "interval" not in stages or subject.network.steps is None:
        proved = torch.zeros_like(proved)
    rows = [
        Row("unknown", lower_bound=low, rounding_error=rounding_error(low, real)).proved("interval")
        for low, real in zip(lower[proved].tolist(), reals[proved].tolist(), strict=True)
    ]
    order = reals.argsort()
    return Ordered(order[~proved[order]].tolist(), rows)


_ORDER = ("clean", "no target", *STAGES, "lp", "mip")
_RANK: tuple[Verdict, ...] = (
    "misclassified", "falsified", "error", "timeout", "unknown", "verified",
)  # fmt: skip


def united(rows: Sequence[Row]) -> Row:
    """One row of a sample, from those of its parts: what holds in the union of them.

    The verdict is the first that there is of misclassified, falsified, error, timeout, unknown; all
    are verified, if it is. What decided is the last stage that it took; counters are added up.
    """
    if len(rows) == 1:
        return rows[0]
    verdict = min((row.verdict for row in rows), key=_RANK.index)
    deciding = [row for row in rows if row.verdict == verdict]
    stages = [row.decided_by for row in deciding if row.decided_by is not None]
    first = deciding[0]
    lows = [row.lower_bound for row in rows]
    return first._replace(
        decided_by=max(stages, key=_ORDER.index, default=None),
        lower_bound=None if None in lows else min(low for low in lows if low is not None),
        upper_bound=_reduced(min, [row.upper_bound for row in rows]),
        boundary=any(row.boundary for row in rows),
        unstable_relus=_reduced(max, [row.unstable_relus for row in rows]),
        rounding_error=_reduced(max, [row.rounding_error for row in rows]),
        **{name: _added([getattr(row, name) for row in rows]) for name in _ADDED},
    )


_ADDED = (
    "expected_seconds",
    "seconds",
    "nodes",
    "attack_steps",
    "alpha_bounds",
    "branches",
    "boxes",
)


def _reduced(pick: Callable[[list[Any]], Any], numbers: list[Any]) -> Any:
    known = [number for number in numbers if number is not None]
    return pick(known) if known else None


def _added(numbers: list[Any]) -> Any:
    return _reduced(sum, numbers)
