"""Intervals from influence: how much each sample moves an estimate, to first order."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit

from robsweep.orchestrator.results.intervals import LEVEL, NO_DATA, Interval, wilson

Floats = NDArray[np.float64]

_MOST = 1e6  # degrees of freedom: from here on, Student's t is the normal distribution


class Spread(NamedTuple):
    """The variance of an estimate, and how many degrees of freedom that is known with."""

    variance: float
    freedom: float


def spread(influences: Sequence[Floats]) -> Spread:
    """Variance of an estimate from independent sets of independent units.

    The degrees of freedom are those of Welch and Satterthwaite, from the fourth moment where it is
    above the normal distribution's: near 0 and 1 few samples make up all of the variance.

    Args:
        influences: One array per set, (units,): what each of its units adds to the estimate, times
            the number of units; the mean does not matter.

    Source: Satterthwaite 1946; the variance of a variance as in O'Neill 2014, result 3.
    """
    variance = noise = 0.0
    for values in influences:
        n = len(values)
        centred = values - values.mean()
        squares = centred * centred
        second = float(squares.mean())
        variance += second / (n - 1)
        seen = (float((squares * squares).mean()) - second**2) / n**3
        # of few units, the fourth moment sees too little: at least what a normal one would have
        noise += max(seen, 2 * second**2 / (n - 1) ** 3)
    freedom = 2 * variance**2 / noise if noise > 0 else _MOST
    return Spread(variance, float(np.clip(freedom, 1.0, _MOST)))


def share(value: float, influences: Sequence[Floats], level: float = LEVEL) -> Interval:
    """An estimate in [0, 1] with its interval on the logit scale.

    At 0, at 1 and where no sample moves it, the variance says nothing: the limits are then Wilson's
    for as many samples as the smaller set has.
    """
    smallest = min(map(len, influences))
    if smallest == 0:
        return NO_DATA
    if smallest < 2:
        return Interval(value, 0.0, 1.0)
    variance, freedom = spread(influences)
    if not 0 < value < 1 or variance == 0:
        _, low, high = wilson(round(value * smallest), smallest, level)
        return Interval(value, min(low, value), max(high, value))
    half = stdtrit(freedom, (1 + level) / 2) * np.sqrt(variance) / (value * (1 - value))
    centre = logit(value)
    return Interval(value, float(expit(centre - half)), float(expit(centre + half)))
