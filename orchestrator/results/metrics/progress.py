"""How far a sweep is, in samples of its measurements."""

from collections.abc import Sequence

import polars as pl

from robsweep.orchestrator.ranges import Ranges, intersect, subtract, total, union
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.verification import PROOFS
from robsweep.tasks.catalogue import KINDS

SCHEMA = {
    "kind": pl.String,
    "wanted": pl.Int64,
    "done": pl.Int64,
    "failed": pl.Int64,
}
BALL = ["model_id", "dataset", "split", "property", "norm", "eps", "sample"]


def progress(models: Sequence[Model], verdicts: pl.DataFrame) -> pl.DataFrame:
    """One row per kind: samples (or models) wanted, done, and failed since.

    A solve measurement wants the samples that screening has left open so far, and one is done when
    any solver has answered it: the same question may have been asked by another sweep.

    Args:
        models: Of the sweep's plan.
        verdicts: Verification rows of the sweep's models, within what was asked for.
    """
    undecided = _undecided(verdicts)
    rows: dict[str, dict[str, int]] = {}
    seen: set[str] = set()  # what several data sets share is one measurement
    for model in models:
        for asked in model.asked:
            if asked.measurement_id in seen:
                continue
            seen.add(asked.measurement_id)
            if asked.kind == "solve":
                wanted, done = _solve(model, asked, undecided)
            else:
                wanted, done = asked.wanted, asked.covered
            broken = intersect(subtract(wanted, done), asked.failed)
            row = rows.setdefault(asked.kind, dict.fromkeys(list(SCHEMA)[1:], 0))
            row["wanted"] += total(wanted)
            row["done"] += total(done)
            row["failed"] += total(broken)
    ordered = [kind for kind in KINDS if kind in rows]
    return pl.DataFrame([{"kind": kind, **rows[kind]} for kind in ordered], schema=SCHEMA)


def _undecided(verdicts: pl.DataFrame) -> pl.DataFrame:
    """Samples that no screen has decided, and whether a solver has been at them."""
    screened = pl.col("measurement_id").str.starts_with("screen-")
    solved = pl.col("measurement_id").str.starts_with("solve-")
    proved = pl.col("verdict").is_in(PROOFS)
    return (
        verdicts.group_by(BALL)
        .agg(
            left_open=screened.any() & ~(screened & proved).any(),
            solved=solved.any(),  # not by the second engine of a cross-check
        )
        .filter("left_open")
    )


def _solve(model: Model, asked: Asked, undecided: pl.DataFrame) -> tuple[Ranges, Ranges]:
    own = undecided.filter(
        pl.col("model_id") == model.model_id,
        pl.col("dataset") == asked.dataset,
        pl.col("split") == asked.split,
        pl.col("property") == asked.property,
        pl.col("norm") == asked.norm,
        pl.col("eps").is_in(asked.eps) if asked.eps else pl.col("eps").is_null(),
    )
    wanted = intersect(union((s, s + 1) for s in own["sample"]), asked.wanted)
    solved = union((s, s + 1) for s in own.filter("solved")["sample"])
    return wanted, intersect(wanted, solved)
