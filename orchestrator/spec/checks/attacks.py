"""Whether the attacks of a sweep file fit their models, their data and themselves."""

import math
from collections.abc import Mapping

from robsweep.orchestrator.spec.selection import both, selected, without_axes
from robsweep.orchestrator.spec.spec import AttackSpec, SweepSpec
from robsweep.orchestrator.spec.versions import all_versions
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean
from robsweep.tasks.catalogue import ATTACKS, MODELS
from robsweep.tasks.catalogue.entries import Attack

_USERS = Attack("", (), "fixed_eps", {}, "", "white_box", targets="optional")


def check(document: Document, spec: SweepSpec) -> None:
    """Refuses what could only fail, or mean something else than it says.

    Raises:
        SpecError: With file, line, what is wrong and how to fix it.
    """
    for name, attack in spec.attacks.items():
        key: Key = ("attacks", without_axes(name))
        entry = ATTACKS.get(attack.name, _USERS)
        for field, reason in _misfits(attack, entry, spec.dataset.shape).items():
            raise document.error((*key, field) if field else key, reason)
        if attack.source is not None:
            _check_source(document, (*key, "source"), spec, attack)
        dataset = spec.dataset_of(attack)
        if attack.detector is not None and "validation" not in dataset.splits:
            raise document.error(
                (*key, "detector"),
                "a detector's threshold is fitted on validation images, "
                f"which {dataset.name} has not",
            )
        for model, version in all_versions(spec):
            if not selected(attack, model, version.training):
                continue
            arch = MODELS.get(spec.models[model].name)
            lacking = set() if arch is None else entry.needs - arch.traits
            if lacking:
                raise document.error(
                    key,
                    f"{attack.name} needs {' and '.join(sorted(lacking))}, which {model} is not: "
                    "name the models that are, e.g. only: [abs]",
                )


def _check_source(document: Document, key: Key, spec: SweepSpec, attack: AttackSpec) -> None:
    model, _, training = str(attack.source).partition("/")
    for what, word, names in (
        ("model", model, [*spec.models]),
        ("training", training, [*spec.trainings]),
    ):
        known = {one for full in names for one in both(full)}
        if word and word not in known:
            raise document.error(key, f"no {what} is named {word!r}{did_you_mean(word, known)}")
    attacked = {name for name, v in all_versions(spec) if selected(attack, name, v.training)}
    if not training and attacked == {model}:
        raise document.error(
            key,
            f"a transfer from {model} to itself is none: leave `source:` out, or attack others",
        )


def _misfits(attack: AttackSpec, entry: Attack, shape: tuple[int, ...]) -> Mapping[str, str]:
    """Field -> what is wrong with it; "" for the whole entry."""
    wrong: dict[str, str] = {}
    if entry.targets == "required" and attack.target is None:
        wrong[""] = f"{attack.name} needs a class to aim at, e.g. target: runner_up"
    if entry.targets == "none" and attack.target is not None:
        wrong["target"] = f"{attack.name} cannot aim at a class: leave `target:` out"
    if attack.gradients is not None and entry.access != "white_box":
        wrong["gradients"] = f"{attack.name} takes no gradients: leave `gradients:` out"
    if attack.gradients is None:
        for field in ("gradient_samples", "gradient_step"):
            if field in attack.model_fields_set:
                wrong[field] = f"{field} belongs to `gradients:`, e.g. gradients: nes"
    if attack.gradients == "nes" and attack.gradient_samples == 0:
        wrong["gradients"] = "nes needs gradient_samples, e.g. gradient_samples: 100"
    if entry.detects and attack.detector is None:
        wrong[""] = f"{attack.name} evades a detector: name one, e.g. detector: energy"
    if attack.detector is not None and not entry.detects and entry is not _USERS:
        wrong["detector"] = f"{attack.name} evades no detector: use attack: evasion"
    for field, set_ in (("eot", attack.eot > 1), ("gradients", attack.gradients is not None)):
        if set_ and entry.needs:
            wrong[field] = f"{attack.name} asks the model itself: leave `{field}:` out"
    if attack.source is not None and (entry.detects or entry.needs):
        wrong["source"] = f"{attack.name} works on the model itself: leave `source:` out"
    farthest = _diameter(attack.norm, shape)
    for eps in attack.eps or ():
        if eps > farthest and not attack.beyond_pixels:
            hint = (
                "pixels are 0 to 1, write e.g. 8/255"
                if attack.norm == "linf"
                else (f"no two images are more than {farthest:g} apart")
            )
            wrong["eps"] = (
                f"eps {eps:g} in norm {attack.norm}: {hint}; or say `beyond_pixels: true` "
                "if a ball is to hold all images"
            )
    return wrong


def _diameter(norm: str, shape: tuple[int, ...]) -> float:
    """The largest distance of two images with pixels from 0 to 1."""
    numbers = math.prod(shape)
    pixels = math.prod(shape[1:]) if len(shape) == 3 else numbers
    return {"linf": 1.0, "l2": math.sqrt(numbers), "l1": numbers, "l0": pixels}[norm]
