"""Activations that are bounded only: their values, and what bounds need to know of their shapes."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Curve = Literal[
    "sigmoid",
    "tanh",
    "gelu",
    "elu",
    "softplus",
    "sign",
    "positive",
    "nonzero",
    "floor",
    "ceil",
    "round",
    "int32",
    "int64",
]


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

# Those that are constant between jumps, as they are of the number that is computed: it rounds
# nothing. All but "nonzero" never fall.
JUMPS: dict[Curve, Callable[[Tensor], Tensor]] = {
    "sign": torch.sign,
    "positive": lambda x: (x > 0).to(x),
    "nonzero": lambda x: (x != 0).to(x),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,  # halves to the even one
    "int32": torch.trunc,
    "int64": torch.trunc,
}
# What is beyond that is no such integer, or none that is told apart from its neighbours here.
INTEGERS: dict[Curve, float] = {"int32": 2.0**31 - 1, "int64": 2.0**53}


class _Step(torch.autograd.Function):
    """A jumping curve, which a search takes for a slope of 1: its own is 0 nearly everywhere."""

    @staticmethod
    def forward(_: Any, x: Tensor, curve: Curve) -> Tensor:
        return JUMPS[curve](x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def value_of(curve: Curve, x: Tensor) -> Tensor:
    if curve not in JUMPS:
        return CURVES[curve].of(x)
    found: Tensor = _Step.apply(x, curve)  # type: ignore[no-untyped-call]
    return found
