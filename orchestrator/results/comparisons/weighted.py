"""Metrics of weighted samples, for many sets of weights at once: resamples and random halves.

Weights are (n, draws), how often each sample is in each draw; every draw has as many.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.comparisons.delong import areas
from robsweep.orchestrator.results.comparisons.samples import Sampled
from robsweep.orchestrator.results.metrics.calibration_bins import BINS, equal_width

Floats = NDArray[np.float64]
Weights = NDArray[np.float32]

DRAWS = 1000
_AT_ONCE = 4_000_000  # weights that are held at a time
_FEWEST = 200


def draws_of(n: int) -> int:
    """How often to draw n samples: fewer times where there are very many."""
    return max(_FEWEST, min(DRAWS, _AT_ONCE // max(n, 1)))


def resamples(n: int, seed: int = 0) -> Weights:
    """How often each of n samples is drawn by the bootstrap, (n, draws).

    Source: Efron 1979.
    """
    draws = draws_of(n)
    drawn = np.random.default_rng([seed, n]).integers(0, n, (draws, n), dtype=np.int32)
    drawn += np.arange(draws, dtype=np.int32)[:, None] * np.int32(n)
    counts = np.bincount(drawn.ravel(), minlength=draws * n)
    return np.ascontiguousarray(counts.reshape(draws, n).T, dtype=np.float32)


def halves(n: int, seed: int = 0) -> Weights:
    """Which of n samples are in each of many random halves, (n, draws) of 0 and 1."""
    keys = np.random.default_rng([seed, n]).random((draws_of(n), n), dtype=np.float32)
    half = max(1, n // 2)
    last = np.partition(keys, half - 1, axis=1)[:, half - 1]
    return np.ascontiguousarray((keys <= last[:, None]).T, dtype=np.float32)


def everything(n: int) -> Weights:
    """Each sample once, (n, 1)."""
    return np.ones((n, 1), dtype=np.float32)


def mean(models: Sequence[Sampled], weights: Sequence[Weights]) -> Floats:
    """The mean of the first column, (models, draws)."""
    columns = np.stack([own[0].values[:, 0] for own in models], axis=0)
    found: Floats = _sums(columns, weights[0]) / weights[0].sum(axis=0)
    return found


def ece(models: Sequence[Sampled], weights: Sequence[Weights]) -> Floats:
    """Expected calibration error of columns confidence and correct, (models, draws)."""
    found = []
    for own in models:
        confidence, correct = own[0].values.T
        gaps = np.zeros((BINS, len(confidence)))
        gaps[equal_width(confidence), np.arange(len(confidence))] = confidence - correct
        found.append(np.abs(_sums(gaps, weights[0])).sum(axis=0))
    total: Floats = weights[0].sum(axis=0).astype(np.float64)
    return np.stack(found) / total


def aurc(models: Sequence[Sampled], weights: Sequence[Weights]) -> Floats:
    """Area under risk-coverage of columns doubt and wrong, (models, draws).

    As in `selective`, equal doubts count as if in random order.
    """
    n = int(weights[0][:, 0].sum())
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, n + 1))])
    found = np.zeros((len(models), weights[0].shape[1]))
    for row, own in enumerate(models):
        doubt, wrong = own[0].values.T
        order = np.argsort(doubt, kind="stable")
        doubt, wrong = doubt[order], wrong[order] > 0
        if not wrong.any():
            continue
        ordered = weights[0][order]
        starts = np.flatnonzero(np.concatenate([[True], doubt[1:] != doubt[:-1]]))
        group = np.repeat(np.arange(len(starts)), np.diff(np.concatenate([starts, [len(doubt)]])))
        errors = np.add.reduceat(ordered[wrong], _firsts(group[wrong]), axis=0)
        # only groups with an error matter: where each begins and ends, counted in samples drawn
        with_errors = np.unique(group[wrong])
        begins = starts[with_errors]
        ends = np.concatenate([starts[1:], [len(doubt)]])[with_errors]
        cuts = np.unique(np.concatenate([[0], begins, ends[ends < len(doubt)]]))
        pieces = np.add.reduceat(ordered, cuts, axis=0)
        reached = np.concatenate([np.zeros((1, pieces.shape[1])), np.cumsum(pieces, axis=0)])
        at = np.concatenate([cuts, [len(doubt)]])
        before = reached[np.searchsorted(at, begins)]
        after = reached[np.searchsorted(at, ends)]
        size = np.maximum(after - before, 1)
        rise = harmonic[after.astype(np.int64)] - harmonic[before.astype(np.int64)]
        later = harmonic[n] - harmonic[after.astype(np.int64)]
        found[row] = (errors * (later + 1 - before * rise / size)).sum(axis=0) / n
    return found


def median(models: Sequence[Sampled], weights: Sequence[Weights]) -> Floats:
    """The median of the first column, (models, draws); infinite where too many values are."""
    found = []
    for own in models:
        order = np.argsort(own[0].values[:, 0], kind="stable")
        values, n = own[0].values[order, 0], len(order)
        half = weights[0].sum(axis=0) / 2
        # the medians of draws are all near the middle: only there does it matter who is drawn
        start = max(0, int(n / 2 - 4 * np.sqrt(n)) - 1)
        stop = min(n, int(n / 2 + 4 * np.sqrt(n)) + 2)
        before = weights[0][order[:start]].sum(axis=0)
        reached = before + np.cumsum(weights[0][order[start:stop]], axis=0)
        if (before >= half).any() or (reached[-1] <= half).any():
            start, reached = 0, np.cumsum(weights[0][order], axis=0)
        low = values[start + (reached < half).sum(axis=0)]
        high = values[start + (reached <= half).sum(axis=0)]
        same = low == high  # infinity less infinity is no number
        found.append(np.where(same, low, (low + high) / 2))
    return np.stack(found)


def auroc(models: Sequence[Sampled], weights: Sequence[Weights]) -> Floats:
    """Mean AUROC over OOD sets against ID samples, (models, draws), to first order.

    What is left out shrinks with the number of samples, and not with its root.
    """
    found = areas(models)
    means = [
        _sums(np.ascontiguousarray(part.T), weight) / weight.sum(axis=0)
        for part, weight in zip(found.parts, weights, strict=True)
    ]
    linear: Floats = np.sum(means, axis=0) - found.values[:, None]
    return linear


def _sums(rows: Floats, weights: Weights) -> Floats:
    return (rows.astype(np.float32) @ weights).astype(np.float64)


def _firsts(sorted_: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], sorted_[1:] != sorted_[:-1]]))
