"""The measurement id: what makes two measurements the same. Final: stores hold these ids."""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError


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
        data: `<data set>:<split>`.
        seed: Training seed; None where the model's identity already says it all.
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
    arch: str, params: Mapping[str, Any], weights_sha256: str | None, code: Mapping[str, str]
) -> str:
    """Identity of a model that is not trained here."""
    identity: dict[str, Any] = {"arch": arch, "params": params, "weights": weights_sha256}
    if code:
        identity["code"] = code
    return f"import-{_hash(identity)}"


def source_sha256(name: str, paths: tuple[str, ...]) -> str:
    """SHA-256 of the file that defines a user's `package.module:function`, not imported here.

    Raises:
        InputError: There is no such module.
    """
    module = name.split(":", maxsplit=1)[0]
    with _on_path(paths):
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError) as error:
            spec, reason = None, str(error)
        else:
            reason = f"No module named {module!r}"
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        where = ", ".join(paths) or "the Python path"
        raise InputError(f"{name}: {reason}; looked in {where} and the installed packages")
    return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


@contextmanager
def _on_path(paths: tuple[str, ...]) -> Iterator[None]:
    before = list(sys.path)
    sys.path[:0] = paths
    try:
        importlib.invalidate_caches()
        yield
    finally:
        sys.path[:] = before


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]
