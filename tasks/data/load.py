"""Data sets as tensors, the same way for every source."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.catalogue.resolve import resolve
from robsweep.tasks.data.npz import npz, splits_of
from robsweep.tasks.errors import InputError

_NO_FILES: Mapping[str, str] = {}


class Labelled(NamedTuple):
    """Images float32 (N, *shape) in [0, 1] and labels int64 (N,); shared, never written to."""

    images: Tensor
    labels: Tensor

    def part(self, samples: slice | range, device: torch.device) -> "Labelled":
        """Some samples on a device, a copy: what a user's code may be given."""
        which = slice(samples.start, samples.stop)
        return Labelled(*(tensor[which].to(device, copy=True) for tensor in self))


def load(
    dataset: str, split: str, data_dir: str, data_files: Mapping[str, str] = _NO_FILES
) -> Labelled:
    """One split of a data set, kept in memory for the next job of this process.

    Args:
        data_files: A user's data set -> its .npz file; these names come before the catalogue's.

    Raises:
        InputError: Unknown data set or split; a file that is missing, damaged or not the real one.
    """
    known = splits(dataset, data_files)
    if split not in known:
        raise InputError(f"data set {dataset!r} has no split {split!r}; it has {', '.join(known)}")
    return _load(dataset, split, str(data_dir), data_files.get(dataset))


def splits(dataset: str, data_files: Mapping[str, str] = _NO_FILES) -> tuple[str, ...]:
    """Names of a data set's splits."""
    if dataset in data_files:
        return splits_of(dataset, data_files[dataset])
    if dataset not in DATASETS:
        names = ", ".join([*DATASETS, *data_files])
        raise InputError(f"unknown data set {dataset!r}; known are {names}")
    return tuple(DATASETS[dataset].splits)


def empty_like(data: Labelled) -> Labelled:
    """No samples of the same shape, for a data set without a validation split."""
    return Labelled(data.images[:0], data.labels[:0])


@lru_cache(maxsize=6)
def _load(dataset: str, split: str, data_dir: str, file: str | None) -> Labelled:
    if file is not None:
        images, labels = npz(dataset, file, split)
    else:
        images, labels = resolve(DATASETS[dataset].path, "data set")(split, data_dir)
    pixels = images.astype(np.float32)
    if images.dtype == np.uint8:
        pixels /= 255
    return Labelled(torch.from_numpy(pixels), torch.from_numpy(labels.astype(np.int64)))
