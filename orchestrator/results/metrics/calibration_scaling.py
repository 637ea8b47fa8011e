"""Applies a stored fit to stored logits: what the confidences become."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

Floats = NDArray[np.float64]


class Fitted(NamedTuple):
    """A row of the table `calibration`, in as far as it changes logits."""

    temperature: float | None
    parameters_json: str | None = None

    @property
    def defined(self) -> bool:
        return self.temperature is not None or self.parameters_json is not None


def scaled(logits: Floats, fit: Fitted) -> Floats:
    """Logits whose softmax is what the fit makes of these.

    Args:
        logits: (n, K).

    Raises:
        ValueError: The fit is not defined, or of a sort that this version does not know.
    """
    if fit.parameters_json is not None:
        return _mapped(logits, json.loads(fit.parameters_json))
    if fit.temperature is None:
        raise ValueError("this calibration has no fit")
    return logits / fit.temperature


def _mapped(logits: Floats, parameters: Mapping[str, Any]) -> Floats:
    if parameters["map"] == "affine":
        x = log_softmax(logits, axis=1) if parameters["of"] == "log_probabilities" else logits
        weights, bias = np.array(parameters["weights"]), np.array(parameters["bias"])
        result: Floats = (x * weights if weights.ndim == 1 else x @ weights.T) + bias
        return result
    if parameters["map"] == "isotonic":
        p = softmax(logits, axis=1)
        knots = zip(parameters["x"], parameters["y"], strict=True)
        columns = [np.interp(p[:, k], x, y) for k, (x, y) in enumerate(knots)]
        return np.log(np.stack(columns, axis=1))
    raise ValueError(f"calibration of an unknown sort: {parameters['map']!r}")
