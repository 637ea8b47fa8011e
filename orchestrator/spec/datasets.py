"""Data sets as a sweep file names them: `mnist`, `npz:FILE`, `mnist+fog:3`, `mnist:train`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.source import source_sha256
from robsweep.orchestrator.spec.parameters import unknown_name
from robsweep.orchestrator.spec.spec import DatasetSpec
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.tasks.catalogue import CORRUPTIONS, DATASETS, DRAWN_SETS
from robsweep.tasks.catalogue.corruptions import misfit
from robsweep.tasks.catalogue.words import SPLITS, Corruption, Word, word_of


def dataset_named(name: Any, folder: Path) -> DatasetSpec:
    """A data set of the catalogue, `npz:FILE`, `{npz: FILE, classes: N}`, or one corrupted.

    Args:
        folder: Where the files and modules that it names lie.

    Raises:
        InputError: There is none of that name, or it is not one to measure models on.
    """
    found = _named(name, folder, None)
    if found.split != "test":
        raise InputError(
            f"{name!r}: a split can be named in `sets:` of `ood:` alone; elsewhere models are "
            f"measured on the test split, so write {found.name}"
        )
    return found


def ood_set_named(
    name: str, folder: Path, beside: DatasetSpec, groups: Collection[str]
) -> DatasetSpec:
    """The same, or noise of the shape of the data set beside it; its name may have a split.

    Args:
        groups: What may stand in place of a name, for messages.

    Raises:
        InputError: There is none of that name, or it has no such split.
    """
    return _named(name, folder, beside, groups)


def _named(
    name: Any, folder: Path, beside: DatasetSpec | None, groups: Collection[str] = ()
) -> DatasetSpec:
    text, classes = _text_of(name)
    try:
        word = word_of(text)
    except ValueError as error:
        raise InputError(str(error)) from error
    found = _base(word, folder, classes, beside, groups)
    split = word.split or "test"
    if split not in found.splits:
        raise InputError(f"{found.name} has no split {split!r}; it has {', '.join(found.splits)}")
    changed: dict[str, Any] = {"split": split}
    if word.corruption is not None:
        corruption = _checked(word.corruption, folder)
        if (why := misfit(corruption.name, found.shape)) is not None:
            raise InputError(f"{found.name}: {why}")
        changed["name"] = Word(found.name, None, corruption).name
        changed["function"] = corruption.name if ":" in corruption.name else None
    return found.model_copy(update=changed)


def _base(
    word: Word,
    folder: Path,
    classes: int | None,
    beside: DatasetSpec | None,
    groups: Collection[str],
) -> DatasetSpec:
    if word.base.startswith("npz:"):
        from robsweep.orchestrator.spec.npz import describe

        return describe(folder / Path(word.base[4:]).expanduser(), classes)
    if word.base in DRAWN_SETS and beside is None:
        raise InputError(f"{word.base} has no classes: it is for `sets:` of `ood:`")
    known = DATASETS if beside is None else DATASETS | DRAWN_SETS
    if word.base not in known:
        base, _, split = word.base.partition(":")
        if base in known:
            raise InputError(f"{base} has no split {split!r}{did_you_mean(split, SPLITS)}")
        names = [*known, *groups, "npz:FILE"]
        raise InputError(f"unknown data set {word.base!r}{did_you_mean(word.base, names)}")
    entry = known[word.base]
    return DatasetSpec(
        name=word.base,
        splits=dict(entry.splits),
        shape=entry.shape if beside is None or entry.shape else beside.shape,
        classes=entry.classes,
    )


def _checked(corruption: Corruption, folder: Path) -> Corruption:
    """A corruption that there is; a user's own with the hash of its code."""
    name = corruption.name
    if ":" in name:
        return corruption.of_code(source_sha256(name, (str(folder),)))
    if name not in CORRUPTIONS:
        raise InputError(unknown_name("corruption", name, CORRUPTIONS))
    return corruption


def _text_of(body: Any) -> tuple[str, int | None]:
    """A data set as one word, and how many classes a user's own has."""
    if isinstance(body, str):
        return body, None
    if not isinstance(body, Mapping):
        raise InputError(f"unknown data set {body!r}: expected e.g. mnist or npz:FILE")
    for name in body:
        if name not in {"npz", "classes"}:
            raise InputError(f"unknown key {name!r}{did_you_mean(str(name), ('npz', 'classes'))}")
    file, classes = body.get("npz"), body.get("classes")
    if not isinstance(file, str):
        raise InputError("needs `npz: FILE`, e.g. `{npz: mine.npz, classes: 10}`")
    if classes is not None and (
        isinstance(classes, bool) or not isinstance(classes, int) or classes < 1
    ):
        raise InputError(f"classes: expected how many, e.g. 10, got {classes!r}")
    return f"npz:{file}", classes
