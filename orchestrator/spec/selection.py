"""Which models and trainings a name in a sweep file stands for."""

from collections.abc import Iterable

from robsweep.orchestrator.spec.entries.base import EntrySpec


def selected(entry: EntrySpec, model: str, training: str | None) -> bool:
    """Whether an entry applies to a trained model: `only:`, less `exclude:`.

    Both name models, trainings, or `model/training`; a name without axes means all its variants.
    """
    names = _names(model, training)
    return (not entry.only or bool(names & {*entry.only})) and not excluded(entry, model, training)


def excluded(entry: EntrySpec, model: str, training: str | None) -> bool:
    return bool(_names(model, training) & {*entry.exclude})


def matching(word: str, names: Iterable[str]) -> list[str]:
    """The names that a word stands for: itself, or all variants of a name without axes."""
    return [name for name in names if word in both(name)]


def without_axes(name: str) -> str:
    return name.split("[", maxsplit=1)[0]


def both(name: str) -> tuple[str, str]:
    return name, without_axes(name)


def _names(model: str, training: str | None) -> set[str]:
    pairs = {f"{m}/{t}" for m in both(model) for t in both(training or "")}
    return {*both(model), *both(training or ""), *pairs}
