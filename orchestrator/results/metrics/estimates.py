"""Estimates of the distance of the nearest adversarial, which prove nothing."""

from typing import NamedTuple

import polars as pl

from robsweep.orchestrator.results.intervals import NO_DATA, Interval, order_statistic_median


class Estimates(NamedTuple):
    """Of one model in one norm."""

    n: int
    median: Interval  # over all samples; misclassified is 0
    violations: int  # samples with an adversarial nearer than estimated
    violations_n: int  # samples that have an estimate and were attacked


def estimates(rows: pl.DataFrame, attacked: pl.DataFrame) -> Estimates:
    """Holds estimates against what attacks have reached.

    Args:
        rows: Verification rows, `sample, distance_lower`; of several estimates for a sample the
            smallest counts.
        attacked: Attack rows of the same norm, `sample, success, distance, eps`, min-norm and
            fixed-eps alike: the distance of the adversarial counts.
    """
    lowest = rows.group_by("sample").agg(estimated=pl.col("distance_lower").min()).drop_nulls()
    radius = pl.coalesce("distance", "eps").filter(pl.col("success")).min()
    both = lowest.join(attacked.group_by("sample").agg(radius=radius), on="sample", how="inner")
    median = order_statistic_median(lowest["estimated"].to_numpy()) if len(lowest) else NO_DATA
    return Estimates(
        n=len(lowest),
        median=median._replace(low=max(0.0, median.low)) if len(lowest) else median,
        violations=len(both.filter(pl.col("radius") < pl.col("estimated"))),
        violations_n=len(both),
    )
