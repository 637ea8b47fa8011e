"""Error detection: is a model wrong where a score is high?"""

from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from robsweep.orchestrator.results.metrics.detection.logit_scores import of_rows
from robsweep.orchestrator.results.metrics.detection.selective import selective
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.columns import Read, Row
from robsweep.orchestrator.results.tables.joint.conditions import Condition

Floats = NDArray[np.float64]

NAMES = ("aurc", "e_aurc", "error_auroc")


def detected(scores: Floats, wrong: NDArray[np.bool_]) -> Row:
    """Columns of error detection by one score."""
    measured = selective(scores, wrong)
    row: Row = {"why": measured.why if len(wrong) else None}
    found = (measured.aurc, measured.e_aurc, measured.auroc)
    for name, interval in zip(NAMES, found, strict=True):
        row |= {**estimate(name, interval), f"{name}_n": len(wrong)}
    return row


def extents(asked: Sequence[Asked], *, failed: bool = False) -> Row:
    """How far those are."""
    row: Row = {}
    for name in NAMES:
        row |= extent(name, asked, failed=failed)
    return row


def scored_rows(model: Model, found: Sequence[Condition], read: Read) -> Iterator[Row]:
    """On clean images, by scores that stored predictions are not enough for."""
    clean = [condition for condition in found if not condition.columns]
    of_id = [a for a in model.of("score") if a.params["ood_set"] is None and not of_rows(a.params)]
    if not clean or not of_id:
        return
    needed = ("measurement_id", "sample", "score")
    rows = read("ood_scores", of_id).select(needed).collect()
    wrong = pl.col("predicted") != pl.col("label")
    answers = clean[0].rows.select("sample", wrong=wrong)
    for asked in of_id:
        own = rows.filter(rows["measurement_id"] == asked.measurement_id)
        both = own.join(answers, on="sample", how="inner").sort("sample")
        yield {
            "question": "errors",
            "scorer": asked.entry,
            **detected(both["score"].to_numpy(), both["wrong"].to_numpy()),
            **extents([*clean[0].asked, asked]),
        }
