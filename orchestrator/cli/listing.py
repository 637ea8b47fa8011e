"""What can be named in a sweep, as text."""

from collections.abc import Mapping
from typing import Any

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.tasks import catalogue
from robsweep.tasks.catalogue.entries import Attack, Dataset, Net, Region, Verifier
from robsweep.tasks.catalogue.values import NORMS

FAMILIES: dict[str, Mapping[str, Any]] = {
    "attacks": catalogue.ATTACKS,
    "models": catalogue.MODELS,
    "nets": catalogue.NETS,
    "trainings": catalogue.TRAININGS,
    "scorers": catalogue.SCORERS,
    "corruptions": catalogue.CORRUPTIONS,
    "calibrations": catalogue.CALIBRATIONS,
    "datasets": catalogue.DATASETS | catalogue.DRAWN_SETS,
    "verifiers": catalogue.VERIFIERS,
    "regions": catalogue.REGIONS,
    "sensitivities": catalogue.SENSITIVITIES,
    "landscapes": catalogue.LANDSCAPES,
}


_MORE = {
    "datasets": (
        "npz:FILE is one of your own. NAME+CORRUPTION:SEVERITY is one corrupted, e.g. mnist+fog:3 "
        "(`robsweep list corruptions`).",
        "In `sets:` of `ood:`, NAME:SPLIT is another split than test, e.g. fashion_mnist:train.",
    ),
    "regions": (
        "`region: {name: blur, kernel: 5}` of a verification; balls by `norm:` and `eps:`.",
        "What is exact is so for networks of exact operators; with curves, there are bounds and "
        "branching.",
    ),
}


def listing(family: str) -> str:
    """One line per entry: name, what it is, parameters with defaults, source; two per attack.

    Raises:
        InputError: There is no such family.
    """
    if family not in FAMILIES:
        raise InputError(f"nothing to list as {family!r}{did_you_mean(family, FAMILIES)}")
    entries = FAMILIES[family]
    if family == "attacks":
        return _attacks(entries)
    width = max(map(len, entries))
    lines = [f"{name:<{width}}  {_about(entry)}" for name, entry in entries.items()]
    return "\n".join([*lines, *_MORE.get(family, ())])


def _about(entry: Any) -> str:
    if isinstance(entry, Dataset):
        splits = ", ".join(f"{name} {count}" for name, count in entry.splits.items())
        if not entry.shape:
            return f"an OOD set of any shape; {splits}; {entry.source}"
        shape = "x".join(map(str, entry.shape))
        return f"{shape}, {entry.classes} classes; {splits}; {entry.source}"
    if isinstance(entry, Net):
        chosen = f" with {_parameters(entry.parameters)}" if entry.parameters else ""
        return f"{entry.arch}{chosen}; {entry.file}; {entry.source}; SHA-256 {entry.sha256}"
    if isinstance(entry, Region):
        return f"{entry.holds}; {_parameters(entry.parameters)}; {entry.exact}; {entry.source}"
    if isinstance(entry, Verifier):
        parameters = {**entry.screen_parameters, **entry.solve_parameters}
        return f"{', '.join(entry.norms)}; {_parameters(parameters)}; {entry.source}"
    return f"{_parameters(entry.parameters)}; {entry.source}"


def _attacks(attacks: Mapping[str, Attack]) -> str:
    """Our own and foolbox's, by the norm that they have where none is given."""
    foolbox = {name for name, attack in attacks.items() if attack.path.startswith("foolbox.")}
    blocks = []
    for title, names in (("own", attacks.keys() - foolbox), ("foolbox", foolbox)):
        for norm in NORMS:
            of_norm = sorted(name for name in names if attacks[name].default_norm == norm)
            if of_norm:
                lines = [line for name in of_norm for line in _attack(name, attacks[name])]
                blocks.append("\n".join([f"{title}, {norm}", *lines]))
    return "\n\n".join(blocks)


_AIMS = {"none": "untargeted", "optional": "targeted or not", "required": "targeted only"}


def _attack(name: str, attack: Attack) -> tuple[str, str]:
    facts = [attack.gives, attack.access, _AIMS[attack.targets]]
    if len(attack.norms) > 1:
        facts.insert(0, " or ".join(attack.norms))
    if attack.needs:
        facts.append(f"needs {' and '.join(sorted(attack.needs))}")
    return (
        f"  {name}: {', '.join(facts)}; {attack.source}",
        f"    {_parameters(attack.parameters)}",
    )


def _parameters(parameters: Mapping[str, Any]) -> str:
    if not parameters:
        return "no parameters"
    return ", ".join(
        f"{name} ({default.__name__}, required)"
        if isinstance(default, type)
        else f"{name}={list(default) if isinstance(default, tuple) else default}"
        for name, default in parameters.items()
    )
