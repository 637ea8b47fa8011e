"""Water and mud on the lens."""

import numpy as np
from scipy import ndimage

from robsweep.tasks.shift.edges import canny_of_bytes
from robsweep.tasks.shift.severity import Images, Randoms, at, drawn, grey, pixel

_WATER = np.array([175, 238, 238]) / 255  # red, green and blue
_MUD = np.array([63, 42, 20]) / 255
_FLOW = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])  # lights each drop from one side


def spatter(images: Images, severity: int, randoms: Randoms) -> Images:
    """Spots of mud where smoothed noise is high; on colour images drops of water up to severity 3.

    Source: Mu & Gilmer 2019 (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # mean, deviation and blur of the noise; threshold; blur of the mud, or strength of the water
    of_grey = (
        (0.65, 0.3, 4, 0.69, 0.6), (0.65, 0.3, 3, 0.68, 0.6), (0.65, 0.3, 2, 0.68, 0.5),
        (0.65, 0.3, 1, 0.65, 1.5), (0.67, 0.4, 1, 0.65, 1.5),
    )  # fmt: skip
    of_colour = (
        (0.62, 0.1, 0.7, 0.7, 0.5), (0.65, 0.1, 0.8, 0.7, 0.5), (0.65, 0.3, 1, 0.69, 0.5),
        (0.65, 0.1, 0.7, 0.69, 0.6), (0.65, 0.1, 0.5, 0.68, 0.6),
    )  # fmt: skip
    mean, std, blur, threshold, last = at(severity, of_grey if grey(images) else of_colour)
    size = pixel(images)
    # as a smaller blur averages less, noise is scaled along: spots are as frequent at any size
    noise = drawn(randoms, images.shape[2:], mean, std * size)
    liquid = ndimage.gaussian_filter(noise, (0, blur * size, blur * size), mode="nearest")
    if images.shape[1] == 3 and severity <= 3:
        wet: Images = images + last * _drops(liquid, threshold)[:, None] * _WATER[:, None, None]
        return wet.clip(0, 1)
    spots = (liquid > threshold).astype(np.float64)
    spots = ndimage.gaussian_filter(spots, (0, last * size, last * size), mode="nearest")
    spots = np.where(spots < 0.8, 0, spots)[:, None]
    mud = _MUD[:, None, None] if images.shape[1] == 3 else _MUD[0]
    dirty: Images = images * (1 - spots) + mud * spots
    return dirty.clip(0, 1)


def _drops(liquid: Images, threshold: float) -> Images:
    """How wet each pixel is (N, height, width), up to 1: drops, lit from one side.

    By way of whole numbers from 0 to 255, as in the published code, which calls OpenCV; distances
    from the edges of drops are exact here, and its are within 2 %.
    """
    drops = np.floor(np.clip(np.where(liquid < threshold, 0, liquid), 0, 1) * 255)
    dry = ~canny_of_bytes(drops, 50, 150)
    near = np.full(drops.shape, 20.0)
    for i, one in enumerate(dry):
        if not one.all():
            near[i] = np.minimum(ndimage.distance_transform_edt(one), 20)
    smooth = np.floor(ndimage.uniform_filter(near, (1, 3, 3), mode="mirror") + 1e-9)
    lit = ndimage.correlate(_equalised(smooth), _FLOW[None], mode="mirror").clip(0, 255)
    lit = np.floor(ndimage.uniform_filter(lit, (1, 3, 3), mode="mirror") + 0.5)
    wet = drops * lit
    most = wet.max(axis=(1, 2), keepdims=True)
    shares: Images = wet / np.where(most > 0, most, 1)
    return shares


def _equalised(levels: Images) -> Images:
    """Whole numbers 0 to 255 (N, height, width), spread so that each is as frequent as can be."""
    spread = np.zeros_like(levels)
    for i, one in enumerate(levels.astype(np.int64)):
        counts = np.bincount(one.ravel(), minlength=256)
        first = int(np.flatnonzero(counts)[0])
        rest = one.size - counts[first]
        if rest == 0:
            spread[i] = first
            continue
        counts[first] = 0
        spread[i] = np.round(counts.cumsum() * 255 / rest)[one]
    return spread
