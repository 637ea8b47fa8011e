"""The smallest margin over a polytope of parameters: a linear program per pattern of ReLUs."""

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from torch import nn


class Polytope(NamedTuple):
    """The images `matrix @ t + offset` with lower <= t <= upper and what else holds of t."""

    matrix: np.ndarray  # (pixels, p)
    offset: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    equal: tuple[np.ndarray, np.ndarray] | None = None  # A t = b
    at_most: tuple[np.ndarray, np.ndarray] | None = None  # A t <= b


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
                if found.status == 0:
                    smallest = min(smallest, found.fun + offset[label] - offset[other])
    return float(smallest)
