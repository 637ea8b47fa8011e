"""Error detection: does a model that may refuse to answer refuse where it is wrong?"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robsweep.orchestrator.results.intervals import NO_DATA, Interval
from robsweep.orchestrator.results.metrics.detection.areas import auroc
from robsweep.orchestrator.results.metrics.detection.influence import share

Floats = NDArray[np.float64]

NO_SAMPLES, NO_ERRORS, ONLY_ERRORS = "no samples", "no errors", "only errors"
CONSTANT, NOT_FINITE = "constant scores", "scores that are no numbers"


class Selective(NamedTuple):
    """Error detection by one score; NaN where `why` says that a number is undefined."""

    n: int
    aurc: Interval
    e_aurc: Interval
    auroc: Interval  # that a wrong prediction has the higher score
    errors: int
    why: str | None = None


def selective(scores: ArrayLike, wrong: ArrayLike) -> Selective:
    """Area under the risk-coverage curve, how far that is from the best, and AUROC of errors.

    AURC is the mean over coverages 1/n, 2/n, ..., 1 of the error rate among that share of samples
    with the lowest scores; equal scores count as if in random order. E-AURC is AURC less that of a
    score that has all errors last, summed over the same n coverages: 0 for a perfect one.

    Args:
        scores: (n,), higher = more likely wrong; of a confidence, its negative.
        wrong: (n,) bool.

    Source: Geifman, Uziel & El-Yaniv 2019, sections 2 and 3; they approximate the best by an
    integral, r + (1 - r) ln(1 - r), which for finite n is no lower bound.
    """
    score, error = np.asarray(scores, np.float64), np.asarray(wrong, np.float64)
    n, errors = len(score), int(error.sum())
    if n == 0 or np.isnan(score).any():
        return _nothing(n, errors, NO_SAMPLES if n == 0 else NOT_FINITE)
    if score.min() == score.max() and n > 1:
        return _nothing(n, errors, CONSTANT)
    order = np.argsort(score)
    score, error = score[order], error[order]
    value, influence = _area(score, error)
    rate = errors / n
    aurc = share(value, [influence])
    best = _best(n, errors)
    if rate < 1:
        excess = share(max(0.0, value - best), [influence + np.log1p(-rate) * error])
    else:
        excess = Interval(0.0, 0.0, 0.0)
    if errors in (0, n):
        why = NO_ERRORS if errors == 0 else ONLY_ERRORS
        return Selective(n, aurc, excess, NO_DATA, errors, why)
    split = error > 0
    area = auroc(score[split], score[~split])
    found = share(area.value, [area.positives, area.negatives])
    return Selective(n, aurc, excess, found, errors)


def _nothing(n: int, errors: int, why: str) -> Selective:
    return Selective(n, NO_DATA, NO_DATA, NO_DATA, errors, why)


def _area(score: Floats, error: Floats) -> tuple[float, Floats]:
    """AURC of samples in the order of their scores, and what each adds to it."""
    n = len(score)
    rank = np.arange(1, n + 1)
    starts = np.flatnonzero(np.concatenate([[True], score[1:] != score[:-1]]))
    sizes = np.diff(np.concatenate([starts, [n]]))
    # in a random order of equal scores, each has its group's share of errors
    smooth = np.repeat(np.add.reduceat(error, starts) / sizes, sizes)
    risk = np.cumsum(smooth) / rank
    weight = 1 / rank
    # sums over coverages from each sample on; equal scores share theirs
    after = np.cumsum(weight[::-1])[::-1]
    of_risk = np.cumsum((risk * weight)[::-1])[::-1]
    group = np.repeat(np.arange(len(starts)), sizes)
    after, of_risk, here = (
        (np.add.reduceat(values, starts) / sizes)[group] for values in (after, of_risk, risk)
    )
    return float(risk.mean()), here + error * after - of_risk


def _best(n: int, errors: int) -> float:
    """AURC of a score that has all errors last."""
    coverage = np.arange(n - errors + 1, n + 1)
    return float(np.sum((coverage - (n - errors)) / coverage) / n)
