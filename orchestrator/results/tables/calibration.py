"""The table of calibration, and what other tables say of predictions."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl

from robsweep.orchestrator.results.metrics.calibration import Calibration, calibration
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate, known, rate
from robsweep.orchestrator.results.tables.columns import Read, Row, frame


class Scaling(NamedTuple):
    """A fit of the sweep file; without a temperature where it has not run."""

    asked: Asked
    temperature: float | None
    at_bound: bool | None  # None: a store of before


def calibration_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per model and scaling, `none` first, on the clean evaluation split.

    `at_bound` where no temperature is best, so that the fit stands at the last one it may.
    """
    rows: list[Row] = []
    for model in models:
        clean = model.of("predict", "clean")
        if not clean:
            continue
        predictions = prediction_rows(clean, read)
        measured = calibrated(predictions)
        unscaled = {**_measures(measured), **extent("ece", one_of=clean)}
        rows.append({**model.names, "scaling": "none", "temperature": 1.0, **unscaled})
        for fit in scalings(model, read):
            row: Row = {**model.names, "scaling": fit.asked.entry, **scaled_extent(fit, clean)}
            if fit.temperature is not None:
                row |= _measures(calibrated(predictions, fit.temperature))
                row |= {"temperature": fit.temperature, "at_bound": fit.at_bound}
            rows.append(row)
    return frame("calibration", rows)


def scalings(model: Model, read: Read) -> Iterator[Scaling]:
    """The fits that were asked of a model, in plan order."""
    asked = model.of("calibrate")
    needed = ("measurement_id", "temperature", "at_bound")
    fitted = {row[0]: row[1:] for row in read("calibration", asked).select(needed).collect().rows()}
    for fit in asked:
        yield Scaling(fit, *fitted.get(fit.measurement_id, (None, None)))


def scaled_extent(
    fit: Scaling, predictions: Sequence[Asked], name: str = "ece"
) -> dict[str, int | str | None]:
    """How far a scaled number is: it needs a fit, which has no samples, and predictions."""
    columns = extent(name, one_of=predictions)
    if fit.temperature is None:
        columns[f"{name}_status"] = extent("", [fit.asked])["_status"]
    return columns


def prediction_rows(asked: Iterable[Asked], read: Read) -> pl.DataFrame:
    """What metrics need of predictions."""
    needed = ("sample", "label", "predicted", "logits", "confidence")
    return read("predictions", asked).select(needed).collect()


def calibrated(rows: pl.DataFrame, temperature: float | None = None) -> Calibration:
    """Calibration of prediction rows of one model, after dividing the logits by the temperature.

    Unscaled, the stored confidence counts: some models have another one than the softmax.
    """
    n = len(rows)
    own = rows["confidence"].to_numpy().astype(np.float64) if temperature is None else None
    logits = rows["logits"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    labels = rows["label"].to_numpy().astype(np.int64)
    shaped = logits.reshape(n, -1) if n else logits.reshape(0, 1)
    return calibration(shaped, labels, 1.0 if temperature is None else temperature, own)


def accuracy(name: str, predictions: pl.DataFrame, asked: Sequence[Asked]) -> Row:
    """Accuracy of prediction rows, as columns."""
    correct = int((predictions["predicted"] == predictions["label"]).sum())
    return {**rate(name, correct, len(predictions)), **extent(name, one_of=asked)}


def _measures(measured: Calibration) -> Row:
    return {
        **estimate("ece", measured.ece),
        "ece_n": measured.n,
        "rms_ce": known(measured.rms_ce),
        "mce": known(measured.mce),
        **estimate("ece_equal_mass", measured.ece_equal_mass),
        "brier": known(measured.brier),
        "nll": known(measured.nll),
    }
