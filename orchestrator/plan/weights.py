"""Imported weights: where they lie, what they hold, and their bytes."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from robsweep.orchestrator.errors import InputError, RobsweepError
from robsweep.orchestrator.identity import import_identity
from robsweep.orchestrator.plan.planned import Places, PlannedModel
from robsweep.orchestrator.plan.sources import Code, hashes
from robsweep.orchestrator.spec.spec import ModelSpec, SweepSpec, is_url
from robsweep.tasks.job import ModelRef


class WeightsFile(NamedTuple):
    """A file and what it holds; one that is still at its URL is not there yet."""

    path: Path
    sha256: str
    url: str | None = None


def planned_model(spec: SweepSpec, name: str, places: Places, code: Code) -> PlannedModel:
    """A model of the sweep that is not trained here.

    Args:
        code: Its source, if it is a user's own function.

    Raises:
        InputError: Its weights are not there.
    """
    model = spec.models[name]
    file = None
    if model.weights is not None:
        file = weights_file(name, model, spec.folder, places)
    digest = file.sha256 if file else None
    shape, classes = spec.dataset.shape, spec.dataset.classes
    identity = import_identity(model.name, model.parameters, shape, classes, digest, hashes(code))
    ref = ModelRef(
        identity,
        model.name,
        model.parameters,
        shape,
        classes,
        str(file.path) if file else None,
        digest,
        file.url if file else None,
        name,
    )
    return PlannedModel(ref, identity, name, None, None, (), code)


def weights_file(name: str, model: ModelSpec, folder: Path, places: Places) -> WeightsFile:
    """Where a model's weights lie, or will lie once a run needs them; downloads nothing.

    Args:
        folder: Of the sweep file; looked in before the nets dir.

    Raises:
        InputError: No such file, or one with another SHA-256 than the sweep file says.
    """
    weights = str(model.weights)
    if is_url(weights):
        assert model.sha256 is not None
        nets = places.nets_dir or Path("~/.cache/robsweep/nets").expanduser()
        return WeightsFile(nets / "downloads" / model.sha256, model.sha256, weights)
    folders = [folder, *([places.nets_dir] if places.nets_dir else [])]
    candidates = [(place / Path(weights).expanduser()).resolve() for place in folders]
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise InputError(
            f"model {name!r}: no weights {weights!r} in {', '.join(map(str, folders))}; "
            "set ROBSWEEP_NETS_DIR or --nets-dir to the folder that holds them"
        )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if model.sha256 not in {None, digest}:
        raise InputError(
            f"model {name!r}: {path} has SHA-256 {digest}, expected {model.sha256}: "
            "it is another file, or a damaged one"
        )
    return WeightsFile(path, digest)


def read(ref: ModelRef) -> bytes:
    """The bytes of a model's weights file, downloaded if they are not there yet.

    Raises:
        InputError: The file at the URL is another one, or cannot be kept.
        RobsweepError: The URL cannot be read.
    """
    path = Path(str(ref.weights))
    if ref.weights_url is None:
        return path.read_bytes()
    if path.is_file():
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() == ref.weights_sha256:
            return content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # next to its place, so that the move is atomic; whatever is not moved is removed
        with TemporaryDirectory(prefix=".fetch-", dir=path.parent) as folder:
            return _fetched(ref.weights_url, str(ref.weights_sha256), Path(folder), path)
    except OSError as error:
        raise InputError(
            f"cannot keep {ref.weights_url} in {path.parent} ({error.strerror or error}): set "
            "ROBSWEEP_NETS_DIR or --nets-dir to a folder that you may write to"
        ) from error


def _fetched(url: str, sha256: str, folder: Path, path: Path) -> bytes:
    from robsweep.tasks.data.download import download

    part = folder / path.name
    if (problem := download(url, part)) is not None:
        raise RobsweepError(f"cannot download weights {url}: {problem}")
    content = part.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise InputError(
            f"weights {url} have SHA-256 {digest}, expected {sha256}: it is another file"
        )
    part.replace(path)
    return content
