"""Scores of adversarials: of those that are."""

from collections.abc import Sequence
from dataclasses import replace

import polars as pl

from robsweep.orchestrator.results.metrics.planned import Asked
from robsweep.orchestrator.results.tables.columns import Read
from robsweep.tasks.catalogue.words import adversarials_of, eps_name


def that_broke(scores: pl.DataFrame, asked: Sequence[Asked], read: Read) -> pl.DataFrame:
    """Scores without those of images that an attack gave back where it found no adversarial.

    Nor of images that are misclassified as they are, which it had nothing to do for.

    Args:
        scores: `measurement_id, sample` and more, of any sets.
        asked: The measurements that they are of.
    """
    pieces = []
    for one in asked:
        made = adversarials_of(one.dataset)
        if made is None:
            continue
        distance = pl.col("distance")
        hits = (
            read("attacks", [replace(one, measurement_id=made.attack)])
            .filter("success", distance.is_null() | (distance > 0))
            .select("sample", "eps")
            .collect()
        )
        kept = [sample for sample, eps in hits.iter_rows() if eps_name(eps) == made.eps]
        others = pl.col("measurement_id") != one.measurement_id
        pieces.append(others | pl.col("sample").is_in(kept))
    return scores.filter(*pieces) if pieces else scores
