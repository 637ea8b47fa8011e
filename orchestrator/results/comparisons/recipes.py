"""Recipes against each other: what is left of a difference when training is run again."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from robsweep.orchestrator.results.comparisons.metrics import Metric, spread
from robsweep.orchestrator.results.comparisons.questions import Answer
from robsweep.orchestrator.results.comparisons.samples import on_common
from robsweep.orchestrator.results.intervals import LEVEL, Interval

Floats = NDArray[np.float64]


class Contrast(NamedTuple):
    """The mean over seeds of one recipe less that of another."""

    difference: Interval
    p: float  # NaN: nothing can be said


NOTHING = Contrast(Interval(*[float("nan")] * 3), float("nan"))


class Together(NamedTuple):
    """All answers on the samples that every one of them has."""

    values: Floats | None  # (models,); None where these are fewer than two
    covariance: Floats  # (models, models), of these over draws of the samples
    n: list[int]  # of each part


def by_recipe(given: Sequence[Answer]) -> dict[tuple[str | None, ...], list[int]]:
    """Answers that differ by the seed alone, as indices."""
    found: dict[tuple[str | None, ...], list[int]] = {}
    for index, answer in enumerate(given):
        found.setdefault(answer.recipe, []).append(index)
    return found


def together(metric: Metric, given: Sequence[Answer]) -> Together:
    common = on_common([answer.sampled for answer in given])
    n = [len(part.samples) for part in common[0]]
    if min(n) < 2:
        return Together(None, np.zeros((0, 0)), n)
    return Together(*spread(metric, common), n)


def mean_of(measured: Together, seeds: Sequence[int], level: float = LEVEL) -> Interval:
    """The mean over the seeds of one recipe, with the same two variances as a `contrast`."""
    return contrast(measured, seeds, (), level).difference


def contrast(
    measured: Together,
    first: Sequence[int],
    second: Sequence[int],
    level: float = LEVEL,
) -> Contrast:
    """Two recipes, each trained with several seeds.

    The variance is the sum of two: between the seeds of each recipe, and that of the difference of
    means over draws of the samples, which all models share. The first has some of the second in it
    (what luck in the samples does not do to all seeds alike), so the sum is rather too large. With
    one seed on both sides there is no variance between seeds, and the luck of training is left out.

    Args:
        measured: All models; there are values.
        first: Models of one recipe.
        second: Those of the other; none: the first alone.

    Source: Welch 1947, for the seeds; degrees of freedom of Satterthwaite 1946.
    """
    values, covariance, _ = measured
    assert values is not None
    weights = np.zeros(len(values))
    for sign, side in ((1, first), (-1, second)):
        weights[[*side]] = sign / max(len(side), 1)
    difference = float(weights @ values)
    of_samples = max(0.0, float(weights @ covariance @ weights))
    between = [
        (float(np.var(values[[*side]], ddof=1)) / len(side), len(side) - 1)
        for side in (first, second)
        if len(side) > 1
    ]
    variance = of_samples + sum(part for part, _ in between)
    if variance == 0 or np.isnan(variance) or np.isnan(difference):
        same = difference == 0 and variance == 0
        edge = difference if same else float("nan")
        return Contrast(Interval(difference, edge, edge), 1.0 if same else float("nan"))
    noise = sum(part**2 / freedom for part, freedom in between)
    freedom = min(variance**2 / noise, 1e6) if noise > 0 else 1e6
    error = np.sqrt(variance)
    half = float(stdtrit(freedom, (1 + level) / 2) * error)
    p = float(2 * stdtr(freedom, -abs(difference) / error))
    return Contrast(Interval(difference, difference - half, difference + half), p)
