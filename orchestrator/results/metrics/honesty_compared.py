"""Two sets of attacks on one model, compared sample by sample, and what kind of attack each is."""

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

import polars as pl

from robsweep.orchestrator.results.metrics.attacks import survival
from robsweep.orchestrator.results.metrics.planned import Asked
from robsweep.tasks.catalogue import ATTACKS

Access = Literal["white_box", "black_box", "noise", "transfer"]


class Compared(NamedTuple):
    """Two sets of attacks in one ball, on the samples that all of them have covered."""

    eps: float
    samples: list[int]
    only_weaker: list[int]  # broken by the weaker ones alone


def access_of(asked: Asked) -> Access:
    """What an attack sees of the model; a function that the catalogue has not may see all."""
    if asked.params.get("source") is not None:
        return "transfer"
    if asked.params.get("gradients") is not None:
        return "black_box"  # estimated from queries
    return ATTACKS[asked.name].access if asked.name in ATTACKS else "white_box"


def iterative(asked: Asked) -> bool:
    """More than one step; a function that the catalogue has not is taken for such."""
    return asked.name not in ATTACKS or ATTACKS[asked.name].iterative


def harder(asked: Asked) -> bool:
    """After more than a wrong answer: a certain one, or one that no detector sees."""
    return any(asked.params.get(name) is not None for name in ("detector", "target"))


def cannot_cross(asked: Asked) -> bool:
    """Whether all steps of an attack in a row are shorter than its ball is wide.

    From a random start it then cannot reach the other side.
    """
    parameters = asked.params.get("parameters", {})
    steps, size = parameters.get("steps"), parameters.get("rel_step_size")
    starts, fixed = parameters.get("random_start"), parameters.get("abs_step_size")
    return bool(starts and steps and size and not fixed and steps * size < 2)


def budget_ratio(shorter: Asked, longer: Asked, budget: str) -> float:
    """How many times the longer attack's budget is that of the other; 0 if they differ in more."""
    (small, rest), (large, other) = _without(shorter, budget), _without(longer, budget)
    if not (isinstance(small, int) and isinstance(large, int)):
        return 0.0
    return large / small if small > 0 and rest == other else 0.0


def _without(asked: Asked, budget: str) -> tuple[object, str]:
    """An attack's steps or queries, and all else that makes it what it is; any eps."""
    parameters = dict(asked.params.get("parameters", {}))
    value = parameters.pop(budget, None)
    rest = {**asked.params, "eps": None, "parameters": parameters, "name": asked.name}
    return value, json.dumps(rest, sort_keys=True)


def compared(
    rows: pl.DataFrame, weaker: Sequence[Asked], stronger: Sequence[Asked]
) -> list[Compared]:
    """The two sets of attacks in every ball of which both speak.

    Min-norm attacks speak of every ball. Among themselves they are compared in one: its radius is
    the median distance of all that they have found.
    """
    found = []
    for eps in _radii(rows, weaker, stronger):
        both = broken(rows, weaker, eps).join(
            broken(rows, stronger, eps), on="sample", suffix="_stronger"
        )
        weak, strong = pl.col("broken"), pl.col("broken_stronger")
        found.append(
            Compared(
                eps,
                samples_of(both),
                samples_of(both.filter(weak & ~strong)),
            )
        )
    return [one for one in found if one.samples]


def _radii(
    rows: pl.DataFrame, weaker: Sequence[Asked], stronger: Sequence[Asked]
) -> Sequence[float]:
    together = [*weaker, *stronger]
    asked = sorted({eps for a in together for eps in a.eps})
    if asked:
        sides = (weaker, stronger)
        return [eps for eps in asked if all(any(_speaks(a, eps) for a in s) for s in sides)]
    ids = [a.measurement_id for a in together]
    hits = rows.filter(pl.col("success"), pl.col("measurement_id").is_in(ids))["distance"]
    median = hits.median()
    return [median] if isinstance(median, float) else []


def _speaks(asked: Asked, eps: float) -> bool:
    return not asked.eps or eps in asked.eps


def broken(rows: pl.DataFrame, attacks: Sequence[Asked], eps: float) -> pl.DataFrame:
    """`sample, broken` of all of these attacks that speak of the ball, together."""
    here = [a.measurement_id for a in attacks if _speaks(a, eps)]
    return survival(rows, here, eps, [a.measurement_id for a in attacks])


def samples_of(rows: pl.DataFrame) -> list[int]:
    return rows["sample"].unique().sort().to_list()


def entries_of(attacks: Sequence[Asked]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a.entry for a in attacks))


def names_of(attacks: Sequence[Asked]) -> str:
    names = entries_of(attacks)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
