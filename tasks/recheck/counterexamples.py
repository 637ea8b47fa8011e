"""Evaluates points again: in float64 by the plain network, in float32 by torch."""

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from robsweep.tasks.recheck.bounds import ball
from robsweep.tasks.recheck.claims import Outcome
from robsweep.tasks.recheck.layers import Layer, forward
from robsweep.tasks.recheck.proofs import Shown
from robsweep.tasks.recheck.sampling import inside

# A margin that is positive by less, relative to the logits, may be a tie in another summation order
_ROUNDING = {"float64": 1e-13, "float32": 2e-6}


class Subject(NamedTuple):
    """A network twice: as it is deployed, and as it is read here."""

    module: nn.Module
    layers: list[Layer]


def confirm(
    subject: Subject, image: np.ndarray, label: int, eps: float, point: np.ndarray
) -> Shown:
    """Whether a point is a counterexample: in the exact box, in [0, 1], and not of the label."""
    if point.shape != image.shape:
        return Shown("wrong", f"it has shape {point.shape}, the image {image.shape}")
    if not inside(ball(image, eps), point.astype(np.float64).ravel()):
        return Shown("wrong", "it is outside the box")
    return not_the_label(subject, point, label)


def refutes(subject: Subject, image: np.ndarray, label: int, eps: float, point: np.ndarray) -> bool:
    """Whether a point shows that the label does not win in the whole box: float64 decides."""
    if point.shape != image.shape or not inside(ball(image, eps), point.astype(np.float64).ravel()):
        return False
    logits = forward(subject.layers, point.reshape(1, -1))[0]
    return bool(logits[label] <= np.delete(logits, label).max())


def not_the_label(subject: Subject, point: np.ndarray, label: int) -> Shown:
    """Whether another class beats or ties the label at a point, in both precisions."""
    outcome: Outcome = "ok"
    details = []
    for precision, logits in _logits(subject, point).items():
        margin = logits[label] - np.delete(logits, label).max()
        if margin > 0:
            near = margin <= _ROUNDING[precision] * max(1.0, float(np.abs(logits).max()))
            details.append(f"margin {margin:.3g} > 0 in {precision}")
            outcome = "open" if near and outcome != "wrong" else "wrong"
    return Shown(outcome, "; ".join(details) or "margin <= 0 in float64 and float32")


def _logits(subject: Subject, point: np.ndarray) -> dict[str, np.ndarray]:
    with torch.no_grad():
        single = subject.module(torch.from_numpy(point.astype(np.float32))[None])[0]
    return {
        "float64": forward(subject.layers, point.reshape(1, -1))[0],
        "float32": single.double().cpu().numpy(),
    }
