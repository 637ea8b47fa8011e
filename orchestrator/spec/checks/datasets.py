"""Whether the data sets that a sweep's entries name fit its models and each other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from robsweep.orchestrator.spec.entries.base import EntrySpec
from robsweep.orchestrator.spec.selection import selected, without_axes
from robsweep.orchestrator.spec.spec import SECTIONS, DatasetSpec, OodSpec, SweepSpec
from robsweep.orchestrator.spec.versions import Member, Version, all_versions, start_of
from robsweep.orchestrator.spec.yaml_file import Document, Key
from robsweep.tasks.catalogue.words import base_of

Sections = Mapping[str, Mapping[str, EntrySpec]]
Named = Callable[[Key, Any], DatasetSpec]  # the data set of a name in the file
Groups = Mapping[str, tuple[str, ...]]


def entry_sets(sections: Sections, named: Named) -> dict[str, DatasetSpec]:
    """The data sets that entries name in place of the sweep's, as named there."""
    return {
        word: named((section, without_axes(name), "dataset"), word)
        for section, entries in sections.items()
        for name, entry in entries.items()
        if (word := getattr(entry, "dataset", None)) is not None
    }


def tuning_sets(sections: Sections, named: Named) -> dict[str, DatasetSpec]:
    """The data sets that searches of scorers look at, as named there."""
    return {
        entry.tune.set: named(("ood", without_axes(name), "tune"), entry.tune.set)
        for name, entry in sections["ood"].items()
        if isinstance(entry, OodSpec) and entry.tune is not None
    }


def ood_groups(document: Document, raw: Any) -> Groups:
    """Groups of OOD sets by name.

    Raises:
        SpecError: It is no mapping of names to lists.
    """
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise document.error(("ood_groups",), "expected names with sets, e.g. near: [notmnist]")
    found = {}
    for name, sets in raw.items():
        words = sets if isinstance(sets, list) else [sets]
        if not words or not all(isinstance(word, str) for word in words):
            raise document.error(
                ("ood_groups", name), f"expected a list of data sets, e.g. [notmnist], got {sets!r}"
            )
        if len({*words}) < len(words):
            raise document.error(("ood_groups", name), "the same set twice: take one out")
        found[str(name)] = tuple(words)
    return found


def without_groups(entries: Mapping[str, EntrySpec], groups: Groups) -> dict[str, EntrySpec]:
    """The entries of `ood:`, with the sets of a group in place of its name."""
    found: dict[str, EntrySpec] = {}
    for name, entry in entries.items():
        assert isinstance(entry, OodSpec)
        words = [one for word in entry.sets for one in groups.get(word, (word,))]
        found[name] = entry.model_copy(update={"sets": tuple(dict.fromkeys(words))})
    return found


def check(document: Document, spec: SweepSpec) -> None:
    """Refuses data sets that do not fit.

    Raises:
        SpecError: With file, line, what is wrong and how to fix it.
    """
    for section in SECTIONS:
        for name, entry in getattr(spec, section).items():
            if getattr(entry, "dataset", None) is not None:
                _check_fits(document, (section, without_axes(name), "dataset"), spec, entry)
    for name, entry in spec.ood.items():
        for word in entry.data_sets:
            _check_ood_set(document, ("ood", without_axes(name), "sets"), spec, entry, word)
    for name, sets in spec.ood_groups.items():
        if not any({*sets} <= {*entry.sets} for entry in spec.ood.values()):
            raise document.error(
                ("ood_groups", name), f"no entry of `ood:` names it in its sets: add sets: [{name}]"
            )


def _check_fits(document: Document, key: Key, spec: SweepSpec, entry: Any) -> None:
    dataset = spec.dataset_of(entry)
    if dataset.shape != spec.dataset.shape:
        raise document.error(
            key, f"{dataset.name} has shape {dataset.shape}, the models take {spec.dataset.shape}"
        )
    if dataset.classes > spec.dataset.classes:
        raise document.error(
            key,
            f"{dataset.name} has {dataset.classes} classes, the models tell "
            f"{spec.dataset.classes} apart",
        )


def _check_ood_set(
    document: Document, key: Key, spec: SweepSpec, entry: OodSpec, word: str
) -> None:
    own, other = spec.dataset_of(entry), spec.ood_sets[word]
    if other.shape != own.shape:
        raise document.error(key, f"{word} has shape {other.shape}, {own.name} has {own.shape}")
    if other.name == own.name:
        raise document.error(key, f"{word} is the data set itself")
    for model, version in all_versions(spec):
        if not selected(entry, model, version.training):
            continue
        for training in trainings_of(spec, model, version):
            outliers, split = exposed_by(spec, training)
            if outliers == base_of(other.name) and split == other.split:
                raise document.error(
                    key,
                    f"{word} is the very split that training {training} of {model} was exposed to: "
                    f"test on another one, or leave it out with exclude: [{training}]",
                )


def exposed_by(spec: SweepSpec, training: str) -> tuple[str | None, str | None]:
    """The data set, without corruptions, and split that a training shows to its models as OOD."""
    parameters = spec.trainings[training].parameters
    outliers = spec.outlier_sets.get(parameters.get("outliers", ""))
    if outliers is None:
        return None, None
    return base_of(outliers.name), str(parameters["outlier_split"])


def trainings_of(spec: SweepSpec, model: str, version: Version) -> Sequence[str]:
    """All trainings that were part of a model: what it started from and its members' too."""
    return [*dict.fromkeys(_trainings_of(spec, Member(model, version.training), version.members))]


def _trainings_of(spec: SweepSpec, one: Member, members: Sequence[Member]) -> Iterator[str]:
    training = None if members else one.training
    while training is not None:
        yield training
        training = start_of(spec, training)
    for member in members:
        yield from _trainings_of(spec, member, ())
