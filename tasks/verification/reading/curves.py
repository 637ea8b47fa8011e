"""Smooth activations: their values, and what bounds need to know of their shapes."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Curve = Literal["sigmoid", "tanh", "gelu", "elu", "softplus"]


class Shape(NamedTuple):
    """A function of one variable: falling up to `lowest`, then rising."""

    of: Callable[[Tensor], Tensor]
    lowest: float  # -inf where it only rises
    least: float  # a lower bound on all its values
    slopes: tuple[float, float]  # between which its derivative lies
    curvature: float  # what its second derivative does not exceed in size


CURVES: dict[Curve, Shape] = {
    "sigmoid": Shape(torch.sigmoid, -math.inf, 0.0, (0.0, 0.25), 0.0963),
    "tanh": Shape(torch.tanh, -math.inf, -1.0, (0.0, 1.0), 0.7699),
    "gelu": Shape(F.gelu, -0.7517915, -0.1699713, (-0.1290, 1.1290), 0.7979),
    "elu": Shape(F.elu, -math.inf, -1.0, (0.0, 1.0), 1.0),
    # without the line that torch goes over to at 20, which is off by 2e-9
    "softplus": Shape(lambda x: torch.logaddexp(x, 0 * x), -math.inf, 0.0, (0.0, 1.0), 0.25),
}
