"""How far confidences are from the truth. Binary view: is the predicted class right?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from robsweep.orchestrator.results.intervals import Interval, mean_of_signed

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 15


class Errors(NamedTuple):
    """Calibration errors over one binning, all in [0, 1]."""

    ece: Interval
    rms_ce: float
    mce: float


class Calibration(NamedTuple):
    """Everything about one set of predictions."""

    n: int
    ece: Interval  # equal-width bins
    rms_ce: float
    mce: float
    ece_equal_mass: Interval
    brier: float
    nll: float


def equal_width(confidence: Floats, bins: int = BINS) -> Ints:
    """Bin of each sample: (0, 1/bins], (1/bins, 2/bins], ...; confidence 0 is in the first.

    Source: Guo et al. 2017, section 2.
    """
    inner = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(inner, confidence, side="left").astype(np.int64)


def equal_mass(confidence: Floats, bins: int = BINS) -> Ints:
    """Bin of each sample, all bins equally full (to one sample) in order of confidence.

    Source: Nguyen & O'Connor 2015, section 3.
    """
    result = np.empty(len(confidence), dtype=np.int64)
    for index, members in enumerate(np.array_split(np.argsort(confidence, kind="stable"), bins)):
        result[members] = index
    return result


def errors(confidence: Floats, correct: NDArray[np.bool_], bin_of: Ints) -> Errors:
    """Calibration errors over bins; empty bins are skipped.

    ECE is the mean gap |confidence - accuracy| weighted by bin size (Guo et al. 2017, equation 3),
    RMS the root of the weighted mean square (Hendrycks et al. 2019, section 4.3), MCE the largest
    gap (Guo et al. 2017, equation 5).

    Args:
        confidence: (n,), in [0, 1].
        correct: (n,).
        bin_of: (n,).
    """
    if len(confidence) == 0:
        nan = float("nan")
        return Errors(Interval(nan, nan, nan), nan, nan)
    difference = confidence - correct
    counts = np.bincount(bin_of)
    filled = counts > 0
    gaps = np.zeros(len(counts))
    gaps[filled] = np.bincount(bin_of, weights=difference)[filled] / counts[filled]
    ece = mean_of_signed(np.sign(gaps)[bin_of] * difference)
    rms = float(np.sqrt(np.sum(counts * gaps**2) / counts.sum()))
    return Errors(ece, rms, float(np.abs(gaps).max()))


def calibration(
    logits: Floats, labels: Ints, temperature: float = 1.0, own: Floats | None = None
) -> Calibration:
    """All calibration metrics of softmax(logits / temperature).

    Brier is the sum over classes (Brier 1950), so in [0, 2]; NLL is in nats.

    Args:
        logits: (n, classes).
        labels: (n,).
        temperature: As fitted on other data (Guo et al. 2017, section 4.2).
        own: (n,), the confidences that the model itself states, in place of the largest
            probability; Brier and NLL are of the softmax all the same.
    """
    n = len(labels)
    if n == 0:
        nan = float("nan")
        none = Interval(nan, nan, nan)
        return Calibration(0, none, nan, nan, none, nan, nan)
    scaled = logits / temperature
    log_p = scaled - logsumexp(scaled, axis=1, keepdims=True)
    p = np.exp(log_p)
    rows = np.arange(n)
    predicted = logits.argmax(axis=1)  # of nearly equal logits, probabilities tie
    confidence = np.minimum(p[rows, predicted] if own is None else own, 1.0)
    correct = predicted == labels
    width = errors(confidence, correct, equal_width(confidence))
    mass = errors(confidence, correct, equal_mass(confidence))
    off = p.copy()
    off[rows, labels] -= 1
    return Calibration(
        n=n,
        ece=width.ece,
        rms_ce=width.rms_ce,
        mce=width.mce,
        ece_equal_mass=mass.ece,
        brier=float((off**2).sum(axis=1).mean()),
        nll=float(-log_p[rows, labels].mean()),
    )
