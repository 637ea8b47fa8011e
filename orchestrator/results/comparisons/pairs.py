"""Every two answers to a question, tested on the samples that both have."""

from collections.abc import Sequence
from typing import NamedTuple

from robsweep.orchestrator.results.comparisons.metrics import METRICS, compare
from robsweep.orchestrator.results.comparisons.questions import Answer, Question
from robsweep.orchestrator.results.comparisons.samples import shared
from robsweep.orchestrator.results.intervals import Interval


class Pair(NamedTuple):
    """One answer less another, on the samples that both have; the second is the baseline."""

    first: int
    second: int
    difference: Interval
    p: float  # NaN: nothing can be said
    n: list[int]  # of each part


def pairs(
    question: Question, given: Sequence[Answer], chosen: set[str] | None = None
) -> list[Pair]:
    """All pairs of answers, or those of which the second is chosen and the first is not."""
    found = []
    for group in shared([answer.sampled for answer in given]):
        wanted = [
            turned
            for a, b in group.pairs
            if (turned := _turned(given, group.members, a, b, chosen)) is not None
        ]
        if not wanted:
            continue
        if min(group.n) == 0:
            nothing = Interval(*[float("nan")] * 3)
            found += [
                Pair(group.members[a], group.members[b], nothing, float("nan"), group.n)
                for a, b in wanted
            ]
            continue
        tested = compare(METRICS[question.metric], group.sampled)
        for a, b in wanted:
            difference = Interval(*(float(side[a, b]) for side in tested[:3]))
            p = float(tested.p[a, b])
            found.append(Pair(group.members[a], group.members[b], difference, p, group.n))
    return sorted(found)


def _turned(
    given: Sequence[Answer], members: Sequence[int], a: int, b: int, chosen: set[str] | None
) -> tuple[int, int] | None:
    """A pair with its baseline second, or none."""
    if chosen is None:
        return (a, b) if members[a] < members[b] else (b, a)
    has = [given[members[side]].key in chosen for side in (a, b)]
    if has[0] == has[1]:
        return None
    return (a, b) if has[1] else (b, a)
