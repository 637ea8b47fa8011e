"""Of proportions."""

import numpy as np

from robsweep.orchestrator.results.intervals.interval import LEVEL, NO_DATA, Interval, z_of


def wilson(successes: float, n: float, level: float = LEVEL) -> Interval:
    """Score interval of a proportion; never leaves [0, 1] and never collapses at 0 or n.

    Source: Wilson 1927; recommended by Brown, Cai & DasGupta 2001, section 5.
    """
    if n == 0:
        return NO_DATA
    z = z_of(level)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return Interval(p, low, high)
