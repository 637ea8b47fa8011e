"""What a verification entry asks, as parameters of its measurements and as a readable text."""

from collections.abc import Mapping
from typing import Any

from robsweep.orchestrator.spec.entries.verification import (
    FEASIBLE,
    RegionFile,
    RegionSpec,
    VerificationSpec,
    only_estimates,
    question_of,
)
from robsweep.tasks.catalogue.values import DISTANCE, NUMBERS

_DIGITS = 8  # of a file's SHA-256, in the text; the parameters have all of it


def question_params(entry: VerificationSpec, regions: Mapping[str, RegionFile]) -> dict[str, Any]:
    """The parameters that say what is asked; what is not the default is not there.

    Args:
        regions: The files of the sweep by the name that the sweep file gives them.
    """
    params: dict[str, Any] = {"property": property_text(entry, regions)}
    if entry.margin:
        params["margin"] = entry.margin
    if entry.targets:
        params["targets"] = list(entry.targets)
    for name in ("radius", "box"):
        if (file := getattr(entry, name)) is not None:
            params[name] = regions[file].sha256
    if entry.region is not None:
        params["region"] = {"name": entry.region.name, **_region_parameters(entry.region, regions)}
    if question_of(entry) != FEASIBLE:
        params["question"] = question_of(entry)
    eps = entry.eps if entry.curve is None else list(entry.curve)
    return {**params, "norm": entry.norm, "eps": eps}


def property_text(entry: VerificationSpec, regions: Mapping[str, RegionFile]) -> str:
    """The `property` of rows: equal for equal questions, but for the norm and eps."""
    words: list[str] = [DISTANCE if only_estimates(entry.name) else entry.property]
    if entry.targets:
        words.append(",".join(map(str, entry.targets)))
    if entry.margin:
        words.append(f"margin={entry.margin!r}")
    for name in ("radius", "box"):
        if (file := getattr(entry, name)) is not None:
            words.append(f"{name}={regions[file].sha256[:_DIGITS]}")
    if entry.region is not None:
        words.append(f"region={_region_text(entry.region, regions)}")
    if question_of(entry) in NUMBERS:
        words.append(question_of(entry))
    return " ".join(words)


def _region_parameters(region: RegionSpec, files: Mapping[str, RegionFile]) -> dict[str, Any]:
    """Those of its function, with a file's SHA-256 in place of its name."""
    return {
        name: files[value].sha256 if name == "file" else value
        for name, value in region.parameters.items()
    }


def _region_text(region: RegionSpec, files: Mapping[str, RegionFile]) -> str:
    """E.g. `patch(size=3,at=0x4)`, without blanks."""
    shown = []
    for name, value in _region_parameters(region, files).items():
        if isinstance(value, list):
            shown += [f"{name}={'x'.join(map(str, value))}"] if value else []
        else:
            shown.append(f"{name}={value[:_DIGITS] if name == 'file' else repr(value)}")
    return region.name + (f"({','.join(shown)})" if shown else "")
