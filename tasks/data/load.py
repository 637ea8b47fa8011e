"""Data sets as tensors, the same way for every source."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.catalogue import CORRUPTIONS, DATASETS, DRAWN_SETS
from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.catalogue.words import SPLITS, Corruption, word_of
from robsweep.tasks.data.npz import npz, splits_of
from robsweep.tasks.errors import InputError
from robsweep.tasks.shift.corrupt import corrupt

_NO_FILES: Mapping[str, str] = {}


class Labelled(NamedTuple):
    """Images float32 (N, *shape) in [0, 1] and labels int64 (N,); shared, never written to.

    Images that are made one by one are there for the samples that were asked for; the others are
    NaN.
    """

    images: Tensor
    labels: Tensor

    def part(self, samples: slice | range, device: torch.device) -> "Labelled":
        """Some samples on a device, a copy: what a user's code may be given."""
        which = slice(samples.start, samples.stop)
        return Labelled(*(tensor[which].to(device, copy=True) for tensor in self))


def load(
    dataset: str,
    split: str,
    data_dir: str,
    data_files: Mapping[str, str] = _NO_FILES,
    *,
    samples: Sequence[int] | None = None,
    shape: tuple[int, ...] = (),
) -> Labelled:
    """One split of a data set, kept in memory for the next job of this process.

    Args:
        dataset: Of the catalogue, a user's own, or one of these corrupted: `mnist+fog:3`.
        data_files: A user's data set -> its .npz file; these names come before the catalogue's.
        samples: Which are needed, where images are made one by one; None: all.
        shape: Of one image, for sets that are drawn in any shape.

    Raises:
        InputError: Unknown data set or split; a file that is missing, damaged or not the real one;
            a corruption that does not fit these images.
    """
    base, corruption = parts(dataset)
    known = splits(dataset, data_files)
    if split not in known:
        raise InputError(f"data set {dataset!r} has no split {split!r}; it has {', '.join(known)}")
    if base in DRAWN_SETS:
        data = _drawn(base, split, shape, samples)
    else:
        data = _load(base, split, str(data_dir), data_files.get(base))
    if corruption is None:
        return data
    kept = _made(dataset, split, str(data_dir), data_files.get(base), tuple(data.images.shape[1:]))
    return corrupted(data, split, corruption, samples, kept)


def splits(dataset: str, data_files: Mapping[str, str] = _NO_FILES) -> tuple[str, ...]:
    """Names of a data set's splits."""
    base, _ = parts(dataset)
    if base in data_files:
        return splits_of(base, data_files[base])
    known = DATASETS | DRAWN_SETS
    if base not in known:
        names = ", ".join([*known, *data_files])
        raise InputError(f"unknown data set {base!r}; known are {names}")
    return tuple(known[base].splits)


def parts(dataset: str) -> tuple[str, Corruption | None]:
    """A data set and what is done to it.

    Raises:
        InputError: The name cannot be read.
    """
    try:
        word = word_of(dataset)
    except ValueError as error:
        raise InputError(str(error)) from error
    return word.base, word.corruption


def empty_like(data: Labelled) -> Labelled:
    """No samples of the same shape, for a data set without a validation split."""
    return Labelled(data.images[:0], data.labels[:0])


@dataclass(eq=False)
class Made:
    """Images that are made one by one, and which there are."""

    images: Tensor | None = None  # (N, *shape), NaN where there is none yet
    there: Tensor | None = None  # bool (N,)

    def fill(
        self,
        size: tuple[int, ...],
        samples: Sequence[int] | None,
        make: Callable[[list[int]], Tensor],
    ) -> Tensor:
        """Makes those of the samples that are not there, and gives all images."""
        if self.images is None or self.there is None:
            self.images = torch.full(size, torch.nan)
            self.there = torch.zeros(size[0], dtype=torch.bool)
        asked = range(size[0]) if samples is None else samples
        missing = [one for one in asked if one < size[0] and not self.there[one]]
        if missing:
            self.images[missing] = make(missing)
            self.there[missing] = True
        return self.images


def corrupted(
    data: Labelled,
    split: str,
    corruption: Corruption,
    samples: Sequence[int] | None = None,
    kept: Made | None = None,
) -> Labelled:
    """A split with one corruption, at its default parameters and seed 0.

    Args:
        kept: Images of it that were made before.
    """
    name, severity, _ = corruption
    parameters = CORRUPTIONS[name].parameters if name in CORRUPTIONS else {}
    # the same sample number of another split is another image, with draws of its own
    first = SPLITS[::-1].index(split) << 32 if split in SPLITS else 0

    def make(missing: list[int]) -> Tensor:
        seeds = [first + sample for sample in missing]
        return corrupt(name, data.images[missing], severity, parameters, 0, seeds)

    images = (kept or Made()).fill(tuple(data.images.shape), samples, make)
    return Labelled(images, data.labels)


def kept(content: bytes) -> Labelled:
    """Images that a store has kept of some samples of a split, as `images, first, size`.

    Their labels are not known, and stand there as 0.
    """
    from safetensors.torch import load as tensors_of

    tensors = tensors_of(content)
    images, first = tensors["images"], int(tensors["first"])
    whole = torch.full((int(tensors["size"]), *images.shape[1:]), torch.nan)
    whole[first : first + len(images)] = images
    return Labelled(whole, torch.zeros(len(whole), dtype=torch.int64))


@lru_cache(maxsize=6)
def _made(
    dataset: str, split: str, data_dir: str, file: str | None, shape: tuple[int, ...]
) -> Made:
    del dataset, split, data_dir, file, shape
    return Made()


def _drawn(
    name: str, split: str, shape: tuple[int, ...], samples: Sequence[int] | None
) -> Labelled:
    """Images of noise, each seeded by its number; labels all 0."""
    if not shape:
        raise InputError(f"data set {name!r} has the shape of the data beside it: there are none")
    entry = DRAWN_SETS[name]
    count, draw = entry.splits[split], resolve(entry.path, "data set")

    def make(missing: list[int]) -> Tensor:
        return torch.from_numpy(np.stack([draw(sample, shape) for sample in missing]))

    images = _made(name, split, "", None, shape).fill((count, *shape), samples, make)
    return Labelled(images, torch.zeros(count, dtype=torch.int64))


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
