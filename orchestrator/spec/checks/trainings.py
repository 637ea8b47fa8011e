"""What a sweep file's trainings must fit: their epochs, and the outliers that they name."""

from collections.abc import Callable, Mapping
from typing import Any

from robsweep.orchestrator.spec.entries.base import EntrySpec
from robsweep.orchestrator.spec.parameters import of_user, resolve
from robsweep.orchestrator.spec.spec import DatasetSpec
from robsweep.orchestrator.spec.yaml_file import Document, Key
from robsweep.tasks.catalogue import RECIPE, RECIPE_LATER
from robsweep.tasks.catalogue.values import CONFLICTS, SCHEDULES


def parameters_of_user(
    document: Document, key: Key, given: Mapping[str, Any], *, training: bool
) -> dict[str, Any]:
    """A user's own function: the preflight holds its parameters against its signature.

    Raises:
        SpecError: One is no plain value, or does not fit the recipe that all trainings share.
    """
    common = {name: value for name, value in given.items() if training and name in RECIPE}
    parameters = resolve(document, key, RECIPE, common, RECIPE_LATER) if training else {}
    for name, value in given.items():
        if name not in common:
            try:
                parameters[str(name)] = of_user(value)
            except ValueError as error:
                raise document.error((*key, name), str(error)) from error
    return parameters


def check_schedules(document: Document, key: Key, parameters: Mapping[str, Any]) -> None:
    """Raises SpecError for a schedule that is longer than the training."""
    epochs = parameters["epochs"]
    for name in SCHEDULES:
        value = parameters.get(name, 0)
        length = len(value) if isinstance(value, list) else value
        if length > epochs:
            raise document.error(
                (*key, name), f"covers {length:g} epochs, the training has {epochs}: shorten it"
            )


def check_conflicts(
    document: Document, key: Key, training: str, parameters: Mapping[str, Any]
) -> None:
    """Raises SpecError for a part of the recipe that the training cannot go with."""
    for name, why in CONFLICTS.get(training, {}).items():
        if parameters[name]:
            raise document.error((*key, name), f"{training} cannot go with {name}: {why}")


def outlier_sets(
    document: Document,
    trainings: Mapping[str, EntrySpec],
    dataset: DatasetSpec,
    read: Callable[[Key, Any], DatasetSpec],
) -> dict[str, DatasetSpec]:
    """The data sets that trainings draw outliers from, by their name in the file.

    Raises:
        SpecError: One is unknown, of another shape, the data set itself, or its test split.
    """
    found: dict[str, DatasetSpec] = {}
    for full, entry in trainings.items():
        if "outliers" not in entry.parameters or ":" in entry.name:
            continue
        key: Key = ("trainings", full.split("[", maxsplit=1)[0])
        name, split = entry.parameters["outliers"], entry.parameters["outlier_split"]
        outliers = read((*key, "outliers"), name)
        if outliers.name == dataset.name:
            raise document.error((*key, "outliers"), f"{name} is the data set itself")
        if outliers.shape != dataset.shape:
            raise document.error(
                (*key, "outliers"),
                f"{name} has shape {outliers.shape}, {dataset.name} has {dataset.shape}",
            )
        if split == "test":
            raise document.error(
                (*key, "outlier_split"),
                "OOD detection is measured on test splits, and a model must not be trained on "
                "what it is measured on: use another split",
            )
        if split not in outliers.splits:
            known = ", ".join(part for part in outliers.splits if part != "test") or "none"
            raise document.error(
                (*key, "outlier_split"),
                f"{name} has no split {split!r}; to train on it has: {known}",
            )
        found[name] = outliers
    return found
