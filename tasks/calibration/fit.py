"""What a calibration gives, and what all of them check first."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp

from robsweep.tasks.errors import InputError


class Fit(NamedTuple):
    """Softmax(logits / temperature) is calibrated, or what `parameters` make of the logits.

    `parameters` are JSON: `{"map": "affine", "of": "logits" | "log_probabilities", "weights": (K,)
    or (K, K), "bias": (K,)}` gives logits, `{"map": "isotonic", "x": K lists, "y": K lists}` gives
    each class's probability by linear interpolation, to be divided by their sum.
    """

    temperature: float | None  # None: there is none, or none is defined
    nll_before: float  # mean negative log likelihood in nats
    nll_after: float | None
    at_bound: bool = False  # no fit is best: 0 or infinity would be
    parameters: Mapping[str, Any] | None = None
    why: str | None = None  # at a bound, or not defined


def checked(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) as float64 and labels (N,) as int64.

    Raises:
        InputError: No samples, logits that are not finite, or labels that are no classes.
    """
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    if logits.ndim != 2 or not len(logits) or labels.shape != logits.shape[:1]:
        raise InputError(
            f"a calibration needs logits (N, K) and labels (N,) of at least one sample, "
            f"got {logits.shape} and {labels.shape}"
        )
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        raise InputError(f"the logits of {bad} of {len(logits)} samples are not finite")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise InputError(f"labels {labels.min()}..{labels.max()} for {logits.shape[1]} classes")
    return logits, labels


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood in nats of labels (N,) under softmax of logits (N, K)."""
    chosen = logits[np.arange(len(labels)), labels]
    return float(np.mean(logsumexp(logits, axis=1) - chosen))


def undefined(before: float, labels: np.ndarray) -> Fit:
    """No fit, as all labels are one class."""
    why = f"all {len(labels)} labels are class {labels[0]}: nothing is learnt about the others"
    return Fit(None, before, None, why=why)


def nothing_to_learn(logits: np.ndarray, labels: np.ndarray) -> str | None:
    """Why a fit of more than one number is not defined on these samples; None where it is."""
    if (labels == labels[0]).all():
        return undefined(0.0, labels).why
    if (logits.argmax(axis=1) == labels).all():
        return f"no errors among {len(labels)}: no fit is best"
    return None
