"""Fog."""

import numpy as np

from robsweep.tasks.shift.severity import Images, Randoms, at, grey, pixel


def fog(images: Images, severity: int, randoms: Randoms) -> Images:
    """Adds a cloud, and shrinks the sum to the range that the image had.

    Source: Mu & Gilmer 2019 (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # strength, and how much smoother each finer scale is
    of_grey = ((1.5, 2), (2.0, 2), (2.5, 1.7), (2.5, 1.5), (3.0, 1.4))
    of_colour = ((0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75))
    strength, decay = at(severity, of_grey if grey(images) else of_colour)
    height, width = images.shape[2:]
    side = 2 ** int(np.ceil(np.log2(max(height, width))))
    if grey(images):  # the corner of a larger cloud, 256 pixels wide where images have 28
        side = max(side, 2 ** round(np.log2(256 * pixel(images))))
    clouds = plasma(randoms, side, decay, (height, width))[:, None]
    largest = images.max(axis=(1, 2, 3), keepdims=True)
    foggy: Images = (images + strength * clouds) * largest / (largest + strength)
    return foggy.clip(0, 1)


def plasma(randoms: Randoms, side: int, decay: float, crop: tuple[int, int]) -> Images:
    """Upper left corners (N, *crop) of clouds from 0 to 1 by the diamond-square algorithm.

    Args:
        side: Of the clouds, which tile the plane; a power of two, at least 2.
        decay: By how much less each finer scale may differ.

    Source: Fournier, Fussell & Carpenter 1982; amplitudes as in Hendrycks & Dietterich's code,
    100 ** 2, (100 / decay) ** 2, ...
    """
    numbers = np.stack([r.random(side * side - 1, dtype=np.float32) for r in randoms])
    numbers -= np.float32(0.5)
    corners = np.zeros((len(randoms), 1, 1), dtype=np.float32)
    amplitude, used = 100.0, 0
    while True:
        size = corners.shape[1]
        free = numbers[:, used : used + 3 * size**2].reshape(len(randoms), 3, size, size)
        free *= np.float32(2 * amplitude**2)
        beyond = np.pad(corners, ((0, 0), (0, 1), (0, 1)), mode="wrap")
        across = beyond[:, :, :-1] + beyond[:, :, 1:]
        centres = _quarter(across[:, :-1] + across[:, 1:], free[:, 0])
        before = np.pad(centres, ((0, 0), (1, 0), (1, 0)), mode="wrap")
        above = across[:, :-1]
        above += centres
        above += before[:, :-1, 1:]
        above = _quarter(above, free[:, 1])
        beside = beyond[:, :-1, :-1] + beyond[:, 1:, :-1]
        beside += centres
        beside += before[:, 1:, :-1]
        beside = _quarter(beside, free[:, 2])
        parts = corners, above, beside, centres
        if 2 * size == side:  # the finest scale is put together where it is needed alone
            low, high = (np.stack([f(p.reshape(len(p), -1), axis=1) for p in parts])
                         for f in (np.min, np.max))  # fmt: skip
            low, high = low.min(axis=0)[:, None, None], high.max(axis=0)[:, None, None]
            half = [(length + 1) // 2 for length in crop]
            woven = _woven(*(part[:, : half[0], : half[1]] for part in parts))
            clouds: Images = (woven[:, : crop[0], : crop[1]] - low) / (high - low)
            return clouds
        corners = _woven(*parts)
        amplitude, used = amplitude / decay, used + 3 * size**2


def _quarter(total: Images, free: Images) -> Images:
    """A fourth of a sum, in its place, and what is free."""
    total /= 4
    total += free
    return total


def _woven(corners: Images, above: Images, beside: Images, centres: Images) -> Images:
    """A grid twice as fine: between corners along a row, along a column, along both."""
    count, height, width = corners.shape
    woven = np.empty((count, 2 * height, 2 * width), dtype=corners.dtype)
    woven[:, ::2, ::2], woven[:, ::2, 1::2] = corners, above
    woven[:, 1::2, ::2], woven[:, 1::2, 1::2] = beside, centres
    return woven
