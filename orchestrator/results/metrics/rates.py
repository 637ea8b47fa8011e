"""Proportions as columns: name, name_low, name_high, name_n."""

from collections.abc import Mapping

import polars as pl

from robsweep.orchestrator.ranges import Range
from robsweep.orchestrator.results.intervals import Interval, wilson


def rate(name: str, successes: int, n: int) -> dict[str, float | int | None]:
    """A proportion with its Wilson interval and its denominator, as columns of one row."""
    return {**estimate(name, wilson(successes, n)), f"{name}_n": n}


def estimate(name: str, interval: Interval) -> dict[str, float | int | None]:
    """An estimate with its interval, as columns of one row; NaN becomes null."""
    return {
        name: known(interval.value),
        f"{name}_low": known(interval.low),
        f"{name}_high": known(interval.high),
    }


def known(value: float) -> float | None:
    """The value, or None for NaN: polars tells 'no data' by null."""
    return None if value != value else value  # noqa: PLR0124


def within(rows: pl.LazyFrame, wanted: Mapping[str, tuple[Range, ...]]) -> pl.LazyFrame:
    """The rows of these measurements whose sample was asked for, or that are about no sample."""
    # many measurements share few different wants: one filter each beats a join over all rows
    alike: dict[tuple[Range, ...], list[str]] = {}
    for measurement_id, ranges in wanted.items():
        alike.setdefault(ranges, []).append(measurement_id)
    sample = pl.col("sample")
    asked = [
        pl.col("measurement_id").is_in(ids)
        & (
            sample.is_null()
            | pl.any_horizontal(
                [pl.lit(False), *((sample >= low) & (sample < high) for low, high in ranges)]
            )
        )
        for ranges, ids in alike.items()
    ]
    return rows.filter(pl.any_horizontal([pl.lit(False), *asked]))
