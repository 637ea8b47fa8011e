"""Scalings that are affine in the logits or in the log probabilities."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from robsweep.tasks.calibration.fit import Fit, checked, nll, nothing_to_learn

_BOUND = 150.0  # of weights and biases, in units of the logits' own spread
_STEPS = 2000


def vector(logits: np.ndarray, labels: np.ndarray) -> Fit:
    """A factor and a bias for each class's logit.

    Args:
        logits: (N, K), finite.
        labels: (N,), 0..K-1.

    Raises:
        InputError: As `checked`.

    Source: Guo et al. 2017, section 4.2.
    """
    return _fitted(logits, labels, of="logits", full=False, penalty=0.0)


def matrix(logits: np.ndarray, labels: np.ndarray, *, penalty: float = 0.01) -> Fit:
    """A matrix and a bias on the logits; what is not on the diagonal is penalised (ODIR).

    Args:
        logits: (N, K), finite.
        labels: (N,), 0..K-1.
        penalty: Times the mean square of the weights off the diagonal, and that of the biases, in
            units of the logits' spread.

    Raises:
        InputError: As `checked`.

    Source: Guo et al. 2017, section 4.2; Kull et al. 2019, section 4, for the penalty.
    """
    return _fitted(logits, labels, of="logits", full=True, penalty=penalty)


def dirichlet(logits: np.ndarray, labels: np.ndarray, *, penalty: float = 0.01) -> Fit:
    """The same on the log probabilities, so that logits shifted by a constant do not matter.

    Arguments and what it raises are those of `matrix`.

    Source: Kull et al. 2019, sections 3 and 4 (the linear form, with ODIR).
    """
    return _fitted(logits, labels, of="log_probabilities", full=True, penalty=penalty)


def _fitted(logits: np.ndarray, labels: np.ndarray, *, of: str, full: bool, penalty: float) -> Fit:
    """The best weights and biases by L-BFGS-B, from the identity on."""
    logits, labels = checked(logits, labels)
    before = nll(logits, labels)
    if why := nothing_to_learn(logits, labels):
        return Fit(None, before, None, why=why)
    x = log_softmax(logits, axis=1) if of == "log_probabilities" else logits
    spread = float((logits.max(axis=1, keepdims=True) - logits).mean()) or 1.0
    x = x / spread
    n, classes = x.shape
    hot = np.eye(classes)[labels]
    off = 1 - np.eye(classes)
    shape = (classes, classes) if full else (classes,)
    split = int(np.prod(shape))

    def applied(weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
        return (x @ weights.T if full else x * weights) + bias

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = flat[:split].reshape(shape), flat[split:]
        scores = applied(weights, bias)
        slope = (softmax(scores, axis=1) - hot) / n
        value = nll(scores, labels)
        by_weights = slope.T @ x if full else (slope * x).sum(axis=0)
        by_bias = slope.sum(axis=0)
        if penalty:
            outside = weights * off
            value += penalty * float((outside**2).sum()) / (classes * (classes - 1))
            value += penalty * float((bias**2).mean())
            by_weights = by_weights + 2 * penalty * outside / (classes * (classes - 1))
            by_bias = by_bias + 2 * penalty * bias / classes
        return value, np.concatenate([by_weights.ravel(), by_bias])

    start = np.eye(classes) if full else np.ones(classes)
    found = minimize(
        loss,
        np.concatenate([spread * start.ravel(), np.zeros(classes)]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(-_BOUND * max(1.0, spread), _BOUND * max(1.0, spread))] * (split + classes),
        options={"maxiter": _STEPS, "maxfun": 2 * _STEPS, "ftol": 1e-12, "gtol": 1e-7},
    )
    weights, bias = found.x[:split].reshape(shape), found.x[split:]
    bound = _BOUND * max(1.0, spread)
    stuck = bool((np.abs(found.x) >= bound * (1 - 1e-9)).any())
    why = f"weights stand at their bound of {_BOUND:g} times the logits' spread" if stuck else None
    return Fit(
        None,
        before,
        nll(applied(weights, bias), labels),
        at_bound=stuck,
        parameters={
            "map": "affine",
            "of": of,
            "weights": (weights / spread).tolist(),
            "bias": bias.tolist(),
        },
        why=why,
    )
