"""Small real data sets that come inside scikit-learn: no download."""

import numpy as np

from robsweep.tasks.catalogue.code.resolve import optional

_DIGITS = {"train": slice(1097), "validation": slice(1097, 1297), "test": slice(1297, None)}
# Of a class's 50 flowers, by their index modulo 10: 30 for training, 5 and 15.
_IRIS = {"train": range(6), "validation": range(6, 7), "test": range(7, 10)}
# Smallest and largest value of each feature over all 150, in cm, as the data set's notes give them.
_IRIS_LOW, _IRIS_HIGH = (4.3, 2.0, 1.0, 0.1), (7.9, 4.4, 6.9, 2.5)
_SIDE = 8
_SCALES = (2, 4, 8)  # crops of 16, 32 and 64 pixels


def digits(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits of 8x8 pixels with 17 grey levels.

    Source: Alpaydin & Kaynak 1998, UCI optical recognition of handwritten digits (test part).
    """
    del data_dir
    data = optional("sklearn.datasets", "data").load_digits()
    images = (data.images / 16).astype(np.float32)[:, None]
    return images[_DIGITS[split]], data.target[_DIGITS[split]]


def photo_patches(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """500 grey 8x8 patches of two photographs, at fixed random places and scales; labels all 0."""
    del split, data_dir
    optional("PIL", "data")
    photos = optional("sklearn.datasets", "data").load_sample_images().images
    grey = [photo.mean(axis=2) / 255 for photo in photos]
    random = np.random.default_rng(0)
    patches = [_patch(grey[i % len(grey)], random) for i in range(500)]
    return np.stack(patches).astype(np.float32)[:, None], np.zeros(500, dtype=np.int64)


def iris(split: str, data_dir: str) -> tuple[np.ndarray, np.ndarray]:
    """150 irises: sepal and petal, length and width, each scaled to [0, 1]; three species in turn.

    Source: Fisher 1936, table I.
    """
    del data_dir
    data = optional("sklearn.datasets", "data").load_iris()
    low, high = np.array(_IRIS_LOW), np.array(_IRIS_HIGH)
    features = ((data.data - low) / (high - low)).clip(0, 1).astype(np.float32)
    # of each species one after the other, so that the first samples of a split hold them all
    in_turn = np.arange(150).reshape(3, 50).T
    chosen = in_turn[np.isin(np.arange(50) % 10, _IRIS[split])].ravel()
    return features[chosen], data.target[chosen]


def _patch(photo: np.ndarray, random: np.random.Generator) -> np.ndarray:
    scale = int(random.choice(_SCALES))
    side = _SIDE * scale
    top, left = (int(random.integers(size - side + 1)) for size in photo.shape)
    crop = photo[top : top + side, left : left + side]
    averaged: np.ndarray = crop.reshape(_SIDE, scale, _SIDE, scale).mean(axis=(1, 3))
    return averaged
