"""The smallest margin over a polytope of parameters: a linear program per pattern of ReLUs."""

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog, minimize
from torch import nn


class Polytope(NamedTuple):
    """The images `matrix @ t + offset` with lower <= t <= upper and what else holds of t."""

    matrix: np.ndarray  # (pixels, p)
    offset: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    equal: tuple[np.ndarray, np.ndarray] | None = None  # A t = b
    at_most: tuple[np.ndarray, np.ndarray] | None = None  # A t <= b
    ball: float | None = None  # |t - middle of its limits| <= ball


def smallest_margin(net: nn.Sequential, label: int, region: Polytope) -> float:
    """Of a chain of dense layers, in float64."""
    layers = [one for one in net if isinstance(one, nn.Linear)]
    linear = [(one.weight.double().numpy(), one.bias.double().numpy()) for one in layers]
    hidden = sum(len(bias) for _, bias in linear[:-1])
    limits = np.stack([region.lower, region.upper], 1)
    smallest = np.inf
    for pattern in product((False, True), repeat=hidden):
        slope, offset = region.matrix, region.offset
        rows, bounds, used = [], [], 0
        for weight, bias in linear[:-1]:
            slope, offset = weight @ slope, weight @ offset + bias
            on = np.array(pattern[used : used + len(bias)])
            used += len(bias)
            sign = np.where(on, -1.0, 1.0)
            rows.append(sign[:, None] * slope)
            bounds.append(-sign * offset)
            slope, offset = on[:, None] * slope, on * offset
        if region.at_most is not None:
            rows.append(region.at_most[0])
            bounds.append(region.at_most[1])
        weight, bias = linear[-1]
        slope, offset = weight @ slope, weight @ offset + bias
        for other in range(len(offset)):
            if other != label:
                found = linprog(
                    slope[label] - slope[other],
                    np.vstack(rows),
                    np.hstack(bounds),
                    *(region.equal or (None, None)),
                    limits,
                )
                if found.status != 0:
                    continue
                least = found.fun
                if region.ball is not None:
                    cost = slope[label] - slope[other]
                    least = _in_ball(cost, np.vstack(rows), np.hstack(bounds), region, found.x)
                smallest = min(smallest, least + offset[label] - offset[other])
    return float(smallest)


def _in_ball(
    cost: np.ndarray, rows: np.ndarray, ends: np.ndarray, region: Polytope, start: np.ndarray
) -> float:
    """The least of cost @ t, infinite where the ball does not meet the rest."""
    assert region.ball is not None
    radius, centre = region.ball, (region.lower + region.upper) / 2
    limits = [*zip(region.lower, region.upper, strict=True)]
    linear = {"type": "ineq", "fun": lambda t: ends - rows @ t, "jac": lambda t: -rows}
    near = minimize(
        lambda t: (t - centre) @ (t - centre), start, jac=lambda t: 2 * (t - centre),
        bounds=limits, constraints=[linear], method="SLSQP", options={"ftol": 1e-12},
    )  # fmt: skip
    if near.fun > radius**2:
        return np.inf
    inside = {
        "type": "ineq",
        "fun": lambda t: radius**2 - (t - centre) @ (t - centre),
        "jac": lambda t: -2 * (t - centre),
    }
    found = minimize(
        lambda t: cost @ t, near.x, jac=lambda t: cost, bounds=limits,
        constraints=[linear, inside], method="SLSQP", options={"ftol": 1e-12, "maxiter": 500},
    )  # fmt: skip
    return float(found.fun)
