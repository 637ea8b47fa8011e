"""Clean predictions, and measurements of the section `shift`."""

from collections.abc import Iterator
from typing import Any

from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.spec.selection import selected
from robsweep.tasks.catalogue import KINDS

# Sections that measure on the test split, or on that of the data set that an entry names.
MEASURED = ("attacks", "ood", "shift", "calibration", "verification", "sensitivity")

CLEAN: dict[str, Any] = {
    "source": "clean",
    "group_size": KINDS["predict"].group_size,
    "seed": 0,
}


def clean(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """Predictions on the sweep's samples as they are, and on those of each other data set."""
    spec = make.spec
    entries = (entry for section in MEASURED for entry in getattr(spec, section).values())
    asked = [spec.dataset_of(e) for e in entries if selected(e, model.name, model.training)]
    for dataset in {one.name: one for one in (spec.dataset, *asked)}.values():
        yield make.planned(
            "predict", model, "clean", "clean", "clean", CLEAN, dataset=dataset,
            samples=spec.samples,
        )  # fmt: skip


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
            dataset=make.spec.dataset_of(entry),
            samples=entry.samples or make.spec.samples,
            code=make.code(entry.name),
        )
