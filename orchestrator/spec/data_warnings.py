"""What looks wrong in a user's own data, which is measured all the same."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from robsweep.orchestrator.spec.npz import SPLITS
from robsweep.orchestrator.spec.spec import DatasetSpec, SweepSpec

_CHANNELS = (1, 3, 4)
_NEAR = 0.01  # root mean square difference of pixels, which are 0 to 1
_BLOCKS = 4  # in each direction: what images are compared by at first
_ROUNDED = 0.05  # means of blocks; in this many ways, as near ones may lie across a border
_WAYS = 4


def data_warnings(spec: SweepSpec) -> list[str]:
    """Of the data sets of a sweep that are files of the user; those of the catalogue are known.

    Reads the files whole: a few seconds for 60,000 images. Arrays that are no data are left to the
    preflight, which refuses them.
    """
    sets = {s.file: s for s in (*spec.outlier_sets.values(), *spec.ood_sets.values(), spec.dataset)}
    found = []
    for file, dataset in sets.items():
        if file is not None:
            own = dataset == spec.dataset
            found += [f"data set {Path(file).name}: {text}" for text in _of(file, dataset, own=own)]
    return found


def _of(file: str, dataset: DatasetSpec, *, own: bool) -> Iterator[str]:
    with np.load(file, allow_pickle=False) as arrays:
        try:
            images = {s: arrays[f"{s}_images"] for s in SPLITS if f"{s}_images" in arrays}
            labels = {s: arrays[f"{s}_labels"] for s in images if f"{s}_labels" in arrays}
        except ValueError:  # of objects
            return
    if not all(
        len(images[s]) and labels[s].shape == (len(images[s]),) and labels[s].dtype.kind in "iu"
        for s in images
    ):
        return
    if own:
        yield from of_arrays(images, labels, dataset.shape, dataset.classes)
    else:  # the labels of others are not looked at
        yield from _layout(dataset.shape)


def of_arrays(
    images: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    shape: tuple[int, ...],
    classes: int,
) -> Iterator[str]:
    """What looks wrong in arrays by split, of which a later one is measured on.

    Args:
        images: (N, *shape) each, uint8, or floats in [0, 1].
        labels: Integers (N,) each; none, if they are not to be looked at.
    """
    yield from _layout(shape)
    if labels:
        yield from _labels(labels, classes)
    yield from _copies(images)


def _layout(shape: tuple[int, ...]) -> Iterator[str]:
    if len(shape) == 3 and shape[2] in _CHANNELS and shape[0] not in _CHANNELS:
        yield (
            f"images have shape (N, {', '.join(map(str, shape))}), which is read as {shape[0]} "
            f"channels of {shape[1]} x {shape[2]} pixels; if the last axis is the channels, move "
            "it: images.transpose(0, 3, 1, 2) in numpy, images.permute(0, 3, 1, 2) in torch"
        )


def _labels(labels: Mapping[str, np.ndarray], classes: int) -> Iterator[str]:
    there = {split: {*np.unique(values).tolist()} for split, values in labels.items()}
    every = set.union(*there.values())
    if min(every) < 0:  # refused
        return
    absent = sorted({*range(max(every) + 1)} - every)
    if absent == [*range(min(every))] and min(every) == 1:
        yield (
            f"labels go from 1 to {max(every)}, and none is 0: they are counted from 0, so that "
            "class 0 has no sample; give labels - 1 if that is not meant"
        )
    elif absent:
        yield f"no sample of {_classes(absent)}, of {classes}"
    if "train" in there:
        if unseen := sorted(there["test"] - there["train"]):
            yield f"{_classes(unseen)} in test, but not in train: nothing can learn to tell"
        if missing := sorted(there["train"] - there["test"]):
            yield f"{_classes(missing)} in train, but not in test: nothing is measured there"


def _classes(which: list[int]) -> str:
    more = f" and {len(which) - 5} more" if len(which) > 5 else ""
    return f"class{'es' if len(which) > 1 else ''} {', '.join(map(str, which[:5]))}{more}"


def _copies(images: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Images of a split that are, exactly or nearly, in one before it too."""
    for i, later in enumerate(images):
        for earlier in [*images][:i]:
            if images[earlier].shape[1:] != images[later].shape[1:]:
                continue
            exact, near = _shared(images[earlier], images[later])
            kinds = (("also", exact), ("nearly, up to a little noise, also", near))
            for how, pairs in kinds:
                if pairs:
                    a, b = pairs[0]
                    yield (
                        f"{len(pairs)} of {len(images[later])} {later} images are {how} in "
                        f"{earlier} (e.g. {later} {a} = {earlier} {b}): what is measured there is "
                        "memory too"
                    )


def _shared(
    earlier: np.ndarray, later: np.ndarray
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (position in `later`, in `earlier`) of equal images, and of others that are near."""
    first, second = _pixels(earlier), _pixels(later)
    known = {row.tobytes(): i for i, row in enumerate(first)}
    exact = {i: known[key] for i, row in enumerate(second) if (key := row.tobytes()) in known}
    near: dict[int, int] = {}
    means = _means(earlier), _means(later)
    for way in range(_WAYS):
        before, behind = (
            np.floor(part / _ROUNDED + way / _WAYS).astype(np.int16) for part in means
        )
        places = {row.tobytes(): i for i, row in enumerate(before)}
        found = [(i, places.get(row.tobytes())) for i, row in enumerate(behind)]
        pairs = [(i, j) for i, j in found if j is not None and i not in exact and i not in near]
        for i, j in pairs:
            if np.sqrt(np.mean((second[i] - first[j]) ** 2)) < _NEAR:
                near[i] = j
    return [*exact.items()], sorted(near.items())


def _pixels(images: np.ndarray) -> np.ndarray:
    """Float32 (N, pixels) in [0, 1]."""
    flat = np.ascontiguousarray(images.reshape(len(images), -1), dtype=np.float32)
    return flat / np.float32(255) if images.dtype == np.uint8 else flat


def _means(images: np.ndarray) -> np.ndarray:
    """Means of blocks of each image, (N, blocks); of a row of features, of its pieces."""
    flat = _pixels(images)
    if images.ndim == 2:
        return np.stack([p.mean(axis=1) for p in _pieces(flat, 1)], axis=1)
    rows = _pieces(flat.reshape(images.shape), -2)
    axes = tuple(range(1, images.ndim))
    return np.stack([p.mean(axis=axes) for row in rows for p in _pieces(row, -1)], axis=1)


def _pieces(array: np.ndarray, axis: int) -> list[np.ndarray]:
    wanted = _BLOCKS**2 if array.ndim == 2 else _BLOCKS
    return np.array_split(array, min(wanted, array.shape[axis]), axis=axis)
