"""AUROC of several models on the same samples, and how it varies together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.comparisons.samples import Sampled
from robsweep.orchestrator.results.metrics.detection.areas import auroc

Floats = NDArray[np.float64]


class Areas(NamedTuple):
    """The mean AUROC of each model over OOD sets, and what each sample adds to it."""

    values: Floats  # (models,)
    parts: list[Floats]  # per part (n, models), in the order of its samples; the last one is ID

    def covariance(self) -> Floats:
        """(models, models); NaN below two samples of a part."""
        total: Floats = np.sum([_covariance(part) for part in self.parts], axis=0)
        return total


def areas(models: Sequence[Sampled]) -> Areas:
    """The AUROC of each model and its structural components.

    Every part but the last holds OOD images, one column of scores for each set that is made of
    these images (a set and its corruptions, say); the last one ID images.

    Source: DeLong et al. 1988, section 2; of means over sets: Obuchowski 1997.
    """
    found = [_of_one(own) for own in models]
    values = np.array([value for value, _ in found])
    parts = [np.stack(columns, axis=1) for columns in zip(*(own for _, own in found), strict=True)]
    return Areas(values, parts)


def _of_one(own: Sampled) -> tuple[float, list[Floats]]:
    *outside, inside = own
    negative = inside.values[:, 0]
    of_negative = np.argsort(negative)
    sets = sum(part.values.shape[1] for part in outside)
    value, below = 0.0, np.zeros(len(negative))
    above = [np.zeros(len(part.samples)) for part in outside]
    for part, components in zip(outside, above, strict=True):
        for positive in part.values.T:
            of_positive = np.argsort(positive)
            area = auroc(positive[of_positive], negative[of_negative])
            value += area.value / sets
            components[of_positive] += area.positives / sets
            below[of_negative] += area.negatives / sets
    return value, [*above, below]


def _covariance(components: Floats) -> Floats:
    n, models = components.shape
    if n < 2:
        return np.full((models, models), np.nan)
    found: Floats = np.cov(components, rowvar=False).reshape(models, models) / n
    return found
