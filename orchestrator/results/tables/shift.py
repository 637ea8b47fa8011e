"""The table of distribution shift."""

import json
from collections.abc import Mapping, Sequence

import polars as pl

from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.calibration import (
    accuracy,
    calibrated,
    prediction_rows,
)
from robsweep.orchestrator.results.tables.columns import Read, Row, frame


def shift_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per entry and severity.

    `corruption_error` is the mean of 1 - accuracy over the severities of one entry, and
    `mean_corruption_error` that over a model's corruptions: unnormalised, not relative to a
    reference network. Both are on the samples that all of their rows have. A corruption that a
    sweep names twice, with other parameters, has two errors and no mean over them.

    Source: Hendrycks & Dietterich 2019, section 4.1, without the division by AlexNet's errors.
    """
    rows = [row for model in models for row in _rows(model, read)]
    return frame("shift", rows)


def _rows(model: Model, read: Read) -> list[Row]:
    asked = model.of("predict", "shift")
    wrong = {a.measurement_id: prediction_rows([a], read) for a in asked}
    entries: dict[tuple[str, str], list[Asked]] = {}
    for a in asked:
        entries.setdefault(_entry(a), []).append(a)
    corruptions = [_corruption(severities[0]) for severities in entries.values()]
    once = asked and len(corruptions) == len(set(corruptions))
    mean = _mean("mean_corruption_error", [*entries.values()], wrong) if once else {}
    errors = {key: _mean("corruption_error", [own], wrong) for key, own in entries.items()}
    return [
        {**model.names, **_one(a, wrong[a.measurement_id]), **errors[_entry(a)], **mean}
        for a in asked
    ]


def _one(asked: Asked, rows: pl.DataFrame) -> Row:
    measured = calibrated(rows)
    parameters = asked.params.get("parameters") or {}
    return {
        "entry": _entry(asked)[0],
        "corruption": _corruption(asked),
        "parameters": ", ".join(f"{key}={value}" for key, value in parameters.items()) or None,
        "severity": int(asked.params["source"].rpartition(":")[2]),
        **accuracy("accuracy", rows, [asked]),
        **estimate("ece", measured.ece),
        "ece_n": measured.n,
        **extent("ece", [asked]),
    }


def _corruption(asked: Asked) -> str:
    return str(asked.params["source"].removeprefix("corruption:").rpartition(":")[0])


def _entry(asked: Asked) -> tuple[str, str]:
    """What the severities of one corruption have in common: its name in the sweep file, the rest.

    A name ends with the values of its axes, such as `blur[severity=3,width=2]`.
    """
    name, bracket, axes = asked.entry.partition("[")
    others = [axis for axis in axes.rstrip("]").split(",") if not axis.startswith("severity=")]
    shown = f"{name}[{','.join(others)}]" if bracket and any(others) else name
    rest = {key: value for key, value in asked.params.items() if key != "source"}
    return shown, json.dumps({**rest, "of": _corruption(asked)}, sort_keys=True)


def _mean(name: str, groups: Sequence[Sequence[Asked]], rows: Mapping[str, pl.DataFrame]) -> Row:
    """The mean over groups of the mean error over each one's rows, on samples that all have."""
    every = [a for group in groups for a in group]
    columns: Row = extent(name, every)
    common = [rows[a.measurement_id].select("sample") for a in every]
    samples = common[0]
    for other in common[1:]:
        samples = samples.join(other, on="sample", how="semi")
    columns[f"{name}_n"] = len(samples)
    if samples.is_empty():
        return columns

    def error(asked: Asked) -> float:
        here = rows[asked.measurement_id].join(samples, on="sample", how="semi")
        return 1 - int((here["predicted"] == here["label"]).sum()) / len(here)

    means = [sum(map(error, group)) / len(group) for group in groups]
    return {**columns, name: sum(means) / len(means)}
