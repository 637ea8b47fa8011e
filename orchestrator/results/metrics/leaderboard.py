"""The leaderboard: per trained model and ball, every headline metric side by side."""

from collections.abc import Iterator, Sequence

import polars as pl

from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results.metrics import verification
from robsweep.orchestrator.results.metrics.planned import Model, any_wanted
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.metrics.tables import (
    Read,
    Row,
    accuracy,
    at,
    attack_rows,
    bracketed,
    calibrated_rows,
    frame,
    ood_rows,
    survived,
    temperatures,
    verified,
)


def leaderboard(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per model, norm and eps; one row with neither where a model has no ball.

    `robust_accuracy` is the worst case over all attacks of the norm. `auroc` is that of the first
    scorer on the OOD set where it is lowest; `auroc_of` names both.
    """
    return frame("leaderboard", (row for model in models for row in _rows(model, read)))


def _rows(model: Model, read: Read) -> Iterator[Row]:
    whole_model = {**_clean(model, read), **_worst_auroc(model, read)}
    attacked = attack_rows(model, read)
    final = verification.final_verdicts(read("verification", model.of("screen")).collect())
    for norm, eps in model.balls():
        here = at(final, norm, eps)
        row = {**whole_model, "norm": norm, "eps": eps}
        if together := model.attacks_at(norm, eps):
            row |= survived(model, together, attacked, eps)
        if screens := model.screens_at(norm, eps):
            row |= verified(here)
            row |= {"verified_accuracy_wanted": total(any_wanted(screens))}
            row |= bracketed(model, norm, eps, here, attacked)
        yield row
    if not model.balls():
        yield whole_model


def _clean(model: Model, read: Read) -> Row:
    clean = model.of("predict", "clean")
    needed = ("label", "predicted", "logits", "confidence")
    predictions = read("predictions", clean).select(needed).collect()
    plain = calibrated_rows(predictions, 1.0)
    wanted = total(any_wanted(clean))
    row: Row = {
        **model.names,
        "dataset": clean[0].dataset if clean else None,
        **accuracy("clean_accuracy", predictions),
        "clean_accuracy_wanted": wanted,
        **estimate("ece", plain.ece),
        "ece_n": plain.n,
        "ece_wanted": wanted,
    }
    for _, temperature in temperatures(model, read):
        scaled = calibrated_rows(predictions, temperature)
        row |= estimate("ece_scaled", scaled.ece)
        row |= {"ece_scaled_n": scaled.n, "ece_scaled_wanted": wanted}
        break  # the first fit of the sweep file; the calibration table has them all
    return row


def _worst_auroc(model: Model, read: Read) -> Row:
    rows = list(ood_rows(model, read))
    if not rows:
        return {}
    first = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    worst = min(first, key=lambda row: float("inf") if row["auroc"] is None else row["auroc"])
    row = {key: value for key, value in worst.items() if key.startswith("auroc")}
    if row["auroc"] is None:
        return row
    return {**row, "auroc_of": f"{worst['scorer']} / {worst['ood_set']}"}
