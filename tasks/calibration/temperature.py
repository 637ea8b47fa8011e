"""Temperature scaling."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

from robsweep.tasks.errors import InputError

_LOG_RANGE = (-5.0, 5.0)  # of log T: without errors to learn from, the best T would be 0


class Fit(NamedTuple):
    """Softmax(logits / temperature) is calibrated; nll is the mean negative log likelihood."""

    temperature: float
    nll_before: float
    nll_after: float


def temperature(logits: np.ndarray, labels: np.ndarray) -> Fit:
    """The temperature in [e^-5, e^5] that minimises the negative log likelihood.

    Args:
        logits: (N, K), finite.
        labels: (N,), 0..K-1.

    Raises:
        InputError: No samples, logits that are not finite, or labels that are no classes.

    Source: Guo et al. 2017, section 4.2.
    """
    logits = np.asarray(logits, dtype=np.float64)
    labels = np.asarray(labels, dtype=np.int64)
    if logits.ndim != 2 or not len(logits) or labels.shape != logits.shape[:1]:
        raise InputError(
            f"a temperature needs logits (N, K) and labels (N,) of at least one sample, "
            f"got {logits.shape} and {labels.shape}"
        )
    if not np.isfinite(logits).all():
        bad = int((~np.isfinite(logits)).any(axis=1).sum())
        raise InputError(f"the logits of {bad} of {len(logits)} samples are not finite")
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise InputError(f"labels {labels.min()}..{labels.max()} for {logits.shape[1]} classes")

    # convex in 1/T, so with a single valley in log T
    found = minimize_scalar(
        lambda log_t: nll(logits * np.exp(-log_t), labels),
        bounds=_LOG_RANGE,
        method="bounded",
        options={"xatol": 1e-9},
    )
    before = nll(logits, labels)
    if found.fun >= before:
        return Fit(1.0, before, before)
    return Fit(float(np.exp(found.x)), before, float(found.fun))


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood in nats of labels (N,) under softmax of logits (N, K)."""
    chosen = logits[np.arange(len(labels)), labels]
    return float(np.mean(logsumexp(logits, axis=1) - chosen))
