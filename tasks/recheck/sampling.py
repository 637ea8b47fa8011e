"""Looking for a counterexample by trying points: no gradient, no bound."""

from typing import NamedTuple

import numpy as np

from robsweep.tasks.recheck.bounds import Box
from robsweep.tasks.recheck.layers import Layer, forward

_RANDOM, _ROUNDS, _TRIES = 2000, 16, 64


class Point(NamedTuple):
    """A flattened float64 image and its smallest margin."""

    pixels: np.ndarray
    margin: float


def lowest(layers: list[Layer], box: Box, starts: np.ndarray, random: np.random.Generator) -> Point:
    """The point with the smallest margin among the starts, random points, corners, and a search.

    The search sends a falling share of the best point's pixels to random ends of the box and keeps
    what lowers the margin.

    Args:
        layers: A network of margins.
        starts: (N, n), points in the box.
    """
    n = len(box.lower)
    share = random.uniform(size=(_RANDOM, n))
    share[::2] = share[::2].round()
    best = _lowest(layers, np.concatenate([starts, _between(box, share)]))
    for fraction in np.geomspace(0.5, 1 / n, _ROUNDS):
        moved = random.uniform(size=(_TRIES, n)) < fraction
        corners = _between(box, random.integers(0, 2, size=(_TRIES, n)).astype(np.float64))
        found = _lowest(layers, np.where(moved, corners, best.pixels))
        best = min(best, found, key=lambda point: point.margin)
    return best


def inside(box: Box, pixels: np.ndarray) -> bool:
    """Whether a point is in the box and in [0, 1], without any slack; False where not finite."""
    within = (pixels >= box.lower) & (pixels <= box.upper) & (pixels >= 0) & (pixels <= 1)
    return bool(within.all())


def _between(box: Box, share: np.ndarray) -> np.ndarray:
    points = box.lower + share * (box.upper - box.lower)
    clipped: np.ndarray = np.clip(points, box.lower, box.upper)  # as rounding may leave the box
    return clipped


def _lowest(layers: list[Layer], points: np.ndarray) -> Point:
    margins = forward(layers, points).min(axis=1)
    i = int(margins.argmin())
    return Point(points[i], float(margins[i]))
