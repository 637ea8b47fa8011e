"""Temperature scaling."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import logsumexp, softmax

from robsweep.tasks.errors import InputError

# In units of the logits' own spread. Where no temperature is best, as without a single error to
# learn from (the best would be 0), the fit stops here, far beyond what would change a confidence.
_BOUND = float(np.exp(5.0))
_FARTHEST = 100.0  # of log 1/T, in the same units


class Fit(NamedTuple):
    """Softmax(logits / temperature) is calibrated; nll is the mean negative log likelihood."""

    temperature: float
    nll_before: float
    nll_after: float
    at_bound: bool = False  # no temperature is best: 0 or infinity would be


def temperature(logits: np.ndarray, labels: np.ndarray) -> Fit:
    """The temperature that minimises the negative log likelihood, whatever the logits' scale.

    Multiplying all logits by a number multiplies the temperature by it, and changes nothing else.

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

    before = nll(logits, labels)
    below = logits - logits.max(axis=1, keepdims=True)
    spread = float(-below.mean())
    if spread == 0:  # all classes tie: every temperature is the same
        return Fit(1.0, before, before, at_bound=True)
    scaled = below / spread
    inverse, at_bound = _best_inverse(scaled, labels)
    return Fit(spread / inverse, before, nll(scaled * inverse, labels), at_bound)


def nll(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood in nats of labels (N,) under softmax of logits (N, K)."""
    chosen = logits[np.arange(len(labels)), labels]
    return float(np.mean(logsumexp(logits, axis=1) - chosen))


def _best_inverse(logits: np.ndarray, labels: np.ndarray) -> tuple[float, bool]:
    """1/T at the minimum of the likelihood, and whether that is a bound.

    The likelihood is convex in 1/T: its slope rises from that of the uniform distribution to that
    of certainty, and crosses 0 once, or nowhere.
    """
    chosen = logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        p = softmax(logits * np.exp(log_inverse), axis=1)
        return float(np.mean((p * logits).sum(axis=1) - chosen))

    if np.mean(logits.mean(axis=1) - chosen) >= 0:  # no better than chance
        return 1 / _BOUND, True
    if np.mean(logits.max(axis=1) - chosen) <= 0:  # no errors
        return _BOUND, True
    low, high = -1.0, 1.0
    while slope(low) > 0 and low > -_FARTHEST:
        low -= 1.0
    while slope(high) < 0 and high < _FARTHEST:
        high += 1.0
    if slope(low) > 0 or slope(high) < 0:  # an error with a margin that float64 cannot hold
        return (1 / _BOUND if slope(low) > 0 else _BOUND), True
    return float(np.exp(brentq(slope, low, high, xtol=1e-12))), False
