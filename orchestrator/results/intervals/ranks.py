"""Of what depends on order alone: medians, rank correlations."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrik

from robsweep.orchestrator.results.intervals.interval import LEVEL, NO_DATA, Interval, z_of


def order_statistic_median(values: ArrayLike, level: float = LEVEL) -> Interval:
    """Median, and the two order statistics that cover the true one with at least `level`.

    Infinite values are allowed (no adversarial found). Below six values no pair of order statistics
    covers 95 %: the interval is then unbounded.

    Source: binomial argument as in Conover 1999, section 3.2.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n = len(ordered)
    if n == 0:
        return NO_DATA
    # by hand: np.median of [1, inf] and of [inf, inf] warn or give NaN
    a, b = ordered[(n - 1) // 2], ordered[n // 2]
    median = float(a if a == b else (a + b) / 2)
    tail = (1 - level) / 2
    if n * np.log(0.5) > np.log(tail):
        return Interval(median, -np.inf, np.inf)
    rank = int(np.floor(bdtrik(tail, n, 0.5)))  # largest k with P(Bin(n, 1/2) <= k) <= tail
    return Interval(median, float(ordered[rank]), float(ordered[n - 1 - rank]))


def spearman(x: ArrayLike, y: ArrayLike, level: float = LEVEL) -> Interval:
    """Rank correlation (equal values share their mean rank) and its interval by Fisher's z.

    None below four pairs, or where one side does not vary; no limits where the ranks agree or
    disagree entirely, as the variance of z says nothing there.

    Args:
        x: (n,).
        y: (n,).

    Source: Spearman 1904; variance (1 + r^2 / 2) / (n - 3) of z after Bonett & Wright 2000,
    section 3.
    """
    a, b = (midranks(np.asarray(side, dtype=np.float64)) for side in (x, y))
    n = len(a)
    if n < 4 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return NO_DATA
    rho = float(np.clip(np.corrcoef(a, b)[0, 1], -1, 1))
    if 1 - abs(rho) < 1e-12:
        return Interval(rho, float("nan"), float("nan"))
    half = z_of(level) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    centre = np.arctanh(rho)
    return Interval(rho, float(np.tanh(centre - half)), float(np.tanh(centre + half)))


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[inverse]
    return ranks
