"""What attacks leave standing. Rows are of one model on one split, where not said otherwise."""

import re
from collections.abc import Collection
from typing import NamedTuple

import polars as pl

from robsweep.orchestrator.results.intervals import (
    NO_DATA,
    Interval,
    order_statistic_median,
    wilson,
)

# Checks of rows that count: all is well, or not finding anything is the result.
SOUND = ("ok", "no starting point", "wrong at the source")

FEW = 0.05  # of the samples that an attack was run on, which may fail their check

MODEL = ("model_id", "dataset", "split")  # with `sample`, an input to a model


class AttackSummary(NamedTuple):
    """What one attack achieved at one eps, or over all distances for a min-norm attack."""

    n: int
    robust: int  # samples that survive
    clean: int  # samples that are right without an attack
    attack_success_rate: Interval  # among the samples that were classified correctly
    attack_success_rate_n: int


class Distances(NamedTuple):
    """Distances of min-norm attacks, in their norm."""

    n: int
    median: Interval  # over all samples; not found is infinite, misclassified is 0
    mean: float  # over the correctly classified samples for which an adversarial was found
    mean_n: int


# Broken at distance 0, which no step of an attack can reach.
MISCLASSIFIED = pl.col("success") & (pl.col("distance") == 0).fill_null(value=False)
_FAILED = ~pl.col("success") & ~pl.col("check").is_in([*SOUND])


def unsound(rows: pl.DataFrame) -> pl.DataFrame:
    """The attack rows whose check failed."""
    return rows.filter(_FAILED)


def gave_up(rows: pl.DataFrame, attacks: Collection[str], eps: float | None) -> dict[str, str]:
    """The attacks that failed on more than a few samples, and what went wrong most often.

    Args:
        rows: Attack rows.
        attacks: Measurement ids.
        eps: Where each of them was run: at this eps, or min-norm.
    """
    if rows.filter(_FAILED).is_empty():
        return {}
    own = rows.filter(pl.col("measurement_id").is_in(list(attacks)), _speaks(eps))
    failing = own.filter(pl.col("measurement_id").is_in(_failing(own)), _FAILED)
    checks = failing.group_by("measurement_id").agg(
        check=pl.col("check").drop_nulls().mode().sort().first()
    )
    return {name: _reason(check or "no check") for name, check in checks.iter_rows()}


def _reason(check: str) -> str:
    raised = re.match(r"error: (\w+)", check)
    return f"raised {raised[1]}" if raised else check


def _speaks(eps: float | None) -> pl.Expr:
    min_norm = pl.col("eps").is_null()
    return min_norm if eps is None else min_norm | (pl.col("eps") == eps)


def _failing(asked: pl.DataFrame) -> list[str]:
    """Measurements of which more than a few rows failed their check.

    Misclassified samples have not been attacked: they do not count.
    """
    shares = (
        asked.filter(~MISCLASSIFIED)
        .group_by("measurement_id")
        .agg(_FAILED.fill_null(value=False).mean().alias("failed"))
    )
    return shares.filter(pl.col("failed") > FEW)["measurement_id"].to_list()


def _sound(rows: pl.DataFrame, attacks: Collection[str], at: pl.Expr) -> pl.DataFrame:
    """Without the rows of the attacks, where `at` is true, whose check failed.

    Without any row where one of the attacks failed on more than a few samples: that says nothing
    about the model, and what is left, misclassified samples above all, is no fair draw.
    """
    own = rows["measurement_id"].is_in(list(attacks)) & rows.select(at).to_series()
    if _failing(rows.filter(own)):
        return rows.clear()
    return rows.filter(~(own & rows.select(_FAILED).to_series()))


def survival(
    rows: pl.DataFrame, attacks: Collection[str], eps: float, others: Collection[str] = ()
) -> pl.DataFrame:
    """Per sample: does it fall to any of these attacks inside the ball of radius eps?

    Balls are nested, so a success at a smaller eps counts too, also that of another attack of the
    norm: robust accuracy never rises with eps. A min-norm attack breaks a sample at `distance <=
    eps`. So one number per row, the smallest eps it breaks, is all that is compared.

    A sample is covered by an attack that has a row for it whose check did not fail (the attack
    raised, left the ball, gave no numbers). If more than a few failed, there is no answer at all.
    An attack that found no place to start from has not failed: not finding is its result.

    Args:
        rows: Attack rows.
        attacks: Measurement ids, all of one norm, each run at this eps or min-norm.
        eps: Radius of the ball.
        others: Further measurements of the norm, which may break a sample but cover none.

    Returns:
        `sample, broken`: only the samples that every one of the attacks has covered.
    """
    min_norm = pl.col("eps").is_null()
    rows = _sound(rows, attacks, min_norm | (pl.col("eps") == eps)) if attacks else rows.clear()
    breaks_from = pl.coalesce("eps", "distance")
    asked = pl.col("measurement_id").is_in(list(attacks))
    return (
        rows.lazy()
        .filter(
            pl.col("measurement_id").is_in([*attacks, *others]), min_norm | (pl.col("eps") <= eps)
        )
        .group_by("sample")
        .agg(
            broken=(pl.col("success") & (breaks_from <= eps)).any(),
            covered=pl.col("measurement_id")
            .filter(asked & (min_norm | (pl.col("eps") == eps)))
            .unique()
            .len(),
        )
        .filter(pl.col("covered") == len(set(attacks)))
        .select("sample", "broken")
        .sort("sample")
        .collect()
    )


