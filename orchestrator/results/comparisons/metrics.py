"""What models are compared by, and how the difference of two is tested."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.comparisons import paired, weighted
from robsweep.orchestrator.results.comparisons.delong import areas
from robsweep.orchestrator.results.comparisons.samples import Sampled

Floats = NDArray[np.float64]
Statistic = Callable[[Sequence[Sampled], Sequence[weighted.Weights]], Floats]

MCNEMAR, DELONG, BOOTSTRAP = "McNemar", "DeLong", "bootstrap"


class Metric(NamedTuple):
    """One number per model."""

    of: Statistic  # of weighted samples
    test: str
    higher_is_better: bool = True
    most: float = 1.0  # of its values, from 0


METRICS: dict[str, Metric] = {
    "clean_accuracy": Metric(weighted.mean, MCNEMAR),
    "robust_accuracy": Metric(weighted.mean, MCNEMAR),
    "verified_accuracy": Metric(weighted.mean, MCNEMAR),
    "auroc": Metric(weighted.auroc, DELONG),
    "scorer_auroc": Metric(weighted.auroc, DELONG),  # between the scorers of one model
    "ece": Metric(weighted.ece, BOOTSTRAP, higher_is_better=False),
    "aurc": Metric(weighted.aurc, BOOTSTRAP, higher_is_better=False),
    "mean_corruption_error": Metric(weighted.mean, BOOTSTRAP, higher_is_better=False),
    "median_distance": Metric(weighted.median, BOOTSTRAP, most=float("inf")),
}


def compare(metric: Metric, models: Sequence[Sampled]) -> paired.Pairs:
    """Every model less every other one, all on the same samples.

    The bootstrap gives the standard error alone: p-values small enough to be corrected for many
    pairs would take millions of resamples, so the normal distribution stands for the tails.
    """
    if metric.test == MCNEMAR:
        return paired.shares(np.stack([own[0].values[:, 0] > 0 for own in models], axis=1))
    return paired.normal(*spread(metric, models))


def spread(metric: Metric, models: Sequence[Sampled]) -> tuple[Floats, Floats]:
    """The value of each model, (models,), and how they vary together over draws of the samples."""
    if metric.test == DELONG:
        found = areas(models)
        return found.values, found.covariance()
    sizes = [len(part.samples) for part in models[0]]
    if metric.test == MCNEMAR:
        right = np.stack([own[0].values[:, 0] for own in models])
        return right.mean(axis=1), _covariance(right) / sizes[0]
    drawn = _finite(metric.of(models, [weighted.resamples(n) for n in sizes]))
    values = _finite(metric.of(models, [weighted.everything(n) for n in sizes]))[:, 0]
    return values, _covariance(drawn)


def first_in_halves(metric: Metric, models: Sequence[Sampled]) -> Floats:
    """How often each model is the best of all on a random half of the samples, (models,).

    Models that tie for it share it.
    """
    sizes = [len(part.samples) for part in models[0]]
    drawn = metric.of(models, [weighted.halves(n, seed=i) for i, n in enumerate(sizes)])
    best = drawn if metric.higher_is_better else -drawn
    first = best >= best.max(axis=0) - 1e-12
    often: Floats = (first / first.sum(axis=0)).mean(axis=1)
    return often


def _covariance(rows: Floats) -> Floats:
    """(models, models); NaN of fewer than two columns."""
    models, n = rows.shape
    if n < 2:
        return np.full((models, models), np.nan)
    return np.cov(rows).reshape(models, models)


def _finite(drawn: Floats) -> Floats:
    """Without the models for which some draw has no finite value."""
    return np.where(np.isfinite(drawn).all(axis=1, keepdims=True), drawn, np.nan)
