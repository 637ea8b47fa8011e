"""CIFAR-10 in its binary version: records of one label and 3,072 pixels."""

import numpy as np

from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.data import published

_SHAPE = (3, 32, 32)  # red, green, blue; each plane row by row
_RECORD = 1 + 3 * 32 * 32


def cifar10(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """60,000 photographs of ten classes.

    The last half of the fifth of the five training batches is the validation split.

    Source: Krizhevsky 2009, section 3.1; the layout of the binary version is the author's.
    """
    files = [f for f in DATASETS["cifar10"].files if ("test" in f) == (split == "test")]
    records = np.concatenate([published.read("cifar10", f, data_dir, parse) for f in files])
    images = records[:, 1:].reshape(-1, *_SHAPE)
    return published.share("cifar10", split, images, records[:, 0])


def parse(content: bytes) -> np.ndarray:
    """Splits a batch into its records, uint8 (N, 3073), label first.

    Raises:
        ValueError: It does not end with a whole record.
    """
    if not content or len(content) % _RECORD:
        raise ValueError(f"has {len(content)} bytes, which are no records of {_RECORD} bytes")
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD)
