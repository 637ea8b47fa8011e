"""How well a score tells OOD from ID samples. Higher score = more OOD, everywhere."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from robsweep.orchestrator.results.intervals import NO_DATA, Interval, delong_auroc

Floats = NDArray[np.float64]


class Detection(NamedTuple):
    """Detection metrics of one scorer on one OOD set, all in [0, 1]."""

    auroc: Interval
    aupr_out: float  # OOD is the positive class
    aupr_in: float  # ID is the positive class
    fpr95_ood_pos: float
    fpr95_id_pos: float


def detection(ood_scores: ArrayLike, id_scores: ArrayLike) -> Detection:
    """All detection metrics; NaN where one of the sets is empty.

    Source: Hendrycks & Gimpel 2017, section 2 (AUROC, AUPR in and out); Liang et al. 2018,
    section 4.2 (FPR at 95 % true positives).
    """
    ood = np.asarray(ood_scores, dtype=np.float64)
    id_ = np.asarray(id_scores, dtype=np.float64)
    if len(ood) == 0 or len(id_) == 0:
        nan = float("nan")
        return Detection(NO_DATA, nan, nan, nan, nan)
    return Detection(
        auroc=delong_auroc(ood, id_),
        aupr_out=average_precision(ood, id_),
        aupr_in=average_precision(-id_, -ood),
        fpr95_ood_pos=false_positive_rate(ood, id_),
        fpr95_id_pos=false_positive_rate(-id_, -ood),
    )


def average_precision(positive: Floats, negative: Floats) -> float:
    """Area under precision-recall as a step function; equal scores are one step.

    Source: the estimator of Boyd et al. 2013, section 4, that scikit-learn uses too.
    """
    thresholds, hits = np.unique(positive, return_counts=True)
    above = len(positive) - np.searchsorted(np.sort(positive), thresholds, side="left")
    flagged = len(negative) - np.searchsorted(np.sort(negative), thresholds, side="left")
    precision = above / (above + flagged)
    return float(np.sum(precision * hits) / len(positive))


def false_positive_rate(positive: Floats, negative: Floats, recall: float = 0.95) -> float:
    """Share of negatives above the highest threshold that still catches `recall` of positives."""
    caught = int(np.ceil(recall * len(positive) - 1e-9))
    threshold = np.sort(positive)[len(positive) - caught]
    return float(np.mean(negative >= threshold))
