"""Imported models: their weights file, and what identifies them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.identity import import_identity
from orchestrator.planned import Places, PlannedModel
from orchestrator.spec import SweepSpec
from tasks.job import ModelRef


def imported(spec: SweepSpec, name: str, places: Places, code: Mapping[str, str]) -> PlannedModel:
    """A model of the sweep that is not trained here.

    Args:
        code: SHA-256 of its source file, if it is a user's own function.

    Raises:
        InputError: Its weights are not there.
    """
    model = spec.models[name]
    file, digest = None, None
    if model.weights is not None:
        file = _file(spec, name, model.weights, places)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    shape, classes = spec.dataset.shape, spec.dataset.classes
    identity = import_identity(model.name, model.parameters, shape, classes, digest, code)
    ref = ModelRef(
        identity,
        model.name,
        model.parameters,
        shape,
        classes,
        str(file) if file else None,
        digest,
        name,
    )
    return PlannedModel(ref, identity, name, None, None, ())


def _file(spec: SweepSpec, name: str, weights: str, places: Places) -> Path:
    folders = [spec.folder, *([places.nets_dir] if places.nets_dir else [])]
    for folder in folders:
        path = (folder / Path(weights).expanduser()).resolve()
        if path.is_file():
            return path
    raise InputError(
        f"model {name!r}: no weights {weights!r} in {', '.join(map(str, folders))}; "
        "set ROBSWEEP_NETS_DIR or --nets-dir to the folder that holds them"
    )
