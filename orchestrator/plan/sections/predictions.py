"""Clean predictions, and measurements of the section `shift`."""

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
