"""Which rows count for what a sweep asked, wherever rows come from."""

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from robsweep.orchestrator.ranges import Ranges, union
from robsweep.orchestrator.results.metrics.planned import Asked
from robsweep.orchestrator.results.metrics.rates import within

# Rows of a table, of these measurements or of all.
Rows = Callable[[str, Iterable[str] | None], pl.LazyFrame]


def wanted(rows: Rows, table: str, measurements: Iterable[Asked]) -> pl.LazyFrame:
    """Rows of these measurements, on the samples that were asked for."""
    asked = list(measurements)
    if table == "verification":
        # what another eps or sweep has decided is no draw of the samples: it may only add to what
        # the question's own screen has looked at
        return verdicts(rows, [(screen, screen.covered) for screen in asked])
    samples = {a.measurement_id: a.wanted for a in asked}
    found = within(rows(table, samples), samples)
    if table == "predictions":  # an attack's predictions carry its own measurement id
        source = pl.col("source")
        named = {a.params["source"] for a in asked if a.kind == "predict"}
        return found.filter(source.is_in(named) | source.str.starts_with("attack:"))
    return found


def verdicts(rows: Rows, screens: Sequence[tuple[Asked, Ranges]]) -> pl.LazyFrame:
    """Rows about these samples of screens, whichever measurement or sweep answered.

    A sample that another sweep has proved is not asked about again. Balls are nested: a proof
    at a larger eps and a counterexample at a smaller one are answers too, at no cost.
    """
    pieces: dict[tuple[str, str, str, str, str, float | None], Ranges] = {}
    for screen, samples in screens:
        for eps in screen.eps or (None,):  # a box has no eps
            question = (
                screen.model_id,
                screen.dataset,
                screen.split,
                screen.property,
                str(screen.norm),
                eps,
            )
            pieces[question] = union([*pieces.get(question, ()), *samples])
    key = ["model_id", "dataset", "split", "property", "norm"]
    asked = pl.LazyFrame(
        [(*question, *piece) for question, ranges in pieces.items() for piece in ranges],
        schema={**dict.fromkeys(key, pl.String), "_eps": pl.Float64}
        | {"_start": pl.Int64, "_stop": pl.Int64},
        orient="row",
    )
    of_these = pl.col("model_id").is_in(sorted({screen.model_id for screen, _ in screens}))
    verdict, same = pl.col("verdict"), pl.col("eps").eq_missing(pl.col("_eps"))
    carried = (
        ((verdict == "verified") & (pl.col("eps") > pl.col("_eps")))
        | ((verdict == "falsified") & (pl.col("eps") < pl.col("_eps")))
        | (verdict == "misclassified")
    )
    return (
        rows("verification", None)
        .filter(of_these)
        .join(asked, on=key, how="inner", maintain_order="left_right")
        .filter(pl.col("sample") >= pl.col("_start"), pl.col("sample") < pl.col("_stop"))
        .filter(same | carried.fill_null(value=False))
        .with_columns(
            seconds=pl.when(same).then("seconds").otherwise(0.0),
            carried_from_eps=pl.when(same).then("carried_from_eps").otherwise("eps"),
            eps="_eps",
        )
        .drop("_start", "_stop", "_eps")
    )
