"""A user's own data set: one .npz file with arrays `<split>_images` and `<split>_labels`."""

import zipfile
from pathlib import Path

import numpy as np

from robsweep.tasks.errors import InputError

_HOW = (
    "expected arrays <split>_images (uint8 0..255, or float in [0, 1]; (N, H, W), (N, C, H, W) "
    "or (N, features)) and <split>_labels (integers, (N,)), written by numpy.savez"
)


def npz(name: str, path: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, *shape) and labels (N,) of one split.

    Raises:
        InputError: The file or its arrays are not what they should be.
    """
    with _open(name, path) as file:
        for key in (f"{split}_images", f"{split}_labels"):
            if key not in file.files:
                raise InputError(
                    f"data set {name!r} ({path}): no array {key!r}, "
                    f"only {', '.join(file.files) or 'nothing'}; {_HOW}"
                )
        try:
            images, labels = file[f"{split}_images"], file[f"{split}_labels"]
        except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
            raise InputError(f"data set {name!r} ({path}): {error}; {_HOW}") from error
    if problem := _problem(images, labels):
        raise InputError(f"data set {name!r} ({path}), split {split!r}: {problem}; {_HOW}")
    if images.ndim == 3:
        images = images[:, None]
    return images, labels


def splits_of(name: str, path: str) -> tuple[str, ...]:
    with _open(name, path) as file:
        return tuple(k.removesuffix("_images") for k in file.files if k.endswith("_images"))


def _open(name: str, path: str) -> np.lib.npyio.NpzFile:
    if not Path(path).is_file():
        raise InputError(f"data set {name!r}: no file {path}; {_HOW}")
    try:
        file = np.load(path, allow_pickle=False)
    except (ValueError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"data set {name!r} ({path}) is not an .npz file: {error}") from error
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise InputError(f"data set {name!r} ({path}) is not an .npz file; {_HOW}")
    return file


def _problem(images: np.ndarray, labels: np.ndarray) -> str | None:
    if images.ndim not in (2, 3, 4) or 0 in images.shape:
        return f"images have shape {images.shape}"
    if labels.shape != images.shape[:1]:
        return f"labels have shape {labels.shape} for {len(images)} images"
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        return f"labels are {labels.dtype} from {labels.min()}, not integers counted from 0"
    return None if images.dtype == np.uint8 else _problem_of_floats(images)


def _problem_of_floats(images: np.ndarray) -> str | None:
    if not np.issubdtype(images.dtype, np.floating):
        return f"images have type {images.dtype}, neither uint8 nor a float type"
    if not np.isfinite(images).all():
        return "images are not all finite"
    if images.min() < 0 or images.max() > 1:
        return f"float images lie in [{images.min():g}, {images.max():g}], not in [0, 1]"
    return None
