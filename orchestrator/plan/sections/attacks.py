"""Measurements of the section `attacks`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.plan.sections.ood import fitted
from robsweep.orchestrator.spec.selection import both, selected
from robsweep.orchestrator.spec.spec import AttackSpec
from robsweep.tasks.catalogue import KINDS, SCORERS


def attacks(make: Make, model: PlannedModel, models: Sequence[PlannedModel]) -> Iterator[Planned]:
    """One measurement per entry; none of a transfer from a model to itself.

    Args:
        models: All of the sweep, which a transfer's `source:` names one of.
    """
    for name, entry in make.spec.attacks.items():
        if not selected(entry, model.name, model.training):
            continue
        source = None if entry.source is None else source_of(name, entry.source, model, models)
        if source == model:
            continue
        params, needs = _params(entry, source), model.needs
        if entry.detector is not None:
            behind = fitted(make, model, entry.detector, detector_parameters(entry.detector))
            yield from behind
            if behind:
                params["detector_fit"] = behind[-1].measurement.measurement_id
                needs = (*needs, behind[-1].measurement.measurement_id)
        code = [word for word in (entry.name, entry.detector) if word is not None]
        yield make.planned(
            "attack",
            model,
            "attacks",
            name,
            entry.name,
            params,
            dataset=make.spec.dataset_of(entry),
            samples=entry.samples or make.spec.samples,
            code=make.code(*code),
            needs=needs if source is None else (*needs, *source.needs),
            setting=replace(
                make.setting,
                keep_adversarials=entry.keep_adversarials,
                time_limit_seconds=entry.time_limit_seconds,
                members=() if source is None else (source.ref,),
            ),
        )


def source_of(
    attack: str, word: str, attacked: PlannedModel, models: Sequence[PlannedModel]
) -> PlannedModel:
    """The trained model that `source:` of a transfer stands for: of the same seed, if it has one.

    Raises:
        InputError: It stands for none, or for several.
    """
    name, _, training = word.partition("/")
    found = [
        model
        for model in models
        if name in both(model.name) and (not training or training in both(model.training or ""))
    ]
    for same in ("seed", "training"):
        mine = [model for model in found if getattr(model, same) == getattr(attacked, same)]
        found = mine or found
    if attacked.seed is None:  # an imported model has no seed: the first will do
        found = [model for model in found if model.seed == found[0].seed]
    if len(found) != 1:
        what = "no trained model" if not found else f"{len(found)} models"
        known = ", ".join(sorted({f"{m.name}/{m.training}" for m in found if m.training}))
        raise InputError(
            f"attacks.{attack}.source: {word!r} stands for {what} where {attacked.name} is "
            "attacked: name one as model/training" + (f" ({known})" if known else "")
        )
    return found[0]


def _params(entry: AttackSpec, source: PlannedModel | None) -> dict[str, object]:
    """What is not set is not named: ids of before stay."""
    params: dict[str, object] = {
        "attack": entry.name,
        "norm": entry.norm,
        "eps": None if entry.eps is None else list(entry.eps),
        "gives": entry.gives,
        "restarts": entry.restarts,
        "seed": entry.seed,
        "group_size": entry.group_size or KINDS["attack"].group_size,
        "parameters": entry.parameters,
    }
    if entry.target is not None:
        params["target"] = entry.target
    if entry.gradients is not None:
        params["gradients"] = entry.gradients
        params["gradient_samples"] = entry.gradient_samples
        params["gradient_step"] = entry.gradient_step
    if entry.eot > 1:
        params["eot"] = entry.eot
    if source is not None:
        params["source"] = source.ref.model_id
    if entry.detector is not None:
        params["detector"] = entry.detector
        params["detector_parameters"] = detector_parameters(entry.detector)
    return params


def detector_parameters(name: str) -> dict[str, object]:
    """Those of a detector's scorer, by default: there is no naming others."""
    known = SCORERS.get(name)
    return {} if known is None else dict(known.parameters)
