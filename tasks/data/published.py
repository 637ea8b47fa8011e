"""Files of published data sets, checked by what is known of them."""

import gzip
import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.data import checksums
from robsweep.tasks.errors import InputError


def read(name: str, file: str, data_dir: str, parse: Callable[[bytes], np.ndarray]) -> np.ndarray:
    """The array in `<data_dir>/<file>`.

    Args:
        parse: Of the decompressed bytes; raises ValueError where they are not of its format.

    Raises:
        InputError: The file is missing, damaged, or not the published one.
    """
    path = Path(data_dir) / file
    if not path.is_file():
        raise InputError(f"data set {name!r}: no file {path}; {_fix(name, file)}")
    try:
        return parse(verified(path, file))
    except ValueError as error:
        raise InputError(f"data set {name!r}: {path} {error}; {_fix(name, file)}") from error


def verified(path: Path, file: str) -> bytes:
    """Content of a file, decompressed, and held against its SHA-256 where that is known.

    Args:
        file: Its name below the data dir.

    Raises:
        ValueError: It does not decompress, or its SHA-256 is another one.
    """
    stored = path.read_bytes()
    _hold(stored, checksums.FILE.get(file), "")
    content = _decompressed(stored) if path.suffix == ".gz" else stored
    _hold(content, checksums.CONTENT.get(file), " (decompressed)" if path.suffix == ".gz" else "")
    return content


def share(
    name: str, split: str, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """A split's samples of those that were published together.

    The training files hold the training split first and the validation split last.

    Raises:
        InputError: There are more or fewer than were published, or a label is out of range.
    """
    entry = DATASETS[name]
    fix = f"run `robsweep data fetch {name}`"
    before = 0 if split != "validation" else entry.splits["train"]
    together = ("test",) if split == "test" else ("train", "validation")
    wanted = sum(entry.splits[one] for one in together)
    if not len(images) == len(labels) == wanted:
        raise InputError(
            f"data set {name!r}: {len(images)} images and {len(labels)} labels for "
            f"{' and '.join(together)}, published are {wanted}; {fix}"
        )
    if images.shape[1:] != entry.shape:
        raise InputError(
            f"data set {name!r}: images of shape {images.shape[1:]}, published are "
            f"{entry.shape}; {fix}"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= entry.classes:
        raise InputError(
            f"data set {name!r}: labels from {low} to {high}, its classes are 0 to "
            f"{entry.classes - 1}; {fix}"
        )
    part = slice(before, before + entry.splits[split])
    return images[part], labels[part]


def _fix(name: str, file: str) -> str:
    return (
        f"run `robsweep data fetch {name}`, or set ROBSWEEP_DATA_DIR or --data-dir to the folder "
        f"that holds {file}"
    )


def _decompressed(stored: bytes) -> bytes:
    try:
        return gzip.decompress(stored)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"is not a complete gzip file ({error})") from error


def _hold(content: bytes, expected: str | None, what: str) -> None:
    if expected is not None and (digest := hashlib.sha256(content).hexdigest()) != expected:
        raise ValueError(f"has SHA-256 {digest}{what}, expected {expected}")
