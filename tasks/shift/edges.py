"""Edges in place of an image."""

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from robsweep.tasks.shift.severity import Images, Randoms, at

_LOW, _HIGH = 0.1, 0.2  # of the gradient, where an edge may go on and where it may begin
_GREY = np.array([0.2125, 0.7154, 0.0721])  # of red, green and blue


def canny_edges(images: Images, severity: int, randoms: Randoms) -> Images:
    """Mixes an image with its edges, white on black, which are 20, 40, 60, 80 or 100 % of it.

    Edges of colour images are those of their grey values.

    Source: Mu & Gilmer 2019, whose images are all edges; the other shares are ours.
    """
    share = at(severity, (0.2, 0.4, 0.6, 0.8, 1.0))
    colours = images.shape[1]
    weights = _GREY if colours == 3 else np.full(colours, 1 / colours)
    values = images.astype(np.float64) * weights[:, None, None]
    edges = canny(values.sum(axis=1), 1.0)[:, None]
    return (1 - share) * images + share * edges


def canny(values: Images, std: float) -> Images:
    """Whether each pixel of (N, height, width) is of an edge.

    Source: Canny 1986; thresholds and border as in scikit-image's `feature.canny`.
    """
    covered = ndimage.gaussian_filter(np.ones_like(values), (0, std, std), mode="constant")
    smooth = ndimage.gaussian_filter(values, (0, std, std), mode="constant")
    smooth = smooth / (covered + np.finfo(np.float64).eps)
    down, right = _sobel(smooth, 1, 2), _sobel(smooth, 2, 1)
    strength = np.hypot(down, right)
    inner = np.zeros(values.shape, dtype=bool)
    inner[:, 1:-1, 1:-1] = True
    weak = inner & (strength >= _LOW) & _highest(strength, down, right)
    return _from_strong_to_weak(weak, weak & (strength >= _HIGH))


def canny_of_bytes(levels: Images, low: float, high: float) -> Images:
    """Whether each of whole numbers 0 to 255 (N, height, width) is of an edge, as OpenCV has it.

    Source: OpenCV's `Canny`, aperture 3, gradients in l1.
    """
    down, right = _sobel(levels, 1, 2, "nearest"), _sobel(levels, 2, 1, "nearest")
    strength = np.abs(down) + np.abs(right)
    tan = 13573 / 2**15  # of 22.5 degrees
    level = np.abs(down) < tan * np.abs(right)
    upright = np.abs(down) > (tan + 2) * np.abs(right)
    beside = _neighbours(strength)
    across = (strength > beside(0, -1)) & (strength >= beside(0, 1))
    along = (strength > beside(-1, 0)) & (strength >= beside(1, 0))
    falling = (strength > beside(-1, -1)) & (strength > beside(1, 1))
    rising = (strength > beside(-1, 1)) & (strength > beside(1, -1))
    diagonal = np.where((down < 0) == (right < 0), falling, rising)
    highest = np.where(level, across, np.where(upright, along, diagonal))
    weak = highest & (strength > low)
    return _from_strong_to_weak(weak, weak & (strength > high))


def _from_strong_to_weak(weak: Images, strong: Images) -> Images:
    """The weak pixels that are connected to a strong one of their image (N, height, width)."""
    flat = np.zeros((3, 3, 3), dtype=bool)
    flat[1] = True  # an edge stays in its image
    labels, count = ndimage.label(weak, flat)
    kept = np.zeros(count + 1, dtype=bool)
    kept[labels[strong]] = True
    kept[0] = False
    edges: Images = kept[labels]
    return edges


def _sobel(values: Images, along: int, across: int, border: str = "reflect") -> Images:
    differences = ndimage.correlate1d(values, [-1, 0, 1], along, mode=border)
    slopes: Images = ndimage.correlate1d(differences, [1, 2, 1], across, mode=border)
    return slopes


def _highest(strength: Images, down: Images, right: Images) -> Images:
    """Whether the gradient is nowhere stronger one pixel on along it, on either side."""
    steep = np.abs(down) >= np.abs(right)
    larger = np.where(steep, np.abs(down), np.abs(right))
    smaller = np.where(steep, np.abs(right), np.abs(down))
    share = smaller / np.maximum(larger, np.finfo(np.float64).tiny)
    same = np.where(down * right >= 0, 1, -1)  # which diagonal
    beside = _neighbours(strength)
    found = np.ones(strength.shape, dtype=bool)
    for side in (1, -1):
        straight = np.where(steep, beside(side, 0), beside(0, side))
        diagonal = np.where(
            same > 0,
            beside(side, side),
            np.where(steep, beside(side, -side), beside(-side, side)),
        )
        found &= diagonal * share + straight * (1 - share) <= strength
    return found


def _neighbours(strength: Images) -> Callable[[int, int], Images]:
    """From rows down and columns to the right to the strength there; 0 outside."""
    height, width = strength.shape[1:]
    padded = np.pad(strength, ((0, 0), (1, 1), (1, 1)))
    return lambda down, right: padded[
        :, 1 + down : 1 + down + height, 1 + right : 1 + right + width
    ]
