"""Two sets of attacks on one model, compared sample by sample, and what kind of attack each is."""

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from robsweep.orchestrator.results.metrics.planned import Asked
from robsweep.tasks.catalogue import ATTACKS

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

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


class Outcomes:
    """What each attack has done to each sample, as arrays: many sets of attacks are compared."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self.rows = rows
        self.samples = rows["sample"].unique().sort().to_numpy()
        self._reach: dict[str, Floats] = {}  # the smallest radius at which a sample breaks
        self._covered: dict[tuple[str, float | None], Bools] = {}
        needed = rows.select(
            "measurement_id",
            "eps",
            "sample",
            radius=pl.when("success").then(pl.coalesce("eps", "distance")).fill_null(np.inf),
        )
        for key, own in needed.partition_by("measurement_id", "eps", as_dict=True).items():
            name, eps = str(key[0]), key[1]
            at = np.searchsorted(self.samples, own["sample"].to_numpy())
            covered = np.zeros(len(self.samples), dtype=np.bool_)
            covered[at] = True
            self._covered[name, None if eps is None else float(eps)] = covered
            reach = self._reach.setdefault(name, np.full(len(self.samples), np.inf))
            np.minimum.at(reach, at, own["radius"].to_numpy())

    def of(self, attacks: Sequence[Asked], eps: float) -> tuple[Bools, Bools]:
        """Which samples all attacks that speak of a ball have covered, and which any has broken."""
        covered = np.ones(len(self.samples), dtype=np.bool_)
        broken = np.zeros(len(self.samples), dtype=np.bool_)
        nothing = np.zeros(len(self.samples), dtype=np.bool_)
        for a in attacks:
            if _speaks(a, eps):
                at = eps if a.eps else None
                covered &= self._covered.get((a.measurement_id, at), nothing)
            if (reach := self._reach.get(a.measurement_id)) is not None:
                broken |= reach <= eps
        return covered, broken


def compared(
    outcomes: Outcomes, weaker: Sequence[Asked], stronger: Sequence[Asked]
) -> list[Compared]:
    """The two sets of attacks in every ball of which both speak.

    Min-norm attacks speak of every ball. Among themselves they are compared in one: its radius is
    the median distance of all that they have found.
    """
    found = []
    for eps in _radii(outcomes.rows, weaker, stronger):
        (by_weaker, weak), (by_stronger, strong) = (
            outcomes.of(side, eps) for side in (weaker, stronger)
        )
        both = by_weaker & by_stronger
        samples = outcomes.samples
        found.append(Compared(eps, samples[both].tolist(), samples[both & weak & ~strong].tolist()))
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


def samples_of(rows: pl.DataFrame) -> list[int]:
    return rows["sample"].unique().sort().to_list()


def entries_of(attacks: Sequence[Asked]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(a.entry for a in attacks))


def names_of(attacks: Sequence[Asked]) -> str:
    names = entries_of(attacks)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
