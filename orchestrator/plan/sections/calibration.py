"""Measurements of the section `calibration`."""

from collections.abc import Iterator

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.plan.sections.predictions import CLEAN
from robsweep.orchestrator.spec.selection import selected


def calibrations(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """The predictions that all fits read, and one fit per entry.

    Raises:
        InputError: The data set has nothing to fit on.
    """
    chosen = {
        name: entry
        for name, entry in make.spec.calibration.items()
        if selected(entry, model.name, model.training)
    }
    if not chosen:
        return
    if "validation" not in make.spec.dataset.splits:
        raise InputError(
            f"calibration needs a validation split, which {make.spec.dataset.name} has not"
        )
    fitted_on = make.planned(
        "predict", model, "calibration", "validation", "clean", CLEAN, split="validation"
    )
    yield fitted_on
    key = fitted_on.measurement.measurement_id
    for name, entry in chosen.items():
        params = {"method": entry.name, "predictions": key, "parameters": entry.parameters}
        yield make.planned(
            "calibrate",
            model,
            "calibration",
            name,
            entry.name,
            params,
            split="validation",
            code=make.code(entry.name),
            needs=(*model.needs, key),
        )
