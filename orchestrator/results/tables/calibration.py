"""The table of calibration, and what other tables say of predictions."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from robsweep.orchestrator.results.metrics.calibration import (
    Calibration,
    Predicted,
    classwise_ece,
    equal_mass_ece,
    if_calibrated,
    legacy_errors,
    measured,
    predicted,
    rms_error,
)
from robsweep.orchestrator.results.metrics.calibration_scaling import (
    Fitted,
    members_of,
    scaled,
    voted,
)
from robsweep.orchestrator.results.metrics.calibration_smooth import smooth_ece
from robsweep.orchestrator.results.metrics.extent import NOT_RUN, extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate, known, rate
from robsweep.orchestrator.results.tables.columns import Read, Row, frame

UNDEFINED = "undefined"  # the fit has run, and there is none


class Scaling(NamedTuple):
    """A fit of the sweep file; without one where it has not run or is not defined."""

    asked: Asked
    fit: Fitted | None  # None: it has not run, or is not defined
    at_bound: bool | None = None  # None: a store of before
    why: str | None = None  # at a bound, or not defined

    @property
    def temperature(self) -> float | None:
        return None if self.fit is None else self.fit.temperature


def calibration_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per model and scaling, `none` first, on the clean evaluation split.

    `at_bound` where no fit is best, so that it stands at the last one it may; `scaling_why` says
    why that is, or why there is no fit.
    """
    rows: list[Row] = []
    for model in models:
        clean = model.of("predict", "clean")
        if not clean:
            continue
        predictions = prediction_rows(clean, read)
        unscaled = {**_everything(predictions_of(predictions)), **extent("ece", one_of=clean)}
        rows.append({**model.names, "scaling": "none", "temperature": 1.0, **unscaled})
        for one in scalings(model, read):
            row: Row = {**model.names, "scaling": one.asked.entry, **scaled_extent(one, clean)}
            after = scaled_predictions(one, predictions, models, read)
            if after is not None:
                row |= _everything(after)
                row |= {"temperature": one.temperature, "at_bound": one.at_bound}
            elif one.fit is not None:
                row |= {"ece_status": NOT_RUN}
                row |= {"scaling_why": "a member has no clean predictions of these samples"}
            rows.append({"scaling_why": one.why, **row})
    return frame("calibration", rows)


def scalings(model: Model, read: Read) -> Iterator[Scaling]:
    """The fits that were asked of a model, in plan order."""
    asked = model.of("calibrate")
    needed = ("measurement_id", "temperature", "parameters_json", "at_bound", "why")
    rows = read("calibration", asked).select(needed).collect().rows()
    found = {row[0]: row[1:] for row in rows}
    for one in asked:
        if one.measurement_id not in found:
            yield Scaling(one, None)
            continue
        temperature, parameters, at_bound, why = found[one.measurement_id]
        fit = Fitted(temperature, parameters)
        yield Scaling(one, fit if fit.defined else None, at_bound, why)


def scaled_extent(
    fit: Scaling, predictions: Sequence[Asked], name: str = "ece"
) -> dict[str, int | str | None]:
    """How far a scaled number is: it needs a fit, which has no samples, and predictions."""
    columns = extent(name, one_of=predictions)
    if fit.fit is None:
        status = extent("", [fit.asked])["_status"]
        columns[f"{name}_status"] = UNDEFINED if status == "done" else status
    return columns


def prediction_rows(asked: Iterable[Asked], read: Read) -> pl.DataFrame:
    """What metrics need of predictions."""
    needed = ("sample", "label", "predicted", "logits", "confidence")
    return read("predictions", asked).select(needed).collect()


def predictions_of(rows: pl.DataFrame, fit: Fitted | None = None) -> Predicted:
    """Prediction rows of one model, after a fit.

    Unscaled, the stored confidence counts: some models have another one than the softmax.
    """
    n = len(rows)
    own = rows["confidence"].to_numpy().astype(np.float64) if fit is None else None
    logits = rows["logits"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    labels = rows["label"].to_numpy().astype(np.int64)
    shaped = logits.reshape(n, -1) if n else logits.reshape(0, 1)
    return predicted(shaped if fit is None or not n else scaled(shaped, fit), labels, own)


def scaled_predictions(
    one: Scaling, rows: pl.DataFrame, models: Sequence[Model], read: Read
) -> Predicted | None:
    """Prediction rows after a scaling; None where there is no fit, or members have not all run.

    Members that are scaled before the vote are taken from their own clean predictions.
    """
    if one.fit is None:
        return None
    members = members_of(one.fit)
    if not members:
        return predictions_of(rows, one.fit)
    by_id = {model.model_id: model for model in models}
    found = []
    for key in members:
        clean = by_id[key].of("predict", "clean") if key in by_id else []
        theirs = prediction_rows(clean, read) if clean else rows.clear()
        aligned = rows.select("sample").join(theirs, on="sample", maintain_order="left")
        if len(aligned) < len(rows) or rows.is_empty():
            return None
        logits = aligned["logits"].explode(empty_as_null=False).to_numpy().astype(np.float64)
        found.append(logits.reshape(len(rows), -1))
    labels = rows["label"].to_numpy().astype(np.int64)
    return predicted(voted(found, one.fit), labels)


def calibrated(rows: pl.DataFrame, fit: Fitted | None = None) -> Calibration:
    """Calibration of prediction rows of one model, after a fit."""
    return measured(predictions_of(rows, fit))


def accuracy(name: str, predictions: pl.DataFrame, asked: Sequence[Asked]) -> Row:
    """Accuracy of prediction rows, as columns."""
    correct = int((predictions["predicted"] == predictions["label"]).sum())
    return {**rate(name, correct, len(predictions)), **extent(name, one_of=asked)}


def _everything(of: Predicted) -> Row:
    """All columns of one row."""
    found = measured(of)
    mass, rms = equal_mass_ece(of), rms_error(of)
    noise = if_calibrated(of.confidence)
    smooth = smooth_ece(of.confidence, of.correct)
    old = legacy_errors(of.confidence, of.correct)
    return {
        **estimate("ece", found.ece),
        "ece_n": found.n,
        "rms_ce": known(found.rms_ce),
        "mce": known(found.mce),
        **estimate("ece_equal_mass", mass.seen),
        "brier": known(found.brier),
        "nll": known(found.nll),
        "ece_debiased": known(found.ece_debiased),
        "ece_if_calibrated": known(noise.mean),
        "ece_if_calibrated_high": known(noise.high),
        "ece_equal_mass_debiased": known(mass.debiased),
        "rms_ce_rough_low": known(rms.seen.low),
        "rms_ce_rough_high": known(rms.seen.high),
        "rms_ce_debiased": known(rms.debiased),
        "smooth_ece": known(smooth.seen.value),
        "smooth_ece_rough_low": known(smooth.seen.low),
        "smooth_ece_rough_high": known(smooth.seen.high),
        "smooth_ece_debiased": known(smooth.debiased),
        "smooth_ece_bandwidth": known(smooth.bandwidth),
        "classwise_ece": known(classwise_ece(of)),
        "few_errors": found.few_errors if found.n else None,
        **rate("scaled_accuracy", int(of.correct.sum()), found.n),
        "legacy_ece": known(old.ece),
        "legacy_rms_ce": known(old.rms_ce),
        "legacy_mce": known(old.mce),
    }
