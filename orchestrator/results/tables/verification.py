"""The table of verification, and the bracket."""

from collections.abc import Sequence

import polars as pl

from robsweep.orchestrator.ranges import subtract, union
from robsweep.orchestrator.results.metrics import attacks, verification
from robsweep.orchestrator.results.metrics.estimates import estimates
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate, rate
from robsweep.orchestrator.results.tables.attacks import attack_rows, that_work
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.orchestrator.results.tables.honesty import UNCHECKED, honesty_of
from robsweep.orchestrator.results.tables.optimality import distances_at
from robsweep.tasks.catalogue.values import CLOSEST, DISTANCE, PLAIN

Question = tuple[str, str | None, float | None]  # property, norm, eps


def verification_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per property, norm and eps, with a count of samples for each final verdict.

    Plain robustness comes first, and only it has a bracket. Estimates of a distance verify
    nothing: they have a median, and a count of the samples on which an attack refutes them.
    """
    rows: list[Row] = []
    for model in models:
        screens = model.of("screen")
        if not screens:
            continue
        final = verification.final_verdicts(read("verification", screens).collect())
        standing, honesty = attack_rows(model, read), honesty_of(model, read)
        for norm, eps in model.balls():
            if model.screens_at(norm, eps):
                here = at(final, norm, eps)
                row = _answered(model, (PLAIN, norm, eps), here)
                row |= bracketed(model, norm, eps, here, standing)
                here_attacked = bool(model.attacks_at(norm, eps))
                flag = honesty.get(norm, UNCHECKED).at(attacked=here_attacked)
                rows.append({**row, "honesty": flag})
        for question, screens_here in model.other_questions().items():
            if question[0] == DISTANCE:
                rows.append(_estimated(model, question[1], screens_here, read))
                continue
            here = at(final, *question[1:], property_=question[0])
            rows.append(_answered(model, question, here) | _number(model, question, here, read))
    return frame("verification", rows)


def at(
    rows: pl.DataFrame, norm: str | None, eps: float | None, *, property_: str = PLAIN
) -> pl.DataFrame:
    """The verdicts about one question."""
    return rows.filter(
        pl.col("property") == property_, pl.col("norm") == norm, pl.col("eps").eq_missing(eps)
    )


def verified(model: Model, question: Question, final: pl.DataFrame) -> Row:
    """Verified accuracy: a sample that is open, or not solved yet, counts as not verified."""
    unsolved = _unsolved(model, question, final)
    return {
        **rate("verified_accuracy", int((final["verdict"] == "verified").sum()), len(final)),
        **extent(
            "verified_accuracy",
            one_of=_screens(model, question),
            unsolved=len(unsolved),
            failed=_stuck(model, question, unsolved),
        ),
        "unsolved": len(unsolved) or None,
    }


def bracketed(
    model: Model, norm: str, eps: float, final: pl.DataFrame, attacked: pl.DataFrame
) -> Row:
    """The bracket on the samples that have both sides, and what is right there without attacks.

    The lower side is what is verified, the upper one what survives every attack that works and
    every counterexample of the verifier.
    """
    together = that_work(model.attacks_at(norm, eps), attacked, eps)
    of_norm = attacked.filter(pl.col("measurement_id").is_in(model.attacks_of(norm)))
    survivors = None
    if together.asked:
        survivors = attacks.survival(attacked, together.ids, eps, model.attacks_of(norm))
    both = verification.bracket(final, survivors, of_norm)
    question = (PLAIN, norm, eps)
    unsolved = _unsolved(model, question, final)
    return {
        "bracket_low": both.verified / both.n if both.n else None,
        "bracket_high": both.unbroken / both.n if both.n else None,
        "bracket_n": both.n,
        "bracket_clean": both.clean / both.n if both.n else None,
        **extent(
            "bracket",
            together.asked,
            _screens(model, question),
            unsolved=len(unsolved),
            failed=_stuck(model, question, unsolved),
        ),
        "missing_attacks": together.text,
    }


def _screens(model: Model, question: Question) -> list[Asked]:
    property_, norm, eps = question
    if property_ == PLAIN and norm is not None and eps is not None:
        return model.screens_at(norm, eps)
    return model.other_questions()[question]


def _solves(model: Model, question: Question) -> list[Asked]:
    property_, norm, eps = question
    return [
        a
        for a in model.of("solve")
        if a.property == property_ and a.norm == norm and (eps in a.eps if a.eps else eps is None)
    ]


def _unsolved(model: Model, question: Question, final: pl.DataFrame) -> list[int]:
    """Samples that the screen has left open, and whose solve has not run yet."""
    if not _solves(model, question):
        return []
    left_open = ~pl.col("verdict").is_in(verification.PROOFS) | ~pl.col("exact").fill_null(
        value=True
    )
    return final.filter(left_open, ~pl.col("solved"))["sample"].to_list()


def _stuck(model: Model, question: Question, unsolved: Sequence[int]) -> bool:
    """Whether all of these solves have failed."""
    failed = union(piece for a in _solves(model, question) for piece in a.failed)
    return bool(unsolved) and not subtract(union((s, s + 1) for s in unsolved), failed)


def _answered(model: Model, question: Question, final: pl.DataFrame) -> Row:
    counts = dict(final["verdict"].value_counts().iter_rows())
    row: Row = {
        **model.names,
        **dict(zip(("property", "norm", "eps"), question, strict=True)),
        **verified(model, question, final),
    }
    if len(final):
        row |= {verdict: counts.get(verdict, 0) for verdict in verification.RANK}
        row["over_reals"] = verification.over_reals(final)
        row["seconds"] = final["seconds"].sum()
        row["carried"] = int(final["carried_from_eps"].is_not_null().sum())
        row["exact"] = int(final["exact"].sum())
    return row


def _number(model: Model, question: Question, final: pl.DataFrame, read: Read) -> Row:
    """What a question for a number has found, from both sides."""
    property_, norm, _ = question
    if property_ == CLOSEST:
        return distances_at(model, str(norm), read)
    if not property_.endswith(" worst"):
        return {}
    both = final.select("lower_bound", "upper_bound").drop_nulls()
    return {
        "mean_worst_margin_lower": both["lower_bound"].mean(),
        "mean_worst_margin_upper": both["upper_bound"].mean(),
        "mean_worst_margin_n": len(both),
    }


def _estimated(model: Model, norm: str | None, screens: Sequence[Asked], read: Read) -> Row:
    rows = at(read("verification", screens).collect(), norm, None, property_=DISTANCE)
    attacked = attack_rows(model, read)
    of_norm = attacked.filter(pl.col("measurement_id").is_in(model.attacks_of(norm)))
    measured = estimates(rows, of_norm)
    wrong = rows.filter(pl.col("verdict") == "misclassified")["sample"].n_unique()
    return {
        **model.names,
        "property": DISTANCE,
        "norm": norm,
        "misclassified": wrong,
        "unknown": measured.n - wrong,
        "seconds": rows["seconds"].sum(),
        **estimate("estimate_median", measured.median),
        "estimate_median_n": measured.n,
        **extent("estimate_median", one_of=screens),
        "estimate_violations": measured.violations,
        "estimate_violations_n": measured.violations_n,
    }
