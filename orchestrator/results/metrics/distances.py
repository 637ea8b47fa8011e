"""Distances of the nearest adversarials, from both sides, and how near to them attacks come."""

from typing import NamedTuple

import polars as pl

from robsweep.orchestrator.results.intervals import NO_DATA, Interval, order_statistic_median


class MeanDistance(NamedTuple):
    """The mean over all samples; a misclassified one counts as 0."""

    lower: float | None  # of the network as it runs
    lower_reals: float | None
    upper: float | None  # None where a sample has no adversarial that is known
    n: int
    exact: int  # samples whose two sides meet


class Optimality(NamedTuple):
    """An attack's distances over the true ones, on samples that are right without it."""

    at_most: Interval  # median of distance / lower side; not found is infinite
    at_least: float  # median of distance / upper side
    excess: float  # median of distance - lower side
    n: int
    exact: int  # of these, whose two sides meet: elsewhere only the lower side is known
    not_found: int


def closest_known(rows: pl.DataFrame) -> pl.DataFrame:
    """What all rows together say of each sample.

    Args:
        rows: Verification rows of the question `closest`, of one model and norm.

    Returns:
        `sample, lower, reals, upper, exact`, sorted; `upper` is null where there is none.
    """
    return (
        rows.group_by("sample")
        .agg(
            lower=pl.col("distance_lower").max(),
            reals=pl.max_horizontal("distance_lower", "distance_lower_reals").max(),
            upper=pl.col("distance_upper").min(),
            exact=pl.col("exact").any(),
        )
        .sort("sample")
    )


def mean_min_distance(known: pl.DataFrame) -> MeanDistance:
    """The headline of Tjeng et al. 2019, section 5, from both sides.

    Args:
        known: As of `closest_known`.
    """
    means = {name: _mean(known[name]) for name in ("lower", "reals", "upper")}
    if known["upper"].null_count():
        means["upper"] = None
    return MeanDistance(
        means["lower"], means["reals"], means["upper"], len(known), int(known["exact"].sum())
    )


def optimality(attacked: pl.DataFrame, known: pl.DataFrame) -> Optimality:
    """How much further than needed one attack goes.

    Where only a lower side is known, distance over it is more than the true ratio, and distance
    over the upper side less: the median of the true ratios lies between the two medians.

    Args:
        attacked: Its attack rows, `sample, success, distance`; the nearest adversarial counts.
        known: As of `closest_known`.
    """
    nearest = attacked.group_by("sample").agg(
        distance=pl.when("success").then("distance").otherwise(float("inf")).min()
    )
    both = known.filter(pl.col("upper").fill_null(1) > 0).join(nearest, on="sample", how="inner")
    if both.is_empty():
        return Optimality(NO_DATA, float("nan"), float("nan"), 0, 0, 0)
    reached = both["distance"]
    # nothing is nearer than the true distance; where neither finds anything, they agree
    above = (reached / both["upper"]).fill_nan(1.0).fill_null(1.0).median()
    excess = (reached - both["reals"]).fill_nan(0.0).median()
    return Optimality(
        at_most=order_statistic_median((reached / both["reals"]).fill_nan(1.0).to_numpy()),
        at_least=float(above) if isinstance(above, float) else float("nan"),
        excess=float(excess) if isinstance(excess, float) else float("nan"),
        n=len(both),
        exact=int(both["exact"].sum()),
        not_found=int(reached.is_infinite().sum()),
    )


def _mean(values: pl.Series) -> float | None:
    mean = values.mean()
    return float(mean) if isinstance(mean, float) and mean < float("inf") else None
