"""What is proved."""

from typing import NamedTuple

import polars as pl

from robsweep.orchestrator.results.metrics.attacks import MISCLASSIFIED, MODEL
from robsweep.tasks.catalogue.values import NUMBERS

# One sample has several rows (screen, solve, retry). Of contradicting proofs the worse one stands,
# and `contradictions` says so.
RANK = {
    "misclassified": 0,
    "falsified": 1,
    "verified": 2,
    "timeout": 3,
    "unknown": 4,
    "error": 5,
}
BROKEN = ("misclassified", "falsified")
PROOFS = (*BROKEN, "verified")
_NUMBER = rf" ({'|'.join(NUMBERS)})$"  # ends the property of a question for a number
OF_THE_LABEL = r"^untargeted( margin=\S+)?$"  # properties that any adversarial in the ball breaks


class Bracket(NamedTuple):
    """Counts of samples; the true robustness lies between `verified` and `unbroken`."""

    n: int
    verified: int
    unbroken: int
    clean: int  # right without any attack; never fewer than unbroken


def final_verdicts(rows: pl.DataFrame) -> pl.DataFrame:
    """The verdict that counts per model, data, property, norm, eps and sample.

    A proof beats a timeout, that an unknown, that an error; of equals, the tightest bound counts.

    Returns:
        The deciding rows, whole, sorted by these, and `solved`: whether any row about the very
        question is a solver's.
    """
    ball = [*MODEL, "property", "norm", "eps", "sample"]
    solver = pl.col("measurement_id").str.starts_with("solve-")
    return (
        rows.with_columns(solved=solver.any().over(ball))
        .with_columns(_rank=pl.col("verdict").replace_strict(RANK, return_dtype=pl.Int8))
        .sort(
            *ball,
            "_rank",
            pl.col("exact").fill_null(value=True),
            "lower_bound",
            "distance_lower_reals",
            descending=[False] * (len(ball) + 1) + [True] * 3,
            maintain_order=True,
            nulls_last=True,
        )
        .unique(ball, keep="first", maintain_order=True)
        .drop("_rank")
    )


def over_reals(final: pl.DataFrame) -> int:
    """How many samples are proved over the reals, but not as the network runs, in float32.

    Rows from before proofs were about float32 have no arithmetic; what they verify was proved over
    the reals, with a margin of 1e-6.
    """
    open_ones = final["verdict"].is_in(["unknown", "timeout"])
    return int((open_ones & (final["arithmetic"] == "reals")).fill_null(value=False).sum())


def bracket(final: pl.DataFrame, survivors: pl.DataFrame | None, attacked: pl.DataFrame) -> Bracket:
    """Both sides on the same samples.

    The upper side is what survives every attack and every counterexample of the verifier.

    Args:
        final: Rows of `final_verdicts` of one model, norm and eps: one per sample.
        survivors: `sample, broken` of `attacks.survival`; None where no attack is planned, so that
            the verifier's own counterexamples are the only upper side.
    """
    if survivors is None:
        survivors = final.select("sample", broken=pl.lit(False))
    both = final.join(survivors, on="sample", how="inner")
    broken = both["broken"] | both["verdict"].is_in(BROKEN)
    misclassified = attacked.filter(MISCLASSIFIED)["sample"].unique()
    wrong = both["broken"] & both["sample"].is_in(misclassified.implode())
    wrong |= both["verdict"] == "misclassified"
    return Bracket(
        n=len(both),
        verified=int((both["verdict"] == "verified").sum()),
        unbroken=len(both) - int(broken.sum()),
        clean=len(both) - int(wrong.sum()),
    )


def contradictions(verification: pl.DataFrame, broken: pl.DataFrame) -> pl.DataFrame:
    """Samples that are proved robust and yet broken inside the proved ball: a soundness alarm.

    Balls of one norm are nested, so a proof at eps speaks of every smaller radius too. A box has no
    eps: only verdicts about the same one can contradict each other. What an attack has broken
    contradicts proofs of untargeted robustness in a ball, with any margin.

    Args:
        verification: All rows, not only the final ones.
        broken: `attacks.breaks_from` of the same models.

    Returns:
        `model_id, dataset, split, norm, sample, property, verified_eps, verified_by,
        broken_radius, broken_by`; one row per way of being broken.
    """
    place = [*MODEL, "norm", "sample"]
    verification = _as_verdicts(verification)
    proved = (
        verification.filter(pl.col("verdict") == "verified")
        .group_by([*place, "property"])
        .agg(
            verified_eps=pl.col("eps").max(),
            verified_by=pl.col("decided_by").sort_by("eps").last(),
        )
    )
    radius = (
        pl.when(pl.col("verdict") == "misclassified")
        .then(0.0)
        .otherwise(pl.min_horizontal("eps", "distance_upper"))
    )
    falsified = (
        verification.filter(pl.col("verdict").is_in(BROKEN))
        .with_columns(radius=radius)
        .group_by([*place, "property"])
        .agg(pl.col("radius").min(), by=pl.col("decided_by").sort_by("radius").first())
    )
    found = pl.concat(
        [
            proved.join(falsified, on=[*place, "property"], how="inner"),
            proved.filter(pl.col("property").str.contains(OF_THE_LABEL)).join(
                broken, on=place, how="inner"
            ),
        ]
    )
    inside = (pl.col("radius") <= pl.col("verified_eps")) | pl.col("verified_eps").is_null()
    return (
        found.filter(inside)
        .rename({"radius": "broken_radius", "by": "broken_by"})
        .select(*place, "property", "verified_eps", "verified_by", "broken_radius", "broken_by")
        .sort(*place, "broken_radius")
    )


def _as_verdicts(rows: pl.DataFrame) -> pl.DataFrame:
    """What questions for a number have proved, as verdicts on robustness.

    Nothing adversarial is nearer than `distance_lower`, and `distance_upper` is one's distance.
    """
    closest = pl.col("property").str.ends_with(" closest")
    near = rows.filter(closest).filter(pl.col("distance_lower") > 0)
    proofs = near.with_columns(verdict=pl.lit("verified"), eps="distance_lower")
    others = rows.with_columns(
        verdict=pl.when(closest & (pl.col("verdict") == "verified"))
        .then(pl.lit("unknown"))  # of a whole cube, which `proofs` has already
        .otherwise("verdict")
    )
    property_ = pl.col("property").str.replace(_NUMBER, "")
    return pl.concat([others, proofs]).with_columns(property=property_)
