"""The table `joint`: one row per question, model and condition."""

from collections.abc import Iterator, Sequence

import polars as pl

from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.orchestrator.results.tables.joint.conditions import conditions
from robsweep.orchestrator.results.tables.joint.confidence import confidence_rows
from robsweep.orchestrator.results.tables.joint.detectors import detector_rows, detectors_of
from robsweep.orchestrator.results.tables.joint.errors import scored_rows
from robsweep.orchestrator.results.tables.joint.grid import grid_rows
from robsweep.tasks.catalogue.words import word_of

QUESTIONS = {
    "confidence": "is the confidence right, and does it know its errors, under each condition?",
    "errors": "does an OOD score know the model's errors?",
    "detection": "does the detector see what was done to an image?",
    "acceptance": "how much does a detector that lets 95 % of clean images through accept, and how "
    "much of that is right?",
    "grid": "corruption x severity x ball: accuracy, robust and verified accuracy",
}


def joint_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """All questions in turn, each about all models."""
    rows: list[Row] = []
    for model in models:
        for row in _rows(model, read):
            rows.append({**model.names, **corruption_of(model), **row})
    order = [*QUESTIONS]
    return frame("joint", sorted(rows, key=lambda row: order.index(row["question"])))


def corruption_of(model: Model) -> Row:
    """Of a data set such as `mnist+fog:3`; nothing of one that is as it is."""
    name = model.names.get("dataset")
    done = None if name is None else word_of(str(name)).corruption
    return {} if done is None else {"corruption": done.name, "severity": done.severity}


def _rows(model: Model, read: Read) -> Iterator[Row]:
    found = list(conditions(model, read))
    yield from confidence_rows(found)
    yield from detector_rows(found, detectors_of(model))
    yield from scored_rows(model, found, read)
    yield from grid_rows(model, read)
