"""Measurements of the section `calibration`."""

from collections.abc import Iterator

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.plan.sections.predictions import CLEAN
from robsweep.orchestrator.spec.selection import selected
from robsweep.orchestrator.spec.spec import DatasetSpec


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
            fitted_on[dataset.name] = _fitted_on(make, model, dataset)
            yield fitted_on[dataset.name]
        key = fitted_on[dataset.name].measurement.measurement_id
        params = {"method": entry.name, "predictions": key, "parameters": entry.parameters}
        needs = (*model.needs, key)
        if entry.members == "before":
            of_members = _of_members(make, model, name, dataset)
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
            dataset=dataset,
            split="validation",
            code=make.code(entry.name),
            needs=needs,
        )


def _fitted_on(make: Make, model: PlannedModel, dataset: DatasetSpec) -> Planned:
    return make.planned(
        "predict", model, "calibration", "validation", "clean", CLEAN,
        dataset=dataset, split="validation",
    )  # fmt: skip


def _of_members(make: Make, model: PlannedModel, entry: str, dataset: DatasetSpec) -> list[Planned]:
    """The validation predictions of an ensemble's members.

    Raises:
        InputError: The model has no members of its own in the sweep.
    """
    if not model.members:
        raise InputError(
            f"calibration.{entry}: `members: before` is for ensembles of models of this sweep, "
            f"which {model.name} is not: name those by `only:`"
        )
    return [_fitted_on(make, member, dataset) for member in model.members]
