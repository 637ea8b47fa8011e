"""Applies a stored fit to stored logits: what the confidences become."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp, softmax

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


def members_of(fit: Fitted) -> list[str]:
    """Ids of the models whose logits the fit is about, where it is about an ensemble's members."""
    if fit.parameters_json is None:
        return []
    parameters = json.loads(fit.parameters_json)
    return list(parameters["models"]) if parameters["map"] == "members" else []


def voted(members: Sequence[Floats], fit: Fitted) -> Floats:
    """Logits of an ensemble whose members are scaled before they vote.

    Args:
        members: (n, K) logits of each member, in the order of `members_of`.
    """
    parameters = json.loads(fit.parameters_json or "null")
    each = []
    for logits, one in zip(members, parameters["fits"], strict=True):
        own = one["parameters"]
        fit_of = Fitted(one["temperature"], None if own is None else json.dumps(own))
        each.append(scaled(logits, fit_of))
    if parameters["vote"] == "mean_logits":
        mean: Floats = np.mean(each, axis=0)
        return mean
    log_p = np.stack([log_softmax(one, axis=1) for one in each])
    averaged: Floats = logsumexp(log_p, axis=0) - np.log(len(each))
    if parameters["vote"] == "mean_probabilities":
        return averaged
    ballots = (log_p.argmax(axis=2)[:, :, None] == np.arange(log_p.shape[2])).sum(axis=0)
    shares: Floats = (ballots + np.exp(averaged)) / (len(each) + 1)
    return np.log(np.maximum(shares, np.finfo(np.float32).tiny))


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
        probabilities: Floats = np.stack(columns, axis=1)
        result = np.log(probabilities)
        return result
    raise ValueError(f"calibration of an unknown sort: {parameters['map']!r}")
