"""Bounds on every layer over a box of images: intervals, and a backward linear relaxation.

Both are widened by `SLACK` times the largest bound so far, far more than what float64 rounding adds
up to in the networks that can be rechecked.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from robsweep.tasks.recheck.layers import Affine, Layer, Max, Relu, as_rows

SLACK = 1e-9
_CHUNK = 2**23  # numbers in one array of backward rows


@dataclass(frozen=True)
class Box:
    """Lower and upper ends, each (n,)."""

    lower: np.ndarray
    upper: np.ndarray


def ball(image: np.ndarray, eps: float) -> Box:
    """`[max(0, x - eps), min(1, x + eps)]` in float64, flattened."""
    x = image.astype(np.float64).ravel()
    return Box(np.maximum(0.0, x - eps), np.minimum(1.0, x + eps))


def intervals(layers: list[Layer], box: Box) -> list[Box]:
    """What enters each layer, and last what leaves the network, each value by itself."""
    found = [box]
    for layer in layers:
        found.append(_step(layer, found))
    return found


def relaxed(layers: list[Layer], box: Box) -> list[Box]:
    """As `intervals`, with undecided values bounded over the whole network before them.

    Each ReLU and maximum lies between two lines. Source: Zhang et al. 2018 (CROWN), section 3.3.
    """
    found = [box]
    for k, layer in enumerate(layers):
        here = _step(layer, found)
        if k and isinstance(layer, Affine):
            following = layers[k + 1] if k + 1 < len(layers) else None
            open_ones = here.lower < here.upper
            if isinstance(following, Relu):
                bent = following.on(len(open_ones))
                open_ones &= ~bent | ((here.lower < 0) & (here.upper > 0))
            units = np.flatnonzero(open_ones)
            here = _tightened(layers[: k + 1], found, here, units)
        found.append(here)
    return found


def worst_corners(layers: list[Layer], found: list[Box]) -> np.ndarray:
    """For each output the corner of the box where its relaxation is smallest, (outputs, n)."""
    form = np.eye(len(found[-1].lower))
    return _smallest(layers, found[:-1], form)[1]


def _tightened(layers: list[Layer], found: list[Box], here: Box, units: np.ndarray) -> Box:
    lower, upper = here.lower.copy(), here.upper.copy()
    last = layers[-1]
    assert isinstance(last, Affine)
    size = max(1, _CHUNK // max(len(box.lower) for box in found))
    slack = _slack([*found, here])
    for some in np.split(units, range(size, len(units), size)):
        rows, bias = as_rows(last.matrix[some]), last.bias[some]
        low = _smallest(layers[:-1], found[:-1], rows)[0] + bias - slack
        high = bias - _smallest(layers[:-1], found[:-1], -rows)[0] + slack
        lower[some] = np.maximum(lower[some], low)
        upper[some] = np.maximum(lower[some], np.minimum(upper[some], high))
    return Box(lower, upper)


def _smallest(
    layers: list[Layer], found: list[Box], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lower bounds on the linear forms `rows` on what the last layer gives, and their corners.

    `found` is what enters each of the layers.
    """
    constant = np.zeros(len(rows))
    for layer, box in zip(reversed(layers), reversed(found), strict=True):
        match layer:
            case Affine(matrix, bias):
                constant = constant + rows @ bias
                rows = rows @ matrix
            case Relu():
                rows, added = _below_relu(rows, box, layer.on(len(box.lower)))
                constant = constant + added
            case Max(windows):
                rows, added = _below_max(rows, box, windows)
                constant = constant + added
    corners = np.where(rows > 0, found[0].lower, found[0].upper)
    return constant + (rows * corners).sum(axis=1), corners


def _below_relu(rows: np.ndarray, box: Box, bent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A positive weight takes 0 or x from below, a negative one the chord from above."""
    lower, upper = box.lower, box.upper
    unsure = bent & (lower < 0) & (upper > 0)
    width = np.where(unsure, upper - lower, 1.0)
    chord = np.where(unsure, upper / width, np.where(~bent | (upper > 0), 1.0, 0.0))
    offset = np.where(unsure, -upper * lower / width, 0.0)
    floor = np.where(~bent | (upper > -lower), 1.0, 0.0)
    negative = np.minimum(rows, 0.0)
    return np.maximum(rows, 0.0) * floor + negative * chord, negative @ offset


def _below_max(rows: np.ndarray, box: Box, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From below one input of the window; from above the same where it surely is the largest."""
    outputs = np.arange(len(windows))
    best = windows[outputs, box.lower[windows].argmax(axis=1)]
    others = np.where(windows == best[:, None], -np.inf, box.upper[windows])
    sure = others.max(axis=1) <= box.lower[best]
    linear = np.where((rows > 0) | sure, rows, 0.0)
    constant = (rows - linear) @ box.upper[windows].max(axis=1)
    size = (len(windows), len(box.lower))
    picked = sparse.csr_array((np.ones(len(best)), (outputs, best)), shape=size)
    return linear @ picked, constant


def _step(layer: Layer, found: list[Box]) -> Box:
    lower, upper = found[-1].lower, found[-1].upper
    match layer:
        case Affine(matrix, bias):
            middle = matrix @ ((upper + lower) / 2) + bias
            radius = abs(matrix) @ ((upper - lower) / 2)
            slack = _slack([*found, Box(middle - radius, middle + radius)])
            return Box(middle - radius - slack, middle + radius + slack)
        case Relu():
            on = layer.on(len(lower))
            least, most = np.maximum(lower, 0.0), np.maximum(upper, 0.0)
            return Box(np.where(on, least, lower), np.where(on, most, upper))
        case Max(windows):
            return Box(lower[windows].max(axis=1), upper[windows].max(axis=1))


def _slack(found: list[Box]) -> float:
    return SLACK * max(max(1.0, float(np.abs([b.lower, b.upper]).max())) for b in found)
