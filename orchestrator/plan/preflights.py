"""What is checked of a sweep's models before anything is computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from robsweep.orchestrator.plan.planned import PlannedModel
from robsweep.orchestrator.spec.entries.base import EntrySpec
from robsweep.orchestrator.spec.entries.verification import (
    VerificationSpec,
    only_estimates,
    question_of,
)
from robsweep.orchestrator.spec.selection import both, selected
from robsweep.orchestrator.spec.spec import SECTIONS, AttackSpec, DatasetSpec, SweepSpec
from robsweep.tasks.catalogue import ATTACKS, SCORERS, VERIFIERS
from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.catalogue.values import NUMBERS
from robsweep.tasks.catalogue.words import base_of


@dataclass(frozen=True)
class Check:
    """A model on a split; one still to be trained or assembled is checked with fresh weights."""

    model: PlannedModel
    dataset: DatasetSpec
    split: str
    params: dict[str, Any]


def preflight_checks(spec: SweepSpec, models: Sequence[PlannedModel]) -> Iterator[Check]:
    """One per architecture or file of imported weights, and one per further data set.

    The first also checks that a user's own functions are there and take their parameters. A model
    that is to be verified, or whose outputs are to be bounded, is read as a network; the solvers
    of its verifiers are tried.
    """
    functions = [
        [kind.family, entry.name, {**entry.parameters, **_targets(entry)}]
        for section, kind in SECTIONS.items()
        if section != "models"
        for entry in getattr(spec, section).values()
        if ":" in entry.name
    ]
    functions += [
        ["scorer", entry.detector, {}]
        for entry in spec.attacks.values()
        if entry.detector is not None and ":" in entry.detector
    ]
    others = (spec.datasets, spec.ood_sets, spec.outlier_sets, spec.tuning_sets)
    sets = [spec.dataset, *(one for named in others for one in named.values())]
    functions += [["corruption", s.function, {}] for s in sets if s.function is not None]
    seen = set()
    for model in models:
        if (name := model.name if model.needs else model.identity) not in seen:
            seen.add(name)
            same = [other.training for other in models if other.name == model.name]
            params = {"functions": functions, "engines": _engines(spec, model.name, same)}
            if _exact(spec, model.name, same):
                params["exact"] = True
            if boxes := _boxes(spec, model.name, same):
                params["boxes"] = boxes
            if estimates := _estimates(spec, model.name, same):
                params["estimates"] = estimates
            if scorers := _scorers(spec, model.name, same):
                params["scorers"] = scorers
            if _followed(spec, model.name, same):
                params["gradients"] = True
            yield Check(model, spec.dataset, "test", params)
            functions = []
    if any(model.training is not None for model in models):
        yield Check(models[0], spec.dataset, "train", {})
    for entry in spec.trainings.values():
        if (named := entry.parameters.get("outliers")) in spec.outlier_sets:
            outliers = spec.outlier_sets[named]
            yield Check(models[0], outliers, entry.parameters["outlier_split"], {})
    for tune in (entry.tune for entry in spec.ood.values() if entry.tune is not None):
        yield Check(models[0], spec.tuning_sets[tune.set], tune.split, {})
    for dataset in spec.datasets.values():
        yield Check(models[0], dataset, dataset.split, {})
    for dataset in spec.ood_sets.values():
        apart = _apart(spec.dataset, dataset)
        yield Check(models[0], dataset, dataset.split, {"apart_from": apart} if apart else {})


def _apart(own: DatasetSpec, other: DatasetSpec) -> list[list[str]]:
    """The splits whose images an OOD set must not hold; those of the catalogue are known not to."""
    same = base_of(own.name) == base_of(other.name)
    if same or own.shape != other.shape or (own.file is None and other.file is None):
        return []
    return [[own.name, split] for split in own.splits]


def _targets(entry: EntrySpec) -> dict[str, Any]:
    """What an attack that is aimed must take beside its parameters."""
    aimed = isinstance(entry, AttackSpec) and entry.target is not None
    return {"targets": None} if aimed else {}


def _engines(spec: SweepSpec, model: str, trainings: Sequence[str | None]) -> list[dict[str, Any]]:
    """Parameters of the solves of a model, in whatever training."""
    engines: list[dict[str, Any]] = []
    for entry in _verifications(spec, model, trainings):
        if not only_estimates(entry.name):
            verifier = VERIFIERS[entry.name]
            chosen = [{name: entry.parameters[name] for name in verifier.solve_parameters}]
            if verifier.cross_check is not None and entry.cross_check:
                chosen.append(dict(VERIFIERS[verifier.cross_check].solve_parameters))
            for parameters in chosen:
                engine = {key: one for key, one in parameters.items() if key != "stages"}
                if engine not in engines:
                    engines.append(engine)
    return engines


def _exact(spec: SweepSpec, model: str, trainings: Sequence[str | None]) -> bool:
    """Whether a question for a number is to be answered exactly, which takes a MILP."""
    return any(
        question_of(entry) in NUMBERS and "milp" in entry.parameters["stages"]
        for entry in _verifications(spec, model, trainings)
        if not only_estimates(entry.name)
    )


def _boxes(spec: SweepSpec, model: str, trainings: Sequence[str | None]) -> list[str]:
    """The sections that bound a model's outputs, in whatever training."""
    sections: list[str] = []
    for section, entries in (("sensitivity", spec.sensitivity), ("landscape", spec.landscape)):
        chosen = [t for t in trainings if section == "sensitivity" or t is not None]
        if any(selected(entry, model, t) for entry in entries.values() for t in chosen):
            sections.append(section)
    return sections


def _estimates(spec: SweepSpec, model: str, trainings: Sequence[str | None]) -> list[str]:
    """The verifiers of a model that only estimate a distance."""
    entries = _verifications(spec, model, trainings)
    return sorted({entry.name for entry in entries if only_estimates(entry.name)})


def _followed(spec: SweepSpec, model: str, trainings: Sequence[str | None]) -> bool:
    """Whether an attack follows the gradients of a model, in whatever training."""
    return any(
        attack.gradients is None
        and attack.name in ATTACKS
        and ATTACKS[attack.name].access == "white_box"
        and (
            any(selected(attack, model, training) for training in trainings)
            if attack.source is None
            else attack.source.partition("/")[0] in both(model)
        )
        for attack in spec.attacks.values()
    )


def _scorers(spec: SweepSpec, model: str, trainings: Sequence[str | None]) -> list[list[Any]]:
    """The scorers of a model that take more than its logits: name, parameters, members."""
    found: list[list[Any]] = []
    asked = [
        (entry, entry.name, entry.parameters, entry.members)
        for entry in spec.ood.values()
    ]  # fmt: skip
    for entry, name, parameters, members in asked:
        one = [name, parameters, members]
        plain = scorer_named(name).reads == "logits" and not members
        if not plain and one not in found and any(selected(entry, model, t) for t in trainings):
            found.append(one)
    for attack in spec.attacks.values():
        known = SCORERS.get(attack.detector or "")
        one = [attack.detector, {} if known is None else dict(known.parameters), None]
        plain = attack.detector is None or scorer_named(attack.detector).reads == "logits"
        if not plain and one not in found and any(selected(attack, model, t) for t in trainings):
            found.append(one)
    return found


def _verifications(
    spec: SweepSpec, model: str, trainings: Sequence[str | None]
) -> list[VerificationSpec]:
    return [
        entry
        for entry in spec.verification.values()
        if any(selected(entry, model, training) for training in trainings)
    ]
