"""Measurements of the sections `sensitivity` and `landscape`."""

from collections.abc import Iterator

from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.spec.selection import selected
from robsweep.orchestrator.spec.spec import LandscapeSpec, SensitivitySpec
from robsweep.tasks.catalogue import KINDS


def sensitivities(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """One measurement per entry, all of its eps together."""
    spec = make.spec
    for name, entry in spec.sensitivity.items():
        if selected(entry, model.name, model.training):
            samples = entry.samples or spec.samples
            yield make.planned(
                "sensitivity", model, "sensitivity", name, entry.name, _boxes(entry),
                dataset=spec.dataset_of(entry), samples=samples,
            )  # fmt: skip


def landscapes(make: Make, model: PlannedModel) -> Iterator[Planned]:
    """One measurement per entry and trained model, of as many units as it has chains."""
    if model.training is None:  # there is no knowing what an imported model was trained on
        return
    spec = make.spec
    for name, entry in spec.landscape.items():
        if selected(entry, model.name, model.training):
            samples = entry.samples or spec.samples or (0, spec.dataset.splits["test"])
            yield make.planned(
                "landscape", model, "landscape", name, entry.name, _minima(entry, samples),
                units=entry.chains, code=make.code(entry.name),
            )  # fmt: skip


def _boxes(entry: SensitivitySpec) -> dict[str, object]:
    return {
        "method": entry.name,
        "eps": list(entry.eps),
        "seed": entry.seed,
        "group_size": entry.group_size or KINDS["sensitivity"].group_size,
        "parameters": entry.parameters,
    }


def _minima(entry: LandscapeSpec, samples: tuple[int, int]) -> dict[str, object]:
    """Not the number of chains: more of them later are more units of the same measurement."""
    return {
        "landscape": entry.name,
        "train_samples": entry.train_samples,
        "l2": entry.l2,
        "gradient_tolerance": entry.gradient_tolerance,
        "samples": list(samples),
        "eps": entry.eps,
        "method": entry.method,
        "measure": entry.measure,
        "attack_steps": entry.attack_steps,
        "seed": entry.seed,
        "parameters": entry.parameters,
    }
