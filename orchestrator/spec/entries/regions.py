"""The arrays that a verification entry names, by `radius:`, `box:` or a region, as planned."""

import hashlib
import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.spec.entries.verification import RegionFile
from robsweep.orchestrator.spec.spec import DatasetSpec

_HOW = {
    "radius": "write it with numpy.savez(FILE, radius=...)",
    "box": "write it with numpy.savez(FILE, lower=..., upper=...)",
    "affine": "write it with numpy.savez(FILE, basis=..., lower=..., upper=...)",
}
_Array = np.ndarray


def describe_radius(path: Path, dataset: DatasetSpec) -> RegionFile:
    """An .npz with an array `radius` of the image's shape, in units of eps.

    Raises:
        InputError: No such file, or an array that is no radius of each pixel.
    """
    content, (radius,) = _read(path, "radius", ("radius",))
    if radius.shape != dataset.shape:
        raise InputError(
            f"{path}: radius has shape {radius.shape}, an image of {dataset.name} {dataset.shape}"
        )
    _check(path, "radius", radius, radius >= 0, "expected 0 or more")
    return _file(path, content)


def describe_box(path: Path, dataset: DatasetSpec) -> RegionFile:
    """An .npz with arrays `lower` and `upper`, of one image or of each test sample.

    Raises:
        InputError: No such file, or arrays that are no boxes of images in [0, 1].
    """
    content, (lower, upper) = _read(path, "box", ("lower", "upper"))
    many = (dataset.splits.get("test", 0), *dataset.shape)
    for name, end in (("lower", lower), ("upper", upper)):
        if end.shape not in (dataset.shape, many):
            raise InputError(
                f"{path}: {name} has shape {end.shape}, expected {dataset.shape} for one box or "
                f"{many} for one box per test sample of {dataset.name}"
            )
        _check(path, name, end, (end >= 0) & (end <= 1), "expected pixels in [0, 1]")
    if lower.shape != upper.shape:
        raise InputError(f"{path}: lower has shape {lower.shape}, upper {upper.shape}")
    _check(path, "lower", lower, lower <= upper, "above upper there: the box is empty")
    single = lower.astype(np.float32)
    single = np.where(single < lower, np.nextafter(single, np.float32(2)), single)
    why = "no float32 number lies between it and upper: save both as float32"
    _check(path, "lower", lower, single <= upper, why)
    return _file(path, content)


def describe_affine(path: Path, dataset: DatasetSpec) -> RegionFile:
    """An .npz with `basis`, (p, *image), `lower` and `upper`, (p,); perhaps `offset`, an image.

    `basis` and `offset` may have a first dimension more, of the test samples.

    Raises:
        InputError: No such file, or arrays that are no affine map of a box of parameters.
    """
    content, (basis, lower, upper) = _read(path, "affine", ("basis", "lower", "upper"))
    tests, shape = dataset.splits.get("test", 0), dataset.shape
    count = len(lower) if lower.ndim == 1 else 0
    if basis.shape not in ((count, *shape), (tests, count, *shape)) or not count:
        raise InputError(
            f"{path}: basis has shape {basis.shape}, lower {lower.shape}; expected (p, *{shape}), "
            f"or ({tests}, p, *{shape}) for a basis per test sample of {dataset.name}, and (p,)"
        )
    if lower.shape != upper.shape:
        raise InputError(f"{path}: lower has shape {lower.shape}, upper {upper.shape}")
    for name, one in (("basis", basis), ("lower", lower), ("upper", upper)):
        _check(path, name, one, np.isfinite(one), "expected finite numbers")
    _check(path, "lower", lower, lower <= upper, "above upper there: the region is empty")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        offset = arrays["offset"].astype(np.float64) if "offset" in arrays else np.zeros(shape)
    if offset.shape not in (shape, (tests, *shape)):
        raise InputError(f"{path}: offset has shape {offset.shape}, an image {shape}")
    _check(path, "offset", offset, (offset >= 0) & (offset <= 1), "expected pixels in [0, 1]")
    return _file(path, content)


def _read(path: Path, what: str, names: tuple[str, ...]) -> tuple[bytes, list[_Array]]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}; {_HOW[what]}") from error
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            if missing := [name for name in names if name not in arrays]:
                there = ", ".join(arrays.files) or "nothing"
                raise InputError(f"{path}: no array {missing[0]!r}, only {there}; {_HOW[what]}")
            found = [arrays[name] for name in names]
    except InputError:
        raise
    except (ValueError, OSError, EOFError, TypeError, AttributeError, zipfile.BadZipFile,
            zlib.error) as error:  # fmt: skip
        raise InputError(f"{path}: not a readable .npz ({error}); {_HOW[what]}") from error
    for name, array in zip(names, found, strict=True):
        if array.dtype.kind not in "fiu":
            raise InputError(f"{path}: {name} has type {array.dtype}, expected numbers")
    return content, [array.astype(np.float64) for array in found]


def _check(path: Path, name: str, array: _Array, good: _Array, why: str) -> None:
    """Names the first value that is not finite or not good."""
    bad = np.argwhere(~(np.isfinite(array) & good))
    if len(bad):
        place = tuple(bad[0].tolist())
        raise InputError(f"{path}: {name}{list(place)} is {array[place]:g}: {why}")


def _file(path: Path, content: bytes) -> RegionFile:
    return RegionFile(path=str(path.resolve()), sha256=hashlib.sha256(content).hexdigest())
