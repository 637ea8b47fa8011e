"""Isotonic regression of probabilities."""

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import softmax

from robsweep.tasks.calibration.fit import Fit, checked, nll, nothing_to_learn


def isotonic(logits: np.ndarray, labels: np.ndarray) -> Fit:
    """Each class's probability through its own rising steps, then all divided by their sum.

    A step is kept within 1 / (2N) of 0 and 1, as N samples cannot tell less from nothing: without
    that, one sample of a kind not seen before makes the likelihood 0.

    Args:
        logits: (N, K), finite.
        labels: (N,), 0..K-1.

    Raises:
        InputError: As `checked`.

    Source: Zadrozny & Elkan 2002, sections 2.3 and 3 (one class against the rest, normalised).
    """
    logits, labels = checked(logits, labels)
    before = nll(logits, labels)
    if why := nothing_to_learn(logits, labels):
        return Fit(None, before, None, why=why)
    p = softmax(logits, axis=1)
    least = 1 / (2 * len(p))
    knots = [_steps(p[:, k], labels == k, least) for k in range(p.shape[1])]
    mapped = np.stack([np.interp(p[:, k], x, y) for k, (x, y) in enumerate(knots)], axis=1)
    return Fit(
        None,
        before,
        nll(np.log(mapped), labels),
        parameters={
            "map": "isotonic",
            "x": [x.tolist() for x, _ in knots],
            "y": [y.tolist() for _, y in knots],
        },
    )


def _steps(p: np.ndarray, hit: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the steps: where they lie, and how high; equal probabilities are one point."""
    at, index, counts = np.unique(p, return_inverse=True, return_counts=True)
    share = np.bincount(index, weights=hit) / counts
    fitted = isotonic_regression(share, weights=counts).x
    first = np.r_[True, fitted[1:] != fitted[:-1]]
    last = np.r_[first[1:], True]
    kept = first | last
    return at[kept], np.clip(fitted[kept], least, 1 - least)
