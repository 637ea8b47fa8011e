"""Reads a sweep file into a `SweepSpec`; every mistake dies here, with file and line."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.spec import yaml_file
from robsweep.orchestrator.spec.checks import adversarials, datasets
from robsweep.orchestrator.spec.checks.attacks import check as check_attacks
from robsweep.orchestrator.spec.checks.ood import check as check_ood
from robsweep.orchestrator.spec.checks.regions import check as check_regions
from robsweep.orchestrator.spec.checks.regions import region_spec
from robsweep.orchestrator.spec.checks.selections import (
    check_applies,
    check_landscapes,
    check_selections,
    check_sizes,
)
from robsweep.orchestrator.spec.checks.shift import check as check_shift
from robsweep.orchestrator.spec.checks.trainings import (
    check_conflicts,
    check_schedules,
    outlier_sets,
    parameters_of_user,
)
from robsweep.orchestrator.spec.checks.versions import check as check_versions
from robsweep.orchestrator.spec.datasets import dataset_named, ood_set_named
from robsweep.orchestrator.spec.entries.base import EntrySpec
from robsweep.orchestrator.spec.entries.verification import RegionFile, VerificationSpec
from robsweep.orchestrator.spec.nets import arch_of, written_out
from robsweep.orchestrator.spec.overrides import override
from robsweep.orchestrator.spec.parameters import expand, resolve, unknown_name
from robsweep.orchestrator.spec.selection import without_axes
from robsweep.orchestrator.spec.spec import (
    SECTIONS,
    AttackSpec,
    DatasetSpec,
    ModelSpec,
    OodSpec,
    ResourceSpec,
    SensitivitySpec,
    SweepSpec,
    TrainingSpec,
)
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.catalogue.entries import Attack, Entry, Verifier
from robsweep.tasks.catalogue.words import ADVERSARIALS

_Model = TypeVar("_Model", bound=BaseModel)
_TOP = {"name", "dataset", "samples", "seeds", "resources", "ood_groups", *SECTIONS}


def load(path: str | Path, sets: Sequence[str] = ()) -> SweepSpec:
    """Reads a sweep file.

    Args:
        sets: `KEY=VALUE`, in place of what the file says.

    Raises:
        SpecError: With file, line, what is wrong and how to fix it.
    """
    file = Path(path)
    return from_document(override(yaml_file.read(file), sets), file.resolve().parent)


def from_document(
    document: Document,
    folder: Path,
    *,
    dataset: DatasetSpec | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> SweepSpec:
    """The sweep of a parsed file.

    Args:
        folder: Where relative names start.
        dataset: In place of the one that the file names: data in memory have no name there.
        models: In place of those of the file, likewise.
    """
    raw = document.content
    if not isinstance(raw, Mapping):
        raise document.error((), "expected a sweep: `name:`, `dataset:`, `models:` and so on")
    for key in raw:
        if key not in _TOP:
            raise document.error((key,), f"unknown key {key!r}{did_you_mean(str(key), _TOP)}")
    given = {"dataset": dataset, "models": models}
    for key in ("name", "dataset", "models"):
        if raw.get(key) is None and given.get(key) is None:
            raise document.error((), f"needs `{key}:`")
    sections = {name: _section(document, name, raw.get(name)) for name in SECTIONS}
    if models is not None:
        sections["models"] = dict(models)
    dataset = dataset or _dataset(document, ("dataset",), raw["dataset"], folder)

    def named(key: Key, name: Any) -> DatasetSpec:
        return _dataset(document, key, name, folder)

    groups = datasets.ood_groups(document, raw.get("ood_groups"))
    sections["ood"] = datasets.without_groups(sections["ood"], groups)
    seeds = raw.get("seeds", [0])
    if not isinstance(seeds, list):
        raise document.error(("seeds",), f"expected a list such as [0, 1, 2], got {seeds!r}")
    if len(set(map(repr, seeds))) < len(seeds):
        raise document.error(("seeds",), "the same seed twice: take one out")
    body = {
        "name": raw["name"],
        "dataset": dataset,
        "datasets": datasets.entry_sets(sections, named),
        "ood_sets": _ood_sets(document, sections["ood"], groups, dataset, folder),
        "ood_groups": groups,
        "tuning_sets": datasets.tuning_sets(sections, named),
        "outlier_sets": outlier_sets(document, sections["trainings"], dataset, named),
        "samples": raw.get("samples"),
        "seeds": seeds,
        **sections,
        "regions": {},
        "resources": _resources(document, raw.get("resources")),
        "folder": folder,
        "text": document.text,
    }
    spec = _checked(document, (), SweepSpec, body)
    datasets.check(document, spec)
    spec = spec.model_copy(update={"regions": _regions(document, spec)})
    check_regions(document, spec)
    check_sizes(document, spec)
    check_selections(document, spec)
    check_versions(document, spec)
    check_applies(document, spec)
    check_attacks(document, spec)
    check_ood(document, spec)
    adversarials.check(document, spec)
    check_shift(document, spec)
    check_landscapes(document, spec)
    return spec


def _section(document: Document, section: str, raw: Any) -> dict[str, EntrySpec]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise document.error((section,), "expected named entries, e.g. `my_name: {...}`")
    kind = SECTIONS[section]
    entries: dict[str, EntrySpec] = {}
    for name, given in raw.items():
        key: Key = (section, name)
        if given is not None and not isinstance(given, Mapping):
            raise document.error(key, f"expected `{name}: {{...}}`, got {given!r}")
        body = dict(given or {})
        called = arch_of(name, body) if kind is ModelSpec else body.get(kind.family, name)
        lists = kind.lists | _list_parameters(kind, called)
        for suffix, chosen in expand(document, key, body, lists):
            if f"{name}{suffix}" in entries:
                raise document.error(key, f"two values of an axis look the same in {suffix}")
            entries[f"{name}{suffix}"] = _entry(document, key, kind, chosen)
    return entries


def _list_parameters(kind: type[EntrySpec], called: Any) -> set[str]:
    entry = kind.catalogue.get(called) if isinstance(called, str) else None
    parameters = {} if entry is None else _defaults(entry)
    return {name for name, default in parameters.items() if isinstance(default, tuple | list)}


def _entry(document: Document, key: Key, kind: type[EntrySpec], body: dict[str, Any]) -> EntrySpec:
    if kind is ModelSpec:
        body = written_out(document, key, body)
    called = body.pop(kind.family, key[-1])
    fixed = kind in {VerificationSpec, SensitivitySpec}  # their functions are ours alone
    own = isinstance(called, str) and ":" in called and not fixed
    if not isinstance(called, str) or not (called in kind.catalogue or own):
        place = (*key, kind.family)
        raise document.error(place, unknown_name(kind.family, str(called), kind.catalogue))
    reserved = set(kind.model_fields) - {"name", "parameters"}
    fields = {name: value for name, value in body.items() if name in reserved}
    given = {name: value for name, value in body.items() if name not in reserved}
    entry = kind.catalogue.get(called)
    if entry is None:
        parameters = parameters_of_user(document, key, given, training=kind is TrainingSpec)
    else:
        defaults = _defaults(entry)
        for name in given:
            if name not in defaults:
                known = {*defaults, *reserved, kind.family}
                raise document.error(
                    (*key, name), f"unknown key {name!r}{did_you_mean(name, known)}"
                )
        later = entry.later if isinstance(entry, Entry | Attack) else ()
        parameters = resolve(document, key, defaults, given, later)
    if kind is TrainingSpec:
        check_schedules(document, key, parameters)
        check_conflicts(document, key, called, parameters)
    if kind is AttackSpec and entry is not None:
        for name, allowed in (("norm", entry.norms), ("gives", (entry.gives,))):
            if fields.setdefault(name, allowed[0]) not in allowed:
                raise document.error(
                    (*key, name),
                    f"{called} has {name} {' or '.join(allowed)}, not {fields[name]!r}",
                )
    if kind is VerificationSpec and "region" in fields:
        fields["region"] = region_spec(document, (*key, "region"), fields["region"])
    if kind is AttackSpec and entry is None:
        fields.setdefault("gives", "min_norm" if fields.get("eps") is None else "fixed_eps")
    return _checked(document, key, kind, {**fields, "name": called, "parameters": parameters})


def _defaults(entry: Any) -> Mapping[str, Any]:
    if isinstance(entry, Verifier):
        return {**entry.screen_parameters, **entry.solve_parameters}
    parameters: Mapping[str, Any] = entry.parameters
    return parameters


def _resources(document: Document, raw: Any) -> dict[str, ResourceSpec]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise document.error(("resources",), "expected kinds, e.g. `train: {num_cpus: 2}`")
    resources = {}
    for kind, body in raw.items():
        if kind not in KINDS:
            raise document.error(
                ("resources", kind), f"unknown kind {kind!r}{did_you_mean(str(kind), KINDS)}"
            )
        if body is not None and not isinstance(body, Mapping):
            raise document.error(("resources", kind), f"expected `{kind}: {{...}}`, got {body!r}")
        resources[kind] = _checked(document, ("resources", kind), ResourceSpec, dict(body or {}))
        for name in ("workers", "checkpoint_seconds"):
            if name in resources[kind].model_fields_set and kind != "train":
                raise document.error(("resources", kind, name), f"{name} belongs to `train:`")
    return resources


def _dataset(document: Document, key: Key, name: Any, folder: Path) -> DatasetSpec:
    try:
        return dataset_named(name, folder)
    except InputError as error:
        raise document.error(key, str(error)) from error


def _ood_sets(
    document: Document,
    entries: Mapping[str, EntrySpec],
    groups: datasets.Groups,
    beside: DatasetSpec,
    folder: Path,
) -> dict[str, DatasetSpec]:
    """The sets of `ood:` and of its groups, as named there."""
    places: list[tuple[Key, str]] = [
        (("ood_groups", group), word)
        for group, words in groups.items()
        for word in words
        if not word.startswith(ADVERSARIALS)
    ]
    for name, entry in entries.items():
        assert isinstance(entry, OodSpec)
        places += [(("ood", without_axes(name), "sets"), word) for word in entry.data_sets]
    found: dict[str, DatasetSpec] = {}
    for key, word in places:
        if word not in found:
            try:
                found[word] = ood_set_named(word, folder, beside, groups)
            except InputError as error:
                raise document.error(key, str(error)) from error
    return found


def _regions(document: Document, spec: SweepSpec) -> dict[str, RegionFile]:
    """Reads the files that verifications name, and holds their targets against the classes."""
    from robsweep.orchestrator.spec.entries.regions import (
        describe_affine,
        describe_box,
        describe_radius,
    )

    found: dict[str, RegionFile] = {}
    for name, entry in spec.verification.items():
        dataset = spec.dataset_of(entry)
        key: Key = ("verification", without_axes(name))
        if beyond := [target for target in entry.targets if target >= spec.dataset.classes]:
            last = spec.dataset.classes - 1
            raise document.error(
                (*key, "targets"),
                f"{spec.dataset.name} has classes 0 to {last}, no class {beyond[0]}",
            )
        for what, describe in (("radius", describe_radius), ("box", describe_box)):
            file = getattr(entry, what)
            if file is not None:
                try:
                    found[file] = describe(spec.folder / Path(file).expanduser(), dataset)
                except InputError as error:
                    raise document.error((*key, what), str(error)) from error
        if entry.region is not None and (file := entry.region.file) is not None:
            try:
                found[file] = describe_affine(spec.folder / Path(file).expanduser(), dataset)
            except InputError as error:
                raise document.error((*key, "region"), str(error)) from error
    return found


def _checked(document: Document, key: Key, kind: type[_Model], body: Any) -> _Model:
    try:
        return kind(**body)
    except ValidationError as error:
        first = error.errors()[0]
        place = tuple(part for part in first["loc"] if part != "function-after")
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            message = f"unknown key {place[-1]!r}{did_you_mean(str(place[-1]), kind.model_fields)}"
        elif first["type"] == "missing":
            message, place = f"needs {place[-1]!r}", place[:-1]
        elif first["type"] != "value_error":
            message = f"{message[0].lower()}{message[1:]}, got {first['input']!r}"
        raise document.error((*key, *place), message) from error
