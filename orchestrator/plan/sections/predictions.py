"""Clean predictions, and measurements of the sections `ood` and `shift`."""

from collections.abc import Iterator
from typing import Any

from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.spec.selection import selected
from robsweep.tasks.catalogue import KINDS

CLEAN: dict[str, Any] = {
    "source": "clean",
    "group_size": KINDS["predict"].group_size,
    "seed": 0,
}


def clean(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """The predictions on the sweep's samples as they are."""
    samples = make.spec.samples
    yield make.planned("predict", model, "clean", "clean", "clean", CLEAN, samples=samples)


def ood(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """Per entry, scores of the sweep's own data and of each OOD set; predictions on each set."""
    spec = make.spec
    chosen = {
        name: entry
        for name, entry in spec.ood.items()
        if selected(entry, model.name, model.training)
    }
    for name, entry in chosen.items():
        for ood_set in (None, *entry.sets):
            dataset = spec.dataset if ood_set is None else spec.ood_sets[ood_set]
            params = {
                "scorer": entry.name,
                "ood_set": None if ood_set is None else dataset.name,
                "group_size": entry.group_size or KINDS["score"].group_size,
                "seed": entry.seed,
                "parameters": entry.parameters,
            }
            yield make.planned(
                "score",
                model,
                "ood",
                name,
                entry.name,
                params,
                samples=(entry.samples or spec.samples) if ood_set is None else entry.ood_samples,
                code=make.code(entry.name),
                dataset=dataset,
            )
    asked = {spec.ood_sets[ood_set].name for entry in chosen.values() for ood_set in entry.sets}
    for dataset in spec.ood_sets.values():
        if dataset.name in asked:
            name = dataset.name
            outside = {**CLEAN, "source": f"ood:{name}"}
            yield make.planned("predict", model, "ood", name, "ood", outside, dataset=dataset)


def shift(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """One measurement per entry: predictions on corrupted samples."""
    for name, entry in make.spec.shift.items():
        if not selected(entry, model.name, model.training):
            continue
        params = {
            "source": f"corruption:{entry.name}:{entry.severity}",
            "group_size": entry.group_size or KINDS["predict"].group_size,
            "seed": entry.seed,
            "parameters": entry.parameters,
        }
        yield make.planned(
            "predict",
            model,
            "shift",
            name,
            entry.name,
            params,
            samples=entry.samples or make.spec.samples,
            code=make.code(entry.name),
        )
