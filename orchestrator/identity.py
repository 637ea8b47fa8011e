"""The measurement id: what makes two measurements the same. Final: stores hold these ids."""

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

from robsweep.orchestrator.errors import InputError

MADE_HERE = ("train-", "ensemble-")  # ids of models whose weights a store keeps


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, ASCII, floats as `repr`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def measurement_id(
    kind: str,
    params: Mapping[str, Any],
    model: str | None,
    data: str,
    seed: int | None,
    version: int,
    code: Mapping[str, str],
) -> str:
    """`kind-<hash>` over everything that decides a measurement's rows.

    Args:
        params: Resolved parameters, defaults included.
        model: Identity of the model that is measured; None for training.
        data: `<data set>:<split>`; empty if none is read.
        seed: Training seed; None for imported models.
        version: Of the kind, from the catalogue.
        code: A user's own functions -> SHA-256 of their source file.
    """
    identity: dict[str, Any] = {
        "kind": kind,
        "params": params,
        "model": model,
        "data": data,
        "seed": seed,
        "version": version,
    }
    if code:
        identity["code"] = code
    return f"{kind}-{_hash(identity)}"


def import_identity(
    arch: str,
    params: Mapping[str, Any],
    shape: Sequence[int],
    classes: int,
    weights_sha256: str | None,
    code: Mapping[str, str],
) -> str:
    """Identity of a model that is not trained here.

    More than its weights: the same weights file makes different models under different code.
    """
    identity: dict[str, Any] = {
        "arch": arch,
        "params": params,
        "shape": list(shape),
        "classes": classes,
        "weights": weights_sha256,
    }
    if code:
        identity["code"] = code
    return f"import-{_hash(identity)}"


def source_sha256(name: str, paths: tuple[str, ...]) -> str:
    """SHA-256 of the file that defines a user's `package.module:function`.

    Raises:
        InputError: There is no such module.
    """
    return hashlib.sha256(source_file(name, paths).read_bytes()).hexdigest()


def source_file(name: str, paths: tuple[str, ...]) -> Path:
    """The file that defines a user's `package.module:function`.

    Raises:
        InputError: There is no such module.
    """
    module = name.split(":", maxsplit=1)[0]
    try:
        spec = _find(module, paths)
    except Exception as error:  # noqa: BLE001 (packages run when they are looked into)
        spec, reason = None, f"{type(error).__name__}: {error}"
    else:
        reason = f"No module named {module!r}"
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        where = ", ".join(paths) or "the Python path"
        raise InputError(f"{name}: {reason}; looked in {where} and the installed packages")
    return Path(spec.origin)


def _find(module: str, paths: tuple[str, ...]) -> ModuleSpec | None:
    """The module as a fresh process would find it: what is loaded here may be of an older file."""
    importlib.invalidate_caches()
    search: Sequence[str] | None = [*paths, *sys.path]
    parts = module.split(".")
    spec = None
    for depth in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:depth]), search)
        if spec is None:
            # an editable install has a finder of its own
            return None if module in sys.modules else importlib.util.find_spec(module)
        search = spec.submodule_search_locations
    return spec


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]
