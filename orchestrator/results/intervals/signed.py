"""Of expected calibration errors."""

import numpy as np
from numpy.typing import ArrayLike

from robsweep.orchestrator.results.intervals.interval import LEVEL, NO_DATA, Interval, z_of


def mean_of_signed(terms: ArrayLike, level: float = LEVEL) -> Interval:
    """Interval of an expected calibration error by the delta method, clipped to [0, 1].

    With the sign of each bin's gap held fixed, ECE is the plain mean of sign * (confidence -
    correct), whose variance is known.

    Args:
        terms: (n,), sign of the sample's bin times (confidence - correct).
    """
    z = np.asarray(terms, dtype=np.float64)
    n = len(z)
    if n == 0:
        return NO_DATA
    mean = float(z.mean())
    if n < 2:
        return Interval(mean, 0.0, 1.0)
    half = z_of(level) * float(z.std(ddof=1)) / np.sqrt(n)
    return Interval(mean, max(0.0, float(mean - half)), min(1.0, float(mean + half)))
