"""How far confidences are from the truth. Binary view: is the predicted class right?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from robsweep.orchestrator.results.intervals import Interval
from robsweep.orchestrator.results.intervals.debiased import (
    binned,
    bounded,
    ece_interval,
    few_errors,
    rms_interval,
)
from robsweep.orchestrator.results.metrics.calibration_bins import (
    BINS,
    equal_mass,
    equal_width,
    legacy,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

_DRAWS = 1000
_NAN = float("nan")


class Predicted(NamedTuple):
    """Probabilities of one model on n samples, and what became of them."""

    log_p: Floats  # (n, K)
    confidence: Floats  # (n,), of the predicted class, in [0, 1]
    correct: Bools  # (n,)
    labels: Ints  # (n,)


class Debiased(NamedTuple):
    """An error as it is seen, with limits of the true one, and what is left without the noise."""

    seen: Interval  # its value is the plug-in; the limits are about the true error
    debiased: float


class Errors(NamedTuple):
    """Calibration errors over one binning, all in [0, 1]."""

    ece: Debiased
    rms_ce: float
    mce: float


class Calibration(NamedTuple):
    """What is cheap to know of one set of predictions."""

    n: int
    ece: Interval  # equal-width bins; its value is the plug-in
    rms_ce: float
    mce: float
    brier: float
    nll: float
    ece_debiased: float
    few_errors: bool  # limits hold with at least 95 %, not with about as much


class IfCalibrated(NamedTuple):
    """The plug-in ECE that noise alone gives a perfectly calibrated model."""

    mean: float
    high: float  # exceeded by one such model in twenty


class Legacy(NamedTuple):
    """Errors over bins of 100, without the most confident one, as older figures have them."""

    ece: float
    rms_ce: float
    mce: float


def calibration(
    logits: Floats, labels: Ints, temperature: float = 1.0, own: Floats | None = None
) -> Calibration:
    """Calibration metrics of softmax(logits / temperature).

    Args:
        logits: (n, classes).
        labels: (n,).
        temperature: As fitted on other data (Guo et al. 2017, section 4.2).
        own: (n,), the confidences that the model itself states, in place of the largest
            probability; Brier and NLL are of the softmax all the same.
    """
    return measured(predicted(logits / temperature, labels, own))


def predicted(logits: Floats, labels: Ints, own: Floats | None = None) -> Predicted:
    """What softmax(logits) predicts; the arguments are those of `calibration`."""
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    rows = np.arange(len(labels))
    chosen = logits.argmax(axis=1)  # of nearly equal logits, probabilities tie
    confidence = np.minimum(np.exp(log_p[rows, chosen]) if own is None else own, 1.0)
    return Predicted(log_p, confidence, chosen == labels, labels)


def measured(of: Predicted) -> Calibration:
    """The metrics. Brier is the sum over classes (Brier 1950), so in [0, 2]; NLL is in nats."""
    n = len(of.labels)
    width = errors(of.confidence, of.correct, equal_width(of.confidence))
    brier = nll = _NAN
    if n:
        off = np.exp(of.log_p)
        off[np.arange(n), of.labels] -= 1
        brier = float((off**2).sum(axis=1).mean())
        nll = float(-of.log_p[np.arange(n), of.labels].mean())
    return Calibration(
        n=n,
        ece=width.ece.seen,
        rms_ce=width.rms_ce,
        mce=width.mce,
        brier=brier,
        nll=nll,
        ece_debiased=width.ece.debiased,
        few_errors=few_errors(of.confidence, of.correct),
    )


def errors(confidence: Floats, correct: Bools, bin_of: Ints) -> Errors:
    """Calibration errors over bins; empty bins are skipped.

    ECE is the mean gap |confidence - accuracy| weighted by bin size (Guo et al. 2017, equation 3),
    RMS the root of the weighted mean square (Hendrycks et al. 2019, section 4.3), MCE the largest
    gap (Guo et al. 2017, equation 5).

    Args:
        confidence: (n,), in [0, 1].
        correct: (n,).
        bin_of: (n,).
    """
    cells = binned(confidence, correct, bin_of)
    if not cells.n:
        return Errors(_without(_NAN), _NAN, _NAN)
    ece = float(cells.mass @ np.abs(cells.gap))
    rms = float(np.sqrt(cells.mass @ cells.gap**2))
    found = ece_interval(cells)
    if few_errors(confidence, correct):
        found = bounded(confidence, correct, found.value)
    return Errors(_about(ece, found), rms, float(np.abs(cells.gap).max()))


def equal_mass_ece(of: Predicted) -> Debiased:
    """ECE over bins that are equally full."""
    return errors(of.confidence, of.correct, equal_mass(of.confidence)).ece


def rms_error(of: Predicted) -> Debiased:
    """Root mean square over equal-width bins."""
    if not len(of.labels):
        return _without(_NAN)
    cells = binned(of.confidence, of.correct, equal_width(of.confidence))
    rms = float(np.sqrt(cells.mass @ cells.gap**2))
    found = rms_interval(cells)
    if few_errors(of.confidence, of.correct):
        limits = bounded(of.confidence, of.correct, found.value)
        found = limits._replace(high=float(np.sqrt(limits.high)))  # as no gap is above 1
    return _about(rms, found)


def if_calibrated(confidence: Floats, bins: int = BINS) -> IfCalibrated:
    """What a perfectly calibrated model with these confidences would show, by simulation.

    Each bin's number of correct ones is binomial; the seed is fixed, so the answer is too.
    """
    if not len(confidence):
        return IfCalibrated(_NAN, _NAN)
    cells = binned(confidence, np.ones(len(confidence), bool), equal_width(confidence, bins))
    counts = np.round(cells.mass * cells.n).astype(np.int64)
    mean = np.clip(cells.gap + 1, 0, 1)
    draws = np.random.default_rng(0).binomial(counts, mean, size=(_DRAWS, len(counts)))
    shown = np.abs(draws / cells.n - mean * cells.mass).sum(axis=1)
    return IfCalibrated(float(shown.mean()), float(np.quantile(shown, 0.95)))


def classwise_ece(of: Predicted, bins: int = BINS) -> float:
    """Mean over the classes of the ECE of each one's probability, equal-width bins.

    Source: Kull et al. 2019, equation 3; with all probabilities, as theirs, and no threshold (that
    of Nixon et al. 2019, section 3.4, is another).
    """
    n, classes = of.log_p.shape
    if not n:
        return _NAN
    p = np.exp(of.log_p)
    difference = p - (of.labels[:, None] == np.arange(classes))
    cell = equal_width(p.ravel(), bins).reshape(n, classes) + bins * np.arange(classes)
    sums = np.bincount(cell.ravel(), weights=difference.ravel(), minlength=bins * classes)
    return float(np.abs(sums).sum() / (n * classes))


def legacy_errors(confidence: Floats, correct: Bools) -> Legacy:
    """Errors as the code of Hendrycks et al. 2019 has them; NaN below 200 samples, two bins.

    Bins of 100 in order of confidence, the last one with what is left over. That code's loop ends
    one bin early: the most confident is counted in n, but has no gap. Figures that it made are
    without it, so this is too.
    """
    if len(confidence) < 200:
        return Legacy(_NAN, _NAN, _NAN)
    cells = binned(confidence, correct, legacy(confidence))
    mass, gap = cells.mass[:-1], np.abs(cells.gap[:-1])
    return Legacy(float(mass @ gap), float(np.sqrt(mass @ gap**2)), float(gap.max()))


def _without(value: float) -> Debiased:
    return Debiased(Interval(value, _NAN, _NAN), _NAN)


def _about(value: float, found: Interval) -> Debiased:
    return Debiased(Interval(value, found.low, found.high), found.value)
