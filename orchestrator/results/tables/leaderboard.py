"""The leaderboard: per trained model and ball, every headline metric side by side."""

from collections.abc import Iterator, Sequence

import polars as pl

from robsweep.orchestrator.results.metrics import verification
from robsweep.orchestrator.results.metrics.calibration import measured
from robsweep.orchestrator.results.metrics.extent import NOT_ASKED, extent
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.attacks import attack_rows, survived
from robsweep.orchestrator.results.tables.calibration import (
    accuracy,
    calibrated,
    prediction_rows,
    scaled_extent,
    scaled_predictions,
    scalings,
)
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.orchestrator.results.tables.honesty import UNCHECKED, honesty_of
from robsweep.orchestrator.results.tables.ood import hardest, ood_rows
from robsweep.orchestrator.results.tables.optimality import distances_at
from robsweep.orchestrator.results.tables.verification import at, bracketed, verified
from robsweep.tasks.catalogue.values import PLAIN

_OF_BALLS = ("robust_accuracy", "verified_accuracy", "bracket")


def leaderboard(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per model, norm and eps; one row with neither where a model has no ball.

    `robust_accuracy` is the worst case over all attacks of the norm that work, `missing_attacks`
    those that do not. `auroc` is that of the first scorer on the OOD set where it is lowest;
    `auroc_of` names both. `honesty` is what the honesty checks say of the attacks.
    """
    return frame("leaderboard", (row for model in models for row in _rows(model, models, read)))


def _rows(model: Model, models: Sequence[Model], read: Read) -> Iterator[Row]:
    whole_model = {
        **_clean(model, models, read),
        **hardest(list(ood_rows(model, read))),
        **{f"{name}_status": NOT_ASKED for name in _OF_BALLS},
        "warnings": model.warnings,
    }
    attacked = attack_rows(model, read)
    final = verification.final_verdicts(read("verification", model.of("screen")).collect())
    honesty = honesty_of(model, read)
    for norm, eps in model.balls():
        here = at(final, norm, eps)
        here_attacked = bool(model.attacks_at(norm, eps))
        flag = honesty.get(norm, UNCHECKED).at(attacked=here_attacked)
        row = {**whole_model, "norm": norm, "eps": eps, "honesty": flag}
        if here_attacked:
            row |= survived(model, norm, eps, attacked)
        row |= distances_at(model, norm, read)
        if model.screens_at(norm, eps):
            row |= verified(model, (PLAIN, norm, eps), here)
            row |= bracketed(model, norm, eps, here, attacked)
        yield row
    if not model.balls():
        yield whole_model


def _clean(model: Model, models: Sequence[Model], read: Read) -> Row:
    clean = model.of("predict", "clean")
    predictions = prediction_rows(clean, read)
    plain = calibrated(predictions)
    row: Row = {
        **model.names,
        **accuracy("clean_accuracy", predictions, clean),
        **estimate("ece", plain.ece),
        "ece_n": plain.n,
        **extent("ece", one_of=clean),
        "ece_scaled_status": NOT_ASKED,
    }
    for fit in scalings(model, read):
        row |= scaled_extent(fit, clean, "ece_scaled")
        after = scaled_predictions(fit, predictions, models, read)
        if after is not None:
            scaled = measured(after)
            row |= {**estimate("ece_scaled", scaled.ece), "ece_scaled_n": scaled.n}
            row["ece_scaled_at_bound"] = fit.at_bound
        break  # the first fit of the sweep file; the calibration table has them all
    return row
