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


def mean_auroc(
    ood_sets: Sequence[Scores], id_: Scores, images: Sequence[str] | None = None
) -> Interval:
    """The mean over OOD sets of the AUROC against the same ID data, and its interval.

    Samples of one number are one unit: with `joined` corruptions of the same images, these are
    not as many images as there are scores; nor are OOD sets that are made of the same images.

    Args:
        ood_sets: All scores of each.
        id_: Of the ID data.
        images: What each OOD set is made of; without it, each of images of its own.

    Source: the full spectrum, where shifted ID data are ID: Yang et al. 2023, section 3; means over
    near and far sets: Yang et al. 2022, section 3; clusters: Obuchowski 1997.
    """
    order = np.argsort(id_.scores)
    areas = [auroc(np.sort(one.scores), id_.scores[order]) for one in ood_sets]
    value = float(np.mean([area.value for area in areas]))
    below = np.mean([area.negatives for area in areas], axis=0) - value
    of_images: dict[str, list[tuple[NDArray[np.int64], Floats]]] = {}
    names = images or [str(i) for i in range(len(areas))]
    for name, one, area in zip(names, ood_sets, areas, strict=True):
        by_score = one.samples[np.argsort(one.scores)]
        above = (area.positives - area.value) / len(areas)
        of_images.setdefault(name, []).append((by_score, above))
    return share(
        value, [*map(_of_units, of_images.values()), _of_units([(id_.samples[order], below)])]
    )


def _of_units(sets: Sequence[tuple[NDArray[np.int64], Floats]]) -> Floats:
    """The influence of each sample, in any of the sets that are made of it."""
    units, at = np.unique(np.concatenate([samples for samples, _ in sets]), return_inverse=True)
    weights = np.concatenate([influence / len(influence) for _, influence in sets])
    found: Floats = np.bincount(at, weights=weights).astype(np.float64) * len(units)
    return found
