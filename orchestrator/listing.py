"""What can be named in a sweep, as text."""

from collections.abc import Mapping
from typing import Any

from orchestrator.errors import InputError
from orchestrator.yaml_file import did_you_mean
from tasks import catalogue
from tasks.entries import Attack, Dataset, Net, Verifier

FAMILIES: dict[str, Mapping[str, Any]] = {
    "attacks": catalogue.ATTACKS,
    "models": catalogue.MODELS,
    "nets": catalogue.NETS,
    "trainings": catalogue.TRAININGS,
    "scorers": catalogue.SCORERS,
    "corruptions": catalogue.CORRUPTIONS,
    "calibrations": catalogue.CALIBRATIONS,
    "datasets": catalogue.DATASETS,
    "verifiers": catalogue.VERIFIERS,
    "sensitivities": catalogue.SENSITIVITIES,
    "landscapes": catalogue.LANDSCAPES,
}


def listing(family: str) -> str:
    """One line per entry: name, what it is, parameters with defaults, source.

    Raises:
        InputError: There is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"nothing to list as {family!r}{did_you_mean(family, FAMILIES)}")
    entries = FAMILIES[family]
    width = max(map(len, entries))
    return "\n".join(f"{name:<{width}}  {_about(entry)}" for name, entry in entries.items())


def _about(entry: Any) -> str:
    if isinstance(entry, Dataset):
        splits = ", ".join(f"{name} {count}" for name, count in entry.splits.items())
        shape = "x".join(map(str, entry.shape))
        return f"{shape}, {entry.classes} classes; {splits}; {entry.source}"
    if isinstance(entry, Net):
        chosen = f" with {_parameters(entry.parameters)}" if entry.parameters else ""
        return f"{entry.arch}{chosen}; {entry.file}; {entry.source}; SHA-256 {entry.sha256}"
    if isinstance(entry, Verifier):
        parameters = {**entry.screen_parameters, **entry.solve_parameters}
        return f"{', '.join(entry.norms)}; {_parameters(parameters)}; {entry.source}"
    about = f"{_parameters(entry.parameters)}; {entry.source}"
    if isinstance(entry, Attack):
        needs = f", needs {', '.join(sorted(entry.needs))}" if entry.needs else ""
        return f"{', '.join(entry.norms)} {entry.gives} {entry.access}{needs}; {about}"
    return about


def _parameters(parameters: Mapping[str, Any]) -> str:
    if not parameters:
        return "no parameters"
    return ", ".join(
        f"{name} ({default.__name__}, required)"
        if isinstance(default, type)
        else f"{name}={list(default) if isinstance(default, tuple) else default}"
        for name, default in parameters.items()
    )
