"""Snow and ice."""

from functools import lru_cache

import numpy as np
from scipy import ndimage

from robsweep.tasks.shift.blur import smeared, zoomed
from robsweep.tasks.shift.clouds import plasma
from robsweep.tasks.shift.severity import Images, Randoms, at, drawn, grey, pixel

_GREY = np.array([0.299, 0.587, 0.114])  # of red, green and blue
_ICE_SEED, _ICE_PANES, _ICE_SIDE = 2019, 5, 256


def snow(images: Images, severity: int, randoms: Randoms) -> Images:
    """Flakes that fall, twice, on a paler image.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # mean and deviation of the noise, zoom, threshold, radius and deviation of the fall, the rest
    of_grey = (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8), (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7), (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    )  # fmt: skip
    of_colour = (
        (0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9), (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
    )  # fmt: skip
    mean, std, zoom, threshold, radius, fall, kept = at(
        severity, of_grey if grey(images) else of_colour
    )
    size = pixel(images)
    flakes = zoomed(drawn(randoms, (1, *images.shape[2:]), mean, std), zoom)
    flakes = np.floor(np.clip(np.where(flakes < threshold, 0, flakes), 0, 1) * 255) / 255
    angles = np.array([random.uniform(-135, -45) for random in randoms])
    flakes = smeared(flakes, radius * size, fall * size, angles)
    values = images.astype(np.float64)
    if images.shape[1] == 3:
        values = (values * _GREY[:, None, None]).sum(axis=1, keepdims=True)
    paler = kept * images + (1 - kept) * np.maximum(images, values * 1.5 + 0.5)
    snowed: Images = paler + flakes + flakes[:, :, ::-1, ::-1]
    return snowed.clip(0, 1)


def frost(images: Images, severity: int, randoms: Randoms) -> Images:
    """Darkens an image and adds ice, a part of one of five panes.

    The published corruption has photographs of frozen windows. These panes are made: they are not
    the original, and results are not those of CIFAR-10-C's frost.

    Source: after Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # of the image, of the ice
    of_grey = ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))
    of_colour = ((1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
    kept, added = at(severity, of_grey if grey(images) else of_colour)
    height, width = images.shape[2:]
    side = max(_ICE_SIDE, 2 ** int(np.ceil(np.log2(max(height, width)) + 1)))
    ice = np.empty((len(images), 3, height, width))
    for i, random in enumerate(randoms):
        pane = panes(side)[random.integers(_ICE_PANES)]
        top, left = random.integers(side - height), random.integers(side - width)
        ice[i] = pane[:, top : top + height, left : left + width]
    if images.shape[1] != 3:
        ice = (ice * _GREY[:, None, None]).sum(axis=1, keepdims=True)
    frosted: Images = kept * images + added * ice
    return frosted.clip(0, 1)


@lru_cache(maxsize=2)
def panes(side: int) -> Images:
    """Five frozen panes (5, 3, side, side) in [0, 1]: needles of ice in patches, bluish white."""
    randoms = [np.random.default_rng([_ICE_SEED, k]) for k in range(_ICE_PANES)]
    patches = plasma(randoms, side, 2.0, (side, side)).astype(np.float64)
    made = []
    for random, patch in zip(randoms, patches, strict=True):
        needles = np.zeros((side, side))
        for angle in random.uniform(0, np.pi, 6):  # noise, drawn out along a few directions
            length = np.arange(-8, 9)
            kernel = np.zeros((17, 17))
            kernel[
                8 + np.round(length * np.sin(angle)).astype(int),
                8 + np.round(length * np.cos(angle)).astype(int),
            ] = 1
            noise = random.standard_normal((side, side))
            needles = np.maximum(needles, ndimage.convolve(noise, kernel, mode="wrap"))
        needles = (needles - needles.min()) / np.ptp(needles)
        ice = np.clip(0.2 + 0.5 * patch + 0.6 * (needles - 0.4), 0, 1)
        tint = np.array([0.85, 0.93, 1.0])[:, None, None]  # of red, green and blue
        made.append(ice * tint)
    return np.stack(made)
