"""The table of optimality: each attack's distances over those of the nearest adversarials."""

from collections.abc import Iterator, Sequence

import polars as pl

from robsweep.orchestrator.results.metrics.distances import (
    closest_known,
    mean_min_distance,
    optimality,
)
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate, known
from robsweep.orchestrator.results.tables.attacks import attack_rows, that_work
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.tasks.catalogue.values import CLOSEST


def optimality_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per attack of a norm in which `question: closest` was asked.

    `ratio` is the median of an attack's distance over the lower side of the true one, which it is
    where `exact_n` is `ratio_n`; else the median of the true ratios lies between `ratio_at_least`
    and it.
    """
    return frame("optimality", (row for model in models for row in _rows(model, read)))


def distances_at(model: Model, norm: str, read: Read) -> Row:
    """The mean distance of the nearest adversarials, from both sides; not where nobody asked."""
    screens = _closest(model, norm)
    if not screens:
        return {"mean_min_distance_status": "not asked"}
    mean = mean_min_distance(_known(screens, read))
    return {
        "mean_min_distance_lower": mean.lower,
        "mean_min_distance_lower_reals": mean.lower_reals,
        "mean_min_distance_upper": mean.upper,
        "mean_min_distance_n": mean.n,
        "mean_min_distance_exact": mean.exact,
        **extent("mean_min_distance", one_of=screens),
    }


def _rows(model: Model, read: Read) -> Iterator[Row]:
    attacked = attack_rows(model, read)
    for attack in model.of("attack"):
        screens = _closest(model, str(attack.norm))
        if not screens:
            continue
        missing = that_work([attack], attacked, None).text
        own = attacked.filter(pl.col("measurement_id") == attack.measurement_id)
        found = optimality(own, _known(screens, read))
        yield {
            **model.names,
            "attack": attack.entry,
            "norm": attack.norm,
            "gives": "fixed_eps" if attack.eps else "min_norm",
            **estimate("ratio", found.at_most),
            "ratio_n": found.n,
            **extent("ratio", [attack], screens, failed=missing is not None),
            "ratio_at_least": known(found.at_least),
            "excess": known(found.excess),
            "exact_n": found.exact,
            "not_found": found.not_found,
            "missing_attacks": missing,
        }


def _closest(model: Model, norm: str) -> list[Asked]:
    return model.other_questions().get((CLOSEST, norm, None), [])


def _known(screens: Sequence[Asked], read: Read) -> pl.DataFrame:
    rows = read("verification", screens).filter(pl.col("property") == CLOSEST)
    return closest_known(rows.collect())
