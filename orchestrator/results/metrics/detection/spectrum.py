"""AUROC of several OOD sets together, and of ID data that is shifted too."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.orchestrator.results.intervals import Interval
from robsweep.orchestrator.results.metrics.detection.areas import auroc
from robsweep.orchestrator.results.metrics.detection.influence import share

Floats = NDArray[np.float64]


class Scores(NamedTuple):
    """Of one set, by sample."""

    samples: NDArray[np.int64]  # (n,)
    scores: Floats  # (n,)


def joined(sets: Sequence[Scores]) -> Scores:
    """All of them as one: an image and its corruptions keep the same sample."""
    return Scores(
        np.concatenate([one.samples for one in sets]), np.concatenate([one.scores for one in sets])
    )


def mean_auroc(ood_sets: Sequence[Scores], id_: Scores) -> Interval:
    """The mean over OOD sets of the AUROC against the same ID data, and its interval.

    ID samples of one number are one unit: with `joined` corruptions of the same images, these are
    not as many images as there are scores. OOD sets are of different images.

    Source: the full spectrum, where shifted ID data are ID: Yang et al. 2023, section 3; means over
    near and far sets: Yang et al. 2022, section 3; clusters: Obuchowski 1997.
    """
    order = np.argsort(id_.scores)
    areas = [auroc(np.sort(one.scores), id_.scores[order]) for one in ood_sets]
    value = float(np.mean([area.value for area in areas]))
    below = np.mean([area.negatives for area in areas], axis=0) - value
    units, at = np.unique(id_.samples[order], return_inverse=True)
    of_id = np.bincount(at, weights=below).astype(np.float64) * (len(units) / len(order))
    return share(value, [*(area.positives / len(areas) for area in areas), of_id])
