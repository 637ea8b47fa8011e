"""Accuracy, robust accuracy and verified accuracy of each data set and its corruptions."""

from collections.abc import Iterator

from robsweep.orchestrator.results.metrics import verification
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.tables.attacks import attack_rows, survived
from robsweep.orchestrator.results.tables.calibration import accuracy, prediction_rows
from robsweep.orchestrator.results.tables.columns import Read, Row
from robsweep.orchestrator.results.tables.verification import at, verified
from robsweep.tasks.catalogue.values import PLAIN


def grid_rows(model: Model, read: Read) -> Iterator[Row]:
    """One row per ball, and one for no ball at all."""
    clean = model.of("predict", "clean")
    common = {"question": "grid", **accuracy("accuracy", prediction_rows(clean, read), clean)}
    if not model.balls():
        yield common
        return
    attacked = attack_rows(model, read)
    final = verification.final_verdicts(read("verification", model.of("screen")).collect())
    for norm, eps in model.balls():
        row: Row = {**common, "norm": norm, "eps": eps}
        if model.attacks_at(norm, eps):
            row |= survived(model, norm, eps, attacked)
        if model.screens_at(norm, eps):
            row |= verified(model, (PLAIN, norm, eps), at(final, norm, eps))
        yield row
