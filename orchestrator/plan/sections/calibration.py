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
    fitted_on = _fitted_on(make, model)
    yield fitted_on
    key = fitted_on.measurement.measurement_id
    for name, entry in chosen.items():
        params = {"method": entry.name, "predictions": key, "parameters": entry.parameters}
        needs = (*model.needs, key)
        if entry.members == "before":
            of_members = _of_members(make, model, name)
            yield from of_members
            keys = [one.measurement.measurement_id for one in of_members]
            vote = model.ref.params["vote"]
            params |= {"predictions": keys, "members": "before", "vote": vote}
            needs = (*model.needs, *keys)
        yield make.planned(
            "calibrate",
            model,
            "calibration",
            name,
            entry.name,
            params,
            split="validation",
            code=make.code(entry.name),
            needs=needs,
        )


def _fitted_on(make: Make, model: PlannedModel) -> Planned:
    return make.planned(
        "predict", model, "calibration", "validation", "clean", CLEAN, split="validation"
    )


def _of_members(make: Make, model: PlannedModel, entry: str) -> list[Planned]:
    """The validation predictions of an ensemble's members.

    Raises:
        InputError: The model has no members of its own in the sweep.
    """
    if not model.members:
        raise InputError(
            f"calibration.{entry}: `members: before` is for ensembles of models of this sweep, "
            f"which {model.name} is not: name those by `only:`"
        )
    return [_fitted_on(make, member) for member in model.members]
