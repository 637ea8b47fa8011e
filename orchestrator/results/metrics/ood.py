"""How well a score tells OOD from ID samples. Higher score = more OOD, everywhere."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robsweep.orchestrator.results.intervals import NO_DATA, Interval
from robsweep.orchestrator.results.metrics.detection.areas import Area, average_precision
from robsweep.orchestrator.results.metrics.detection.areas import auroc as area_of
from robsweep.orchestrator.results.metrics.detection.false_positives import false_positive_rate
from robsweep.orchestrator.results.metrics.detection.influence import share
from robsweep.orchestrator.results.metrics.detection.selective import CONSTANT, NOT_FINITE

Floats = NDArray[np.float64]

NO_OOD, NO_ID = "no OOD samples", "no ID samples"


class Detection(NamedTuple):
    """Detection metrics of one scorer on one OOD set, all in [0, 1]; NaN where `why` says so."""

    auroc: Interval
    aupr_out: Interval  # OOD is the positive class
    aupr_in: Interval  # ID is the positive class
    fpr95_ood_pos: Interval
    fpr95_id_pos: Interval
    why: str | None = None


def detection(ood_scores: ArrayLike, id_scores: ArrayLike) -> Detection:
    """All detection metrics; NaN with the reason where a set is empty or all scores are equal.

    Source: Hendrycks & Gimpel 2017, section 2 (AUROC, AUPR in and out); Liang et al. 2018,
    section 4.2 (FPR at 95 % true positives).
    """
    why = undefined(ood_scores, id_scores)
    if why is not None:
        return Detection(NO_DATA, NO_DATA, NO_DATA, NO_DATA, NO_DATA, why)
    ood, id_ = _sorted(ood_scores), _sorted(id_scores)
    turned_id, turned_ood = -id_[::-1], -ood[::-1]
    return Detection(
        auroc=_share(area_of(ood, id_)),
        aupr_out=_share(average_precision(ood, id_)),
        aupr_in=_share(average_precision(turned_id, turned_ood)),
        fpr95_ood_pos=false_positive_rate(ood, id_),
        fpr95_id_pos=false_positive_rate(turned_id, turned_ood),
    )


def auroc(ood_scores: ArrayLike, id_scores: ArrayLike) -> Interval:
    """The AUROC alone, of the same samples the same."""
    if undefined(ood_scores, id_scores):
        return NO_DATA
    return _share(area_of(_sorted(ood_scores), _sorted(id_scores)))


def undefined(ood_scores: ArrayLike, id_scores: ArrayLike) -> str | None:
    """Why there is nothing to say of these scores, if there is nothing."""
    ood, id_ = np.asarray(ood_scores), np.asarray(id_scores)
    if len(ood) == 0 or len(id_) == 0:
        return NO_OOD if len(ood) == 0 else NO_ID
    low, high = min(ood.min(), id_.min()), max(ood.max(), id_.max())
    if np.isnan(low):
        return NOT_FINITE
    return CONSTANT if low == high else None


def _sorted(scores: ArrayLike) -> Floats:
    return np.sort(np.asarray(scores, dtype=np.float64))


def _share(area: Area) -> Interval:
    return share(area.value, [area.positives, area.negatives])
