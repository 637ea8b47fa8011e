"""Gzipped IDX files, as the MNIST family is published, each checked by its SHA-256."""

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np

from tasks.errors import InputError

# of the decompressed bytes, so that it holds whatever gzip wrote the file
SHA256 = {
    "mnist/train-images-idx3-ubyte.gz": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
    ),
    "mnist/train-labels-idx1-ubyte.gz": (
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"
    ),
    "mnist/t10k-images-idx3-ubyte.gz": (
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    ),
    "mnist/t10k-labels-idx1-ubyte.gz": (
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"
    ),
    "fashion-mnist/train-images-idx3-ubyte.gz": (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    "fashion-mnist/train-labels-idx1-ubyte.gz": (
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    "fashion-mnist/t10k-images-idx3-ubyte.gz": (
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    "fashion-mnist/t10k-labels-idx1-ubyte.gz": (
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"
    ),
    "notmnist/t10k-images-idx3-ubyte.gz": (
        "8e7f38ae95cc8f48e0986175ffc9137e5007ebcf3d8fdf6656c904eb9dab198b"
    ),
    "notmnist/t10k-labels-idx1-ubyte.gz": (
        "5f8e6012f2ce730700d8d05fca098bc47f71d25b890e4bec7ac5ebfd614a4001"
    ),
}

_TRAIN = 55_000  # of the 60,000 training images; the rest is the validation split


def mnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    return _split("mnist", "mnist", split, data_dir)


def fashion_mnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    return _split("fashion_mnist", "fashion-mnist", split, data_dir)


def notmnist(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    return _split("notmnist", "notmnist", split, data_dir)


def _split(name: str, folder: str, split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    prefix = "t10k" if split == "test" else "train"
    images = read(name, f"{folder}/{prefix}-images-idx3-ubyte.gz", data_dir)[:, None]
    labels = read(name, f"{folder}/{prefix}-labels-idx1-ubyte.gz", data_dir)
    part = {"train": slice(_TRAIN), "validation": slice(_TRAIN, None), "test": slice(None)}[split]
    return images[part], labels[part]


def read(name: str, file: str, data_dir: str) -> np.ndarray:
    """The uint8 array in `<data_dir>/<file>`.

    Raises:
        InputError: The file is missing, damaged, or not the published one.
    """
    path = Path(data_dir) / file
    fix = (
        f"run `robsweep data fetch {name}`, or set ROBSWEEP_DATA_DIR or --data-dir to the folder "
        f"that holds {file}"
    )
    if not path.is_file():
        raise InputError(f"data set {name!r}: no file {path}; {fix}")
    try:
        return parse(verified(path, SHA256[file]))
    except ValueError as error:
        raise InputError(f"data set {name!r}: {path} {error}; {fix}") from error


def verified(path: Path, sha256: str) -> bytes:
    """Decompressed content of a gzip file.

    Raises:
        ValueError: It does not decompress, or its SHA-256 is another one.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"is not a complete gzip file ({error})") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise ValueError(f"has SHA-256 {digest} (decompressed), expected {sha256}")
    return content


def parse(content: bytes) -> np.ndarray:
    """Reads the IDX format: two zero bytes, a type code (8: uint8), the rank, the sizes, the data.

    Raises:
        ValueError: Not an IDX file of bytes.
    """
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise ValueError("is not an IDX file of unsigned bytes")
    rank = content[3]
    shape = np.frombuffer(content[4 : 4 + 4 * rank], dtype=">u4")
    body = content[4 + 4 * rank :]
    if len(shape) != rank or len(body) != np.prod(shape, dtype=np.int64):
        raise ValueError(f"has {len(body)} bytes of data for an array of shape {tuple(shape)}")
    return np.frombuffer(body, dtype=np.uint8).reshape([int(size) for size in shape])
