"""The models of a sweep: imported, trained here, or assembled of others."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.identity import measurement_id
from robsweep.orchestrator.plan.make import Make
from robsweep.orchestrator.plan.planned import Planned, PlannedModel
from robsweep.orchestrator.plan.sources import hashes
from robsweep.orchestrator.plan.weights import planned_model
from robsweep.orchestrator.spec.versions import Version, all_versions
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.job import ModelRef

# By name, training and seed: models that come later are made of those that come earlier.
Known = dict[tuple[str, str | None, int | None], PlannedModel]


class Made(NamedTuple):
    """A model, and the measurement that makes it; imported ones need none."""

    model: PlannedModel
    by: Planned | None


def models(make: Make) -> Iterator[Made]:
    """All models of the sweep, each behind those that it is made of.

    Raises:
        InputError: Two are the same imported model, or the data set cannot be trained on.
    """
    known: Known = {}
    for name, version in all_versions(make.spec):
        if make.spec.models[name].imported:
            made = Made(_imported(make, name, known), None)
            known[name, None, None] = made.model
            yield made
            continue
        for seed in make.spec.seeds if version.seeded else (None,):
            of = _assembled if version.members else _trained
            made = of(make, name, version, seed, known)
            known[name, version.training, seed] = made.model
            yield made


def _trained(make: Make, name: str, version: Version, seed: int | None, known: Known) -> Made:
    spec = make.spec
    model, training = spec.models[name], spec.trainings[str(version.training)]
    parameters = dict(training.parameters)
    if (named := parameters.get("outliers")) in spec.outlier_sets:
        parameters["outliers"] = spec.outlier_sets[named].name
    arch, arch_parameters = model.name, dict[str, Any](model.parameters)
    started: dict[str, str] = {}
    if version.start is not None:
        first = known[name, version.start, seed].ref
        arch_parameters = dict(first.params)  # of an ensemble: its members'
        started = {"start": first.model_id}
    params = {
        "arch": arch,
        "arch_parameters": arch_parameters,
        "training": training.name,
        "parameters": parameters,
        **started,
    }
    dataset = spec.dataset
    if "train" not in dataset.splits:
        raise InputError(f"data set {dataset.name} has no training split: import the models")
    code = {**make.code(arch, training.name), **make.code_of(dataset)}
    if named in spec.outlier_sets:
        code |= make.code_of(spec.outlier_sets[named])
    data, number = f"{dataset.name}:train", KINDS["train"].version
    key = measurement_id("train", params, None, data, seed, number, hashes(code))
    ref = ModelRef(key, arch, arch_parameters, dataset.shape, dataset.classes, name=name)
    trained = PlannedModel(ref, key, name, version.training, seed, (key,))
    by = make.planned(
        "train",
        trained,
        "models",
        name,
        training.name,
        params,
        split="train",
        code=code,
        key=key,
        needs=tuple(started.values()),
    )
    return Made(trained, by)


def _assembled(make: Make, name: str, version: Version, seed: int | None, known: Known) -> Made:
    """An ensemble of models that come earlier; an imported one has no seed."""
    vote = make.spec.models[name].parameters["vote"]
    members = [
        known[model, training, None if training is None else seed]
        for model, training in version.members
    ]
    params = {"vote": vote, "members": [member.ref.model_id for member in members]}
    key = measurement_id("ensemble", params, None, "", seed, KINDS["ensemble"].version, {})
    built = [{"arch": m.ref.arch, "params": m.ref.params} for m in members]
    dataset = make.spec.dataset
    parts = {"vote": vote, "members": built}
    ref = ModelRef(key, "ensemble", parts, dataset.shape, dataset.classes, name=name)
    ensemble = PlannedModel(ref, key, name, version.training, seed, (key,))
    by = make.planned(
        "ensemble",
        ensemble,
        "models",
        name,
        "ensemble",
        params,
        key=key,
        needs=tuple(need for member in members for need in member.needs),
        setting=replace(make.setting, members=tuple(member.ref for member in members)),
    )
    return Made(ensemble, by)


def _imported(make: Make, name: str, known: Known) -> PlannedModel:
    model = planned_model(make.spec, name, make.places, make.code(make.spec.models[name].name))
    if same := [other.name for other in known.values() if other.identity == model.identity]:
        raise InputError(f"models {same[0]!r} and {name!r} are the same: take one out")
    return model
