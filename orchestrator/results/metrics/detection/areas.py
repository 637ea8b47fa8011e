"""Areas under curves, and how much each sample moves them.

Positives are to have the higher scores. All arrays are sorted in ascending order, and so are the
influences that come back: units of one set, in the order of their scores.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Area(NamedTuple):
    """An area in [0, 1], and what each positive and each negative adds to it."""

    value: float
    positives: Floats
    negatives: Floats


def auroc(positive: Floats, negative: Floats) -> Area:
    """Share of pairs in which the positive scores higher; a tie is half a pair.

    Source: DeLong et al. 1988, section 2: the influences are its structural components.
    """
    above = _below(positive, negative) / len(negative)
    below = 1 - _below(negative, positive) / len(positive)
    return Area(float(above.mean()), above, below)


def average_precision(positive: Floats, negative: Floats) -> Area:
    """Area under precision-recall as a step function; equal scores are one step.

    The value is the mean over positives of the precision at their score t, m S / (m S + n N), with
    S and N the shares of positives and negatives at or above t. Its influences are the derivatives
    of that mean along S and N.

    Source: the estimator of Boyd et al. 2013, section 4, that scikit-learn uses too; the
    derivatives are ours.
    """
    m, n = len(positive), len(negative)
    first = np.searchsorted(positive, positive, side="left")
    s = (m - first) / m
    flagged = (n - np.searchsorted(negative, positive, side="left")) / n
    ratio = n / m
    precision = s / (s + ratio * flagged)
    value = float(precision.mean())
    slope = ratio / (s + ratio * flagged) ** 2
    along_s, along_n = slope * flagged, slope * s
    up_to_s = np.concatenate([[0.0], np.cumsum(along_s)]) / m
    up_to_n = np.concatenate([[0.0], np.cumsum(along_n)]) / m
    last = np.searchsorted(positive, positive, side="right")
    own = precision + up_to_s[last] - float((along_s * s).mean())
    others = value - up_to_n[np.searchsorted(positive, negative, side="right")]
    return Area(value, own, others + float((along_n * flagged).mean()))


def _below(values: Floats, of: Floats) -> Floats:
    """How many of the others lie below each value; an equal one counts one half."""
    left = np.searchsorted(of, values, side="left")
    return (left + np.searchsorted(of, values, side="right")) / 2
