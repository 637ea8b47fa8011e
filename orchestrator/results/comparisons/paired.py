"""Tests of the difference between two models on the same samples, for all pairs at once.

Every array over pairs is (models, models): the entry i, j is about model i less model j.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri

from robsweep.orchestrator.results.intervals import LEVEL

Floats = NDArray[np.float64]


class Pairs(NamedTuple):
    """Differences with their limits and p-values; NaN where the data say nothing."""

    difference: Floats
    low: Floats
    high: Floats
    p: Floats


def shares(right: NDArray[np.bool_], level: float = LEVEL) -> Pairs:
    """Differences of shares: McNemar's exact test, on the samples where two models disagree.

    Args:
        right: (n, models), the same n samples for all.

    Source: McNemar 1947, exact as in Fagerland, Lydersen & Laake 2013; limits of Bonett & Price
    2012, equation 6, that add a sample to each side.
    """
    n = len(right)
    ones = right.astype(np.float64)
    only_i: Floats = ones.T @ (1 - ones)  # right where the other one is wrong
    only_j = only_i.T
    disagreed = only_i + only_j
    fewer = np.minimum(only_i, only_j)
    p = np.minimum(1.0, 2 * bdtr(fewer, disagreed.clip(min=1).astype(np.int64), 0.5))
    p[disagreed == 0] = 1.0
    a, b = (only_i + 1) / (n + 2), (only_j + 1) / (n + 2)
    half = _z(level) * np.sqrt((a + b - (a - b) ** 2) / (n + 2))
    low, high = (a - b - half).clip(min=-1), (a - b + half).clip(max=1)
    return Pairs((only_i - only_j) / n, low, high, p)


def normal(values: Floats, covariance: Floats, level: float = LEVEL) -> Pairs:
    """Differences of estimates that are close to normal, with a known covariance.

    Where a difference has no variance, it is 0 for sure (p = 1), or nothing is known of it.

    Args:
        values: (models,).
        covariance: (models, models), of these.
    """
    own = np.diag(covariance)
    variance = (own[:, None] + own[None, :] - 2 * covariance).clip(min=0)
    # what is left of the rounding of a sum of equal terms
    variance[variance < 1e-12 * (own[:, None] + own[None, :])] = 0.0
    difference = values[:, None] - values[None, :]
    error = np.sqrt(variance)
    known = error > 0
    p = np.where(difference == 0, 1.0, np.nan)
    p[known] = 2 * ndtr(-np.abs(difference[known]) / error[known])
    half = np.where(known | (difference == 0), _z(level) * error, np.nan)
    return Pairs(difference, difference - half, difference + half, p)


def holm(p: Floats) -> Floats:
    """P-values corrected for how many there are; NaN stays, and does not count.

    Args:
        p: (tests,).

    Source: Holm 1979, section 3.
    """
    corrected = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = np.arange(len(order), 0, -1) * p[order]
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def _z(level: float) -> float:
    return float(ndtri((1 + level) / 2))
