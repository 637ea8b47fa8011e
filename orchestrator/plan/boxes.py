"""Measurements of the sections `sensitivity` and `landscape`."""

from collections.abc import Callable, Iterator, Mapping

from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.spec.selection import selected
from robsweep.orchestrator.spec.spec import LandscapeSpec, SensitivitySpec, SweepSpec
from robsweep.tasks.catalogue import KINDS

Make = Callable[..., Planned]  # the planner's


def sensitivities(spec: SweepSpec, model: PlannedModel, make: Make) -> Iterator[Planned]:
    """One measurement per entry, all of its eps together."""
    for name, entry in spec.sensitivity.items():
        if selected(entry, model.name, model.training):
            samples = entry.samples or spec.samples
            yield make(
                "sensitivity", model, "sensitivity", name, entry.name, _boxes(entry),
                samples=samples,
            )  # fmt: skip


def landscapes(
    spec: SweepSpec,
    model: PlannedModel,
    make: Make,
    sources: Callable[..., Mapping[str, str]],
) -> Iterator[Planned]:
    """One measurement per entry and trained model, of as many units as it has chains."""
    if model.training is None:  # there is no knowing what an imported model was trained on
        return
    for name, entry in spec.landscape.items():
        if selected(entry, model.name, model.training):
            samples = entry.samples or spec.samples or (0, spec.dataset.splits["test"])
            yield make(
                "landscape", model, "landscape", name, entry.name, _minima(entry, samples),
                units=entry.chains, code=sources(entry.name),
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
