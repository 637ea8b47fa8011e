"""Errors under corruptions: means, the worst case, and against a baseline, with intervals."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from robsweep.orchestrator.results.intervals import LEVEL, NO_DATA, Interval, wilson, z_of

Errors = NDArray[np.float64]  # (samples, measurements), 1 where a prediction is wrong


class Wrong(NamedTuple):
    """Of one measurement."""

    samples: NDArray[np.int64]  # ascending
    wrong: NDArray[np.float64]


def wrong_of(rows: pl.DataFrame) -> Wrong:
    """What prediction rows `sample, label, predicted` got wrong."""
    ordered = rows.sort("sample")
    wrong = (ordered["predicted"] != ordered["label"]).cast(pl.Float64)
    return Wrong(ordered["sample"].cast(pl.Int64).to_numpy(), wrong.to_numpy())


def on_common(measurements: Sequence[Wrong]) -> Errors:
    """Errors (n, k) of k measurements on the n samples that all of them have."""
    samples = measurements[0].samples
    for other in measurements[1:]:
        samples = np.intersect1d(samples, other.samples, assume_unique=True)
    found = [m.wrong[np.isin(m.samples, samples, assume_unique=True)] for m in measurements]
    return np.stack(found, axis=1)


def mean_error(groups: Sequence[Errors], level: float = LEVEL) -> Interval:
    """The mean over groups of the mean error over each one's measurements.

    The interval is Wilson's for as many samples as would vary as much, if each were of one
    measurement: errors of a sample under several corruptions go together.

    Args:
        groups: (n, k) each, of the same n samples.
    """
    shares = np.mean([errors.mean(axis=1) for errors in groups], axis=0)
    n = len(shares)
    if n == 0:
        return NO_DATA
    mean, variance = float(shares.mean()), float(shares.var())
    most = n * sum(errors.shape[1] for errors in groups)
    alike = float(n)
    if 0 < mean < 1:
        alike = min(n * mean * (1 - mean) / variance, most) if variance else float(most)
    return wilson(mean * alike, alike, level)


def against(
    own: Sequence[Errors],
    baseline: Sequence[Errors],
    clean: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    level: float = LEVEL,
) -> Interval:
    """The mean over corruptions of a model's errors divided by the baseline's.

    1 is as good as the baseline. Limits by the delta method on the samples, which the model and the
    baseline share; on the logarithmic scale without `clean`. None where nothing varies, unless the
    two err on the very same samples.

    Args:
        own: Per corruption (n, severities).
        baseline: Likewise, of the same samples.
        clean: Errors (n,) of the model and of the baseline on the images as they are, which are
            taken from both: by how much more each errs when images are corrupted.

    Source: Hendrycks & Dietterich 2019, section 4.2, CE and relative CE; their baseline is AlexNet.
    """
    n = len(own[0])
    before, below = (0.0, 0.0) if clean is None else clean
    ratios, terms = [], []
    for ours, theirs in zip(own, baseline, strict=True):
        a, b = ours.mean(axis=1) - before, theirs.mean(axis=1) - below
        if n == 0 or b.mean() <= 0:
            return NO_DATA
        ratio = float(a.mean() / b.mean())
        ratios.append(ratio)
        terms.append((a - ratio * b) / b.mean())
    value, nan = float(np.mean(ratios)), float("nan")
    if n < 2:
        return Interval(value, nan, nan)
    deviation = float(np.mean(terms, axis=0).std(ddof=1))
    same = all(np.array_equal(a, b) for a, b in zip(own, baseline, strict=True))
    if deviation == 0 and not same:
        return Interval(value, nan, nan)
    half = z_of(level) * deviation / np.sqrt(n)
    if clean is not None:
        return Interval(value, value - half, value + half)
    factor = float(np.exp(half / value))
    return Interval(value, value / factor, value * factor)
