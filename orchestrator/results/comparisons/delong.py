"""AUROC of several models on the same samples, and how it varies together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.metrics.detection.areas import auroc

Floats = NDArray[np.float64]


class Areas(NamedTuple):
    """AUROC of each model, and what each sample adds to it."""

    values: Floats  # (models,)
    ood: Floats  # (m, models)
    id: Floats  # (n, models)

    def covariance(self) -> Floats:
        """(models, models); NaN below two samples of a set."""
        return _covariance(self.ood) + _covariance(self.id)


def areas(ood: Sequence[Floats], id_: Sequence[Floats]) -> Areas:
    """The AUROC of each model and its structural components, in the order of the samples.

    Args:
        ood: Per model the scores of the same m OOD samples.
        id_: Per model those of the same n ID samples.

    Source: DeLong et al. 1988, section 2.
    """
    values, positives, negatives = [], [], []
    for x, y in zip(ood, id_, strict=True):
        of_x, of_y = np.argsort(x), np.argsort(y)
        area = auroc(x[of_x], y[of_y])
        values.append(area.value)
        positives.append(_unsorted(area.positives, of_x))
        negatives.append(_unsorted(area.negatives, of_y))
    return Areas(np.array(values), np.stack(positives, axis=1), np.stack(negatives, axis=1))


def _unsorted(values: Floats, order: NDArray[np.int64]) -> Floats:
    found = np.empty_like(values)
    found[order] = values
    return found


def _covariance(components: Floats) -> Floats:
    n, models = components.shape
    if n < 2:
        return np.full((models, models), np.nan)
    found: Floats = np.cov(components, rowvar=False).reshape(models, models) / n
    return found