def summarise(rows: pl.DataFrame, attack: str, eps: float | None) -> AttackSummary:
    """One attack by itself; `eps` None asks of a min-norm attack whether it found anything."""
    own = rows.filter(pl.col("measurement_id") == attack)
    if eps is None:
        own = _sound(own, [attack], pl.col("eps").is_null())
        samples = own.select("sample", broken="success")
    else:
        samples = survival(own, [attack], eps)
    n, broken, wrong = len(samples), int(samples["broken"].sum()), wrong_among(samples, own)
    return AttackSummary(
        n=n,
        robust=n - broken,
        clean=n - wrong,
        attack_success_rate=wilson(broken - wrong, n - wrong),
        attack_success_rate_n=n - wrong,
    )


def wrong_among(samples: pl.DataFrame, rows: pl.DataFrame) -> int:
    """How many of the broken samples are misclassified without any attack.

    Args:
        samples: `sample, broken`, as of `survival`.
        rows: Attack rows that these samples are broken by.
    """
    wrong = rows.filter(MISCLASSIFIED)["sample"].unique()
    return len(samples.filter(pl.col("broken"), pl.col("sample").is_in(wrong.implode())))


def distances(
    rows: pl.DataFrame, attacks: Collection[str], others: Collection[str] = ()
) -> Distances:
    """The closest that any of these attacks came, per sample, on samples that all have covered.

    Args:
        rows: Attack rows.
        attacks: Measurement ids of min-norm attacks of one norm.
        others: Further measurements of the norm, which may come closer but cover no sample.

    Source: the median over all samples as in Schott et al. 2019, section 5.
    """
    distance = reached(rows, attacks, others)["distance"]
    found = distance.filter(distance.is_finite() & (distance > 0))
    mean = found.mean()
    median = order_statistic_median(distance.to_numpy()) if len(distance) else NO_DATA
    return Distances(
        n=len(distance),
        median=median._replace(low=max(0.0, median.low)) if len(distance) else median,
        mean=float(mean) if isinstance(mean, float) else float("nan"),
        mean_n=len(found),
    )


def reached(
    rows: pl.DataFrame, attacks: Collection[str], others: Collection[str] = ()
) -> pl.DataFrame:
    """Per sample that all of these attacks have covered, the closest that any came.

    Returns:
        `sample, distance`; infinite where none found an adversarial.
    """
    asked = pl.col("measurement_id").is_in(list(attacks))
    of_all = _sound(rows, attacks, pl.col("eps").is_null()) if attacks else rows.clear()
    success, distance = pl.col("success"), pl.col("distance")
    return (
        of_all.lazy()
        .filter(pl.col("measurement_id").is_in([*attacks, *others]))
        .group_by("sample")
        .agg(
            distance=pl.when(success).then(distance).otherwise(float("inf")).min(),
            covered=pl.col("measurement_id").filter(asked).unique().len(),
        )
        .filter(pl.col("covered") == len(set(attacks)))
        .sort("sample")
        .select("sample", "distance")
        .collect()
    )


def breaks_from(rows: pl.LazyFrame) -> pl.DataFrame:
    """The smallest radius at which any attack broke a sample, and which attack did.

    The distance of the stored adversarial counts, also for a fixed-eps attack: it may lie well
    inside the ball it was sought in.

    Args:
        rows: Attack rows of any models.

    Returns:
        `model_id, dataset, split, norm, sample, radius, by`.
    """
    return (
        rows.filter("success")
        .with_columns(radius=pl.coalesce("distance", "eps"))
        .group_by(*MODEL, "norm", "sample")
        .agg(pl.col("radius").min(), by=pl.col("attack").sort_by("radius").first())
        .collect()
    )
