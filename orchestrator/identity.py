"""The measurement id: what makes two measurements the same. Final: stores hold these ids."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

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
        code: A user's own functions -> hash of their sources.
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


def _hash(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:16]
