"""Measurements of the section `calibration`."""

from collections.abc import Iterator

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.plan.sections.predictions import CLEAN
from robsweep.orchestrator.spec.selection import selected


def calibrations(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """One fit per entry, behind the predictions that it reads.

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
    fitted_on: dict[str, Planned] = {}
    for name, entry in chosen.items():
        dataset = make.spec.dataset_of(entry)
        if "validation" not in dataset.splits:
            raise InputError(f"calibration needs a validation split, which {dataset.name} has not")
        if dataset.name not in fitted_on:
            fitted_on[dataset.name] = make.planned(
                "predict", model, "calibration", "validation", "clean", CLEAN,
                dataset=dataset, split="validation",
            )  # fmt: skip
            yield fitted_on[dataset.name]
        key = fitted_on[dataset.name].measurement.measurement_id
        params = {"method": entry.name, "predictions": key, "parameters": entry.parameters}
        yield make.planned(
            "calibrate",
            model,
            "calibration",
            name,
            entry.name,
            params,
            dataset=dataset,
            split="validation",
            code=make.code(entry.name),
            needs=(*model.needs, key),
        )
