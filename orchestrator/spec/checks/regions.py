"""The regions of verifications: what a sweep file names, and whether it fits the images."""

from collections.abc import Mapping
from typing import Any

from robsweep.orchestrator.spec.entries.verification import RegionSpec
from robsweep.orchestrator.spec.parameters import resolve
from robsweep.orchestrator.spec.selection import without_axes
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.yaml_file import Document, Key, did_you_mean
from robsweep.tasks.catalogue.regions import REGIONS, misfit

_EXAMPLE = "e.g. {name: blur, kernel: 5}"
_NAMED = {name for name, region in REGIONS.items() if not region.ball}


def region_spec(document: Document, key: Key, given: Any) -> RegionSpec | None:
    """From a name, or a mapping of the name and parameters.

    Raises:
        SpecError: With file, line and what is wrong.
    """
    if given is None:
        return None
    body = {"name": given} if isinstance(given, str) else given
    if not isinstance(body, Mapping) or not isinstance(body.get("name"), str):
        raise document.error(key, f"expected a name or {_EXAMPLE}, got {given!r}")
    name = body["name"]
    if name in REGIONS and name not in _NAMED:
        raise document.error(key, f"{name} is a ball: ask for it by `norm: {name}` and `eps:`")
    if name not in _NAMED:
        known = f"{did_you_mean(name, _NAMED)} (`robsweep list regions` shows all)"
        raise document.error(key, f"unknown region {name!r}{known}")
    own = {word: value for word, value in body.items() if word != "name"}
    return RegionSpec(name=name, parameters=resolve(document, key, REGIONS[name].parameters, own))


def check(document: Document, spec: SweepSpec) -> None:
    """Refuses regions that the images do not have.

    Raises:
        SpecError: With file, line and what is wrong.
    """
    for name, entry in spec.verification.items():
        region = entry.region
        if region is None:
            continue
        shape = spec.dataset_of(entry).shape
        if (why := misfit(region.name, region.parameters, shape)) is not None:
            raise document.error(("verification", without_axes(name), "region"), why)
