"""False positives at a threshold that is set so as to catch most positives."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import bdtr, betainc

from robsweep.orchestrator.results.intervals import LEVEL, Interval

Floats = NDArray[np.float64]

RECALL = 0.95
_NODES = 400  # at which the place of the true threshold is looked at


def false_positive_rate(
    positive: Floats, negative: Floats, recall: float = RECALL, level: float = LEVEL
) -> Interval:
    """Share of negatives at or above the highest threshold that still catches `recall`.

    Two things are uncertain: how many of the positives lie below the true threshold, which is
    binomial, and the share of negatives above any given one, for which Jeffreys' beta distribution
    stands. The limits are quantiles of the mixture of those over the former.

    Args:
        positive: (m,), sorted.
        negative: (n,), sorted.

    Source: the estimate as in Liang et al. 2018, section 4.2; Jeffreys' interval as in Brown, Cai &
    DasGupta 2001, section 3; the mixture is ours.
    """
    m, n = len(positive), len(negative)
    caught = int(np.ceil(recall * m - 1e-9))
    value = float(n - np.searchsorted(negative, positive[m - caught], side="left")) / n
    below = _quantiles_of_binomial(m, 1 - recall)
    # the threshold lies above the last of those below it, and not above the next positive
    counts = n - np.searchsorted(negative, positive, side="left")
    counts = np.concatenate([[n], counts, [0]])
    hits, weights = np.unique(
        np.concatenate([counts[below], counts[below + 1]]), return_counts=True
    )
    shares = weights / weights.sum()

    def quantile(target: float) -> float:
        def beyond(rate: float) -> float:
            return float(shares @ betainc(hits + 0.5, n - hits + 0.5, rate)) - target

        return float(brentq(beyond, 0.0, 1.0, xtol=1e-9))

    tail = (1 - level) / 2
    low = 0.0 if value == 0 else min(value, quantile(tail))
    high = 1.0 if value == 1 else max(value, quantile(1 - tail))
    return Interval(value, low, high)


def _quantiles_of_binomial(n: int, p: float) -> NDArray[np.int64]:
    """As many equally likely values as there are nodes."""
    spread = 10 * np.sqrt(n * p * (1 - p)) + 10
    first = max(0, int(n * p - spread))
    values = np.arange(first, min(n, int(n * p + spread)) + 1)
    nodes = (np.arange(_NODES) + 0.5) / _NODES
    found: NDArray[np.int64] = np.searchsorted(bdtr(values, n, p), nodes).clip(max=len(values) - 1)
    return found + first
