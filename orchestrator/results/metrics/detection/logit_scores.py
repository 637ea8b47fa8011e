"""Scores of stored predictions, as the scorers of the same names give; higher = more OOD."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

Floats = NDArray[np.float64]


def max_softmax(logits: Floats, confidence: Floats) -> Floats:
    """Minus the confidence: the largest class probability, or what the model states itself."""
    return -confidence


def max_logit(logits: Floats, confidence: Floats) -> Floats:
    found: Floats = -logits.max(axis=1)
    return found


def energy(logits: Floats, confidence: Floats, *, temperature: float = 1.0) -> Floats:
    found: Floats = -temperature * logsumexp(logits / temperature, axis=1)
    return found


def entropy(logits: Floats, confidence: Floats) -> Floats:
    log_p = log_softmax(logits, axis=1)
    found: Floats = -(np.exp(log_p) * log_p).sum(axis=1)
    return found


def cross_entropy_uniform(logits: Floats, confidence: Floats) -> Floats:
    found: Floats = log_softmax(logits, axis=1).mean(axis=1)
    return found


def gen(logits: Floats, confidence: Floats, *, gamma: float = 0.1, top: int = 100) -> Floats:
    log_p = np.sort(log_softmax(logits, axis=1), axis=1)[:, ::-1]
    # 1 - p of a sure model rounds to 0; the sum of the others does not
    rest = logsumexp(log_p[:, 1:], axis=1, keepdims=True)
    others = np.concatenate([rest, np.log1p(-np.exp(log_p[:, 1:]))], axis=1)
    found: Floats = np.exp(gamma * (log_p + others)[:, :top]).sum(axis=1)
    return found


LOGIT_SCORES: Mapping[str, Callable[..., Floats]] = {
    "max_softmax": max_softmax,
    "max_logit": max_logit,
    "energy": energy,
    "entropy": entropy,
    "cross_entropy_uniform": cross_entropy_uniform,
    "gen": gen,
}


def of_rows(params: Mapping[str, Any]) -> bool:
    """Whether a measurement's score is one of these; its mean over members needs their logits."""
    return params["scorer"] in LOGIT_SCORES and not params.get("members")


def score(name: str, parameters: Mapping[str, Any], logits: Floats, confidence: Floats) -> Floats:
    """A score of `LOGIT_SCORES`, (n,).

    Args:
        logits: (n, classes).
        confidence: (n,), as stored.
    """
    return LOGIT_SCORES[name](logits, confidence, **parameters)
