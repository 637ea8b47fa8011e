"""Clean predictions, and measurements of the sections `ood` and `shift`."""

from collections.abc import Iterator
from typing import Any

from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel, Use
from robsweep.orchestrator.spec.selection import selected
from robsweep.orchestrator.spec.spec import OodSpec, SweepSpec
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.catalogue.words import base_of

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


def ood(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """Per entry, scores of the sweep's own data and of each OOD set; predictions on each set."""
    spec = make.spec
    chosen = {
        name: entry
        for name, entry in spec.ood.items()
        if selected(entry, model.name, model.training)
    }
    for name, entry in chosen.items():
        own = spec.dataset_of(entry)
        for ood_set in (None, *entry.sets):
            dataset = own if ood_set is None else spec.ood_sets[ood_set]
            params = {
                "scorer": entry.name,
                "ood_set": None if ood_set is None else dataset.word,
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
                uses=(use_of(spec, name, entry, ood_set),),
            )
    for ood_set, dataset in spec.ood_sets.items():
        asking = {name: entry for name, entry in chosen.items() if ood_set in entry.sets}
        if asking:
            word = dataset.word
            outside = {**CLEAN, "source": f"ood:{word}"}
            uses = tuple(use_of(spec, word, entry, ood_set) for entry in asking.values())
            yield make.planned(
                "predict", model, "ood", word, "ood", outside, dataset=dataset, uses=uses
            )


def use_of(spec: SweepSpec, name: str, entry: OodSpec, ood_set: str | None) -> Use:
    """What an entry of `ood:` asks a set for; None: its ID data.

    A set is of a group where the entry asks for all sets of that group.
    """
    own = spec.dataset_of(entry).name
    if ood_set is None:
        return Use("ood", name, own)
    groups = [
        group
        for group, sets in spec.ood_groups.items()
        if ood_set in sets and {*sets} <= {*entry.sets}
    ]
    shifted = base_of(spec.ood_sets[ood_set].name) == base_of(own)
    return Use("ood", name, own, tuple(groups), shifted)


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
