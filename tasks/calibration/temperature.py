"""Temperature scaling."""

import numpy as np
from scipy.optimize import brentq
from scipy.special import softmax

from robsweep.tasks.calibration.fit import Fit, checked, nll, undefined

# In units of the logits' own spread. Where no temperature is best, as without a single error to
# learn from (the best would be 0), the fit stops here, far beyond what would change a confidence.
_BOUND = float(np.exp(5.0))
_FARTHEST = 100.0  # of log 1/T, in the same units


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
    logits, labels = checked(logits, labels)
    before = nll(logits, labels)
    if (labels == labels[0]).all():
        return undefined(before, labels)
    below = logits - logits.max(axis=1, keepdims=True)
    spread = float(-below.mean())
    if spread == 0:  # all classes tie: every temperature is the same
        why = "all classes tie in every sample: all temperatures are alike"
        return Fit(1.0, before, before, at_bound=True, why=why)
    scaled = below / spread
    inverse, why = _best_inverse(scaled, labels)
    after = nll(scaled * inverse, labels)
    return Fit(spread / inverse, before, after, at_bound=why is not None, why=why)


def _best_inverse(logits: np.ndarray, labels: np.ndarray) -> tuple[float, str | None]:
    """1/T at the minimum of the likelihood, and why that is a bound, if it is.

    The likelihood is convex in 1/T: its slope rises from that of the uniform distribution to that
    of certainty, and crosses 0 once, or nowhere.
    """
    chosen = logits[np.arange(len(labels)), labels]

    def slope(log_inverse: float) -> float:
        p = softmax(logits * np.exp(log_inverse), axis=1)
        return float(np.mean((p * logits).sum(axis=1) - chosen))

    if np.mean(logits.mean(axis=1) - chosen) >= 0:  # no better than chance
        return 1 / _BOUND, "no better than chance: the higher the temperature, the better"
    if np.mean(logits.max(axis=1) - chosen) <= 0:  # no errors
        return _BOUND, f"no errors among {len(labels)}: the lower the temperature, the better"
    low, high = -1.0, 1.0
    while slope(low) > 0 and low > -_FARTHEST:
        low -= 1.0
    while slope(high) < 0 and high < _FARTHEST:
        high += 1.0
    if slope(low) > 0 or slope(high) < 0:  # an error with a margin that float64 cannot hold
        return (1 / _BOUND if slope(low) > 0 else _BOUND), "an error with a margin beyond float64"
    return float(np.exp(brentq(slope, low, high, xtol=1e-12))), None
