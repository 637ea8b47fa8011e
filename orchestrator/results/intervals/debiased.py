"""Calibration errors without the bias of their plug-in, and intervals that cover the true one.

A plug-in sums |gap| over bins, and noise alone makes every |gap| positive: of 500 spread
confidences that are perfectly calibrated it says 5 %. Here each gap is measured in units of its own
noise and passed through a function whose mean under noise is nearly the true |gap| (or exactly its
square); the interval holds all true errors under which that sum would not surprise.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr

from robsweep.orchestrator.results.intervals.interval import LEVEL, Interval

Floats = NDArray[np.float64]

ENOUGH = 5.0  # errors that are expected or seen
_PRIOR = 10.0  # samples that the noise of a bin is pulled by towards that of calibrated confidence
_CANDIDATES = 241
_FARTHEST = 12.0  # of a gap in units of its noise, from where the plug-in has no bias
_DAMPED = (-1.0, 0.38)


class Cells(NamedTuple):
    """What an error is summed over: bins, or points of a smooth curve."""

    mass: Floats  # (B,), shares of the samples, which sum to 1
    gap: Floats  # (B,), mean of confidence - correct
    accuracy: Floats  # (B,)
    noise: Floats  # (B,), standard error of mass * gap
    calibrated: Floats  # (B,), confidence * (1 - confidence) of one of its samples, over their n
    n: int
    variance: float  # of one sample's signed confidence - correct
    noise_of_sum: float  # variance of the signed sum of mass * gap
    shared: float = 1.0  # below 1 where cells share samples, as only even parts of noise count at 0


class Moments(NamedTuple):
    """What a statistic is like under each of C true errors."""

    mean: Floats  # (C,)
    variance: Floats
    skew: Floats
    clear: Floats  # share of the cells whose gap is clear of its noise


def ece_interval(cells: Cells, level: float = LEVEL) -> Interval:
    """Debiased sum of mass * |gap|, and an interval of the true one.

    The function is |x| - exp(-x^2 / 2) (1 - 0.38 x^2): its mean is within 0.23 of the true gap, in
    units of noise, where that of the plain |x| is up to 0.80 too large. What is left of the bias is
    taken off as for gaps of one size (bins may differ in sign).
    """
    seen = float((cells.noise * _damped(cells.mass * cells.gap / cells.noise)).sum())
    candidates = _candidates(cells, seen)
    ratio = candidates[:, None] * cells.mass / cells.noise
    at, bias, variance, third = _damped_moments()
    near = np.minimum(ratio, _FARTHEST)
    apart = np.exp(-(near**2) / 2) @ cells.noise**2 / (cells.noise**2).sum()
    variances = np.interp(near, at, variance) @ cells.noise**2
    together = cells.noise_of_sum / (cells.noise**2).sum() * (1 - apart * (1 - cells.shared))
    moments = Moments(
        (cells.noise * (ratio + np.interp(near, at, bias))).sum(axis=1),
        variances * together,
        (np.interp(near, at, third) @ cells.noise**3) / variances**1.5,
        1 - apart,
    )
    return _inverted(cells, candidates, seen, moments, level)


def rms_interval(cells: Cells, level: float = LEVEL) -> Interval:
    """Debiased root of the sum of mass * gap^2, and an interval of the true one.

    The square is unbiased, whatever the gaps, as the variance of its noise is taken off.

    Source: Kumar et al. 2019, section 5; Sun et al. 2024 for inverting the square.
    """
    weights = cells.noise**2 / cells.mass
    seen = float((cells.mass * cells.gap**2 - weights).sum())
    candidates = _candidates(cells, float(np.sqrt(max(seen, 0.0))))
    ratio = (candidates[:, None] * cells.mass / cells.noise) ** 2
    variances = (2 + 4 * ratio) @ weights**2  # of a noncentral chi-square, one degree of freedom
    skew = (8 + 24 * ratio) @ weights**3 / variances**1.5
    clear = 1 - np.exp(-ratio / 2) @ cells.noise**2 / (cells.noise**2).sum()
    moments = Moments(ratio @ weights, variances, skew, clear)
    return _inverted(cells, candidates, seen, moments, level)


def binned(confidence: Floats, correct: NDArray[np.bool_], bin_of: NDArray[np.int64]) -> Cells:
    """Cells of the bins that hold samples.

    Args:
        confidence: (n,), in [0, 1].
        correct: (n,).
        bin_of: (n,).
    """
    n = len(confidence)
    counts = np.bincount(bin_of)
    filled = counts > 0
    index = (np.cumsum(filled) - 1)[bin_of]
    counts = counts[filled]

    def mean(values: Floats) -> Floats:
        return np.bincount(index, weights=values, minlength=len(counts)) / counts

    accuracy, calibrated = mean(correct.astype(np.float64)), mean(confidence * (1 - confidence))
    gap = mean(confidence - correct)
    one = blended(counts, accuracy, calibrated)
    mass = counts / max(n, 1)
    noise = np.sqrt(np.maximum(mass * one, 1e-14 * mass) / max(n, 1))
    return Cells(
        mass=mass,
        gap=gap,
        accuracy=accuracy,
        noise=noise,
        calibrated=calibrated / counts,
        n=n,
        variance=float((np.sign(gap)[index] * (confidence - correct)).var()) if n else 0.0,
        noise_of_sum=float((noise**2).sum()),
    )


def blended(counts: Floats, accuracy: Floats, calibrated: Floats) -> Floats:
    """Variance of a sample's correctness, per cell, pulled towards what its confidence says.

    Of few samples, all right by chance, the variance would seem to be 0 and their gap significant.
    """
    seen = accuracy * (1 - accuracy)
    blend: Floats = (counts * seen + _PRIOR * calibrated) / (counts + _PRIOR)
    return blend


def few_errors(confidence: Floats, correct: NDArray[np.bool_]) -> bool:
    """Whether there are so few errors, or so few right ones, that their count is too coarse."""
    n, right = len(confidence), int(correct.sum())
    expected = float((confidence * (1 - confidence)).sum())
    return max(expected, min(right, n - right)) < ENOUGH


def bounded(
    confidence: Floats, correct: NDArray[np.bool_], value: float, level: float = LEVEL
) -> Interval:
    """Limits of an ECE, or smooth ECE, of few errors, which hold with at least `level`.

    It is no smaller than the mean gap, and no larger than the sum of what confidences leave to
    errors and of the errors; how many of those there are has exact limits. Likewise with right ones
    for errors, where confidence is low.

    Source: Clopper & Pearson 1934 for the share of errors.
    """
    n, wrong = len(confidence), len(confidence) - int(correct.sum())
    if n == 0:
        return Interval(value, float("nan"), float("nan"))
    tail = (1 - level) / 2
    low = float(betaincinv(wrong, n - wrong + 1, tail)) if wrong else 0.0
    high = float(betaincinv(wrong + 1, n - wrong, 1 - tail)) if wrong < n else 1.0
    left = 1 - float(confidence.mean())
    nearest = max(low - left, left - high, 0.0)
    return Interval(value, nearest, min(left + high, 2 - left - low, 1.0))


def _candidates(cells: Cells, near: float) -> Floats:
    """(C,), true errors from 0 to beyond any that could be; denser near 0."""
    end = near + 12 * max(float(np.sqrt((cells.noise**2).sum())), 1 / cells.n) + 0.02
    found: Floats = np.linspace(0, 1, _CANDIDATES) ** 1.5 * min(end, 1.0)
    return found


def _inverted(
    cells: Cells, candidates: Floats, seen: float, moments: Moments, level: float
) -> Interval:
    """All candidates that `seen` is no surprise under, and the one under which it is the mean.

    Candidates are gaps of one size. The variance is that of the statistic, times what that of the
    errors becomes as accuracies move, so that one bin alone has Wilson's interval.
    """
    value = float(np.interp(seen, moments.mean, candidates))
    moved, skew = _moved(cells, candidates - value)
    deviation = np.sqrt(moments.variance * moved)
    skew = np.clip(moments.skew + moments.clear * skew, -1, 1)
    z = (seen - moments.mean) / deviation
    z -= skew * (np.minimum(z**2, 9) - 1) / 6  # Cornish & Fisher 1938, first term
    above, below = _tails((moments.mean - moments.mean[0]) / deviation, level)
    inside = np.flatnonzero((z <= above) & (z >= -below))
    if not len(inside):
        return Interval(value, value, value)
    first, last = int(inside[0]), int(inside[-1])
    low, high = float(candidates[first]), float(candidates[last])
    if first:
        low = _crossing(candidates[first - 1 : first + 1], (z - above)[first - 1 : first + 1])
    if last + 1 < len(candidates):
        high = _crossing(candidates[last : last + 2], (z + below)[last : last + 2])
    return Interval(value, low, high)


def _moved(cells: Cells, by: Floats) -> tuple[Floats, Floats]:
    """What the signed mean of the gaps is like as all of them grow by (C,).

    Returns:
        Its variance, over that which the noise of the cells has, and its skew.
    """
    toward = -np.sign(cells.gap)
    accuracy = np.clip(cells.accuracy + toward * by[:, None], 0, 1)
    one = accuracy * (1 - accuracy)
    binomial = (one + cells.calibrated) @ cells.mass
    extra = cells.variance - float(cells.mass @ (cells.accuracy * (1 - cells.accuracy)))
    found = np.maximum(binomial + extra, 0.2 * cells.variance + 1e-12)
    skew = (one * (1 - 2 * accuracy)) @ (cells.mass * toward) / (found**1.5 * np.sqrt(cells.n))
    return found / (cells.n * cells.noise_of_sum), skew


def _crossing(x: Floats, y: Floats) -> float:
    share = float(np.clip(y[0] / (y[0] - y[1]), 0, 1)) if y[0] != y[1] else 0.0
    return float(x[0] + share * (x[1] - x[0]))


def _damped(x: Floats) -> Floats:
    constant, square = _DAMPED
    damped: Floats = np.abs(x) + np.exp(-(x**2) / 2) * (constant + square * x**2)
    return damped


@cache
def _damped_moments() -> tuple[Floats, Floats, Floats, Floats]:
    """Gaps in units of noise, and what `_damped` has there: bias, variance, third cumulant."""
    at, noise = np.linspace(0, _FARTHEST, 241), np.linspace(-8, 8, 1601)
    density = np.exp(-(noise**2) / 2)
    density /= density.sum()
    values = _damped(at[:, None] + noise)
    mean = values @ density
    off = values - mean[:, None]
    return at, mean - at, off**2 @ density, off**3 @ density


def _tails(mean: Floats, level: float) -> tuple[Floats, Floats]:
    """How far above and below its mean a value that cannot be negative is no surprise.

    Args:
        mean: (C,), in units of its deviation.

    Source: Feldman & Cousins 1998, section 4.B: both tails share what the level leaves far from 0,
    and the upper one has it all at 0, so that no interval is empty.
    """
    grid, upper = _upper_tail(level)
    above = np.interp(mean, grid, upper)
    return above, _lower_tail(mean, above)


def _lower_tail(mean: Floats, above: Floats) -> Floats:
    """As likely, next to the likeliest mean, as the end of the upper tail."""
    far: Floats = (mean**2 + above**2) / (2 * np.maximum(mean, 1e-6))
    return np.where(above <= mean, above, far)


@cache
def _upper_tail(level: float) -> tuple[Floats, Floats]:
    mean = np.linspace(0, 2.5, 251)
    low, high = np.full(len(mean), 0.5), np.full(len(mean), 5.0)
    for _ in range(60):
        middle = (low + high) / 2
        below = _lower_tail(mean, middle)
        enough = ndtr(middle) - ndtr(-below) >= level
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return mean, high
