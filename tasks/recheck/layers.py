"""A network as plain numpy: affine maps, ReLUs and maxima over flattened values."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse


@dataclass(frozen=True)
class Affine:
    """`matrix @ x + bias`; the matrix (outputs, inputs) is an array or a scipy sparse one."""

    matrix: Any
    bias: np.ndarray


@dataclass(frozen=True, eq=False)
class Relu:
    """`max(x, 0)`, of all values or of some; the others pass as they are."""

    units: np.ndarray | None = None

    def on(self, n: int) -> np.ndarray:
        """Which of n values it is applied to."""
        chosen = np.full(n, self.units is None)
        if self.units is not None:
            chosen[self.units] = True
        return chosen


@dataclass(frozen=True)
class Max:
    """The largest of several inputs: `windows` (outputs, taps) are their indices."""

    windows: np.ndarray


Layer = Affine | Relu | Max


def forward(layers: list[Layer], x: np.ndarray) -> np.ndarray:
    """Values behind the last layer in float64, (N, inputs) -> (N, outputs)."""
    x = np.asarray(x, dtype=np.float64)
    for layer in layers:
        match layer:
            case Affine(matrix, bias):
                x = (matrix @ x.T).T + bias
            case Relu():
                x = np.where(layer.on(x.shape[1]), np.maximum(x, 0.0), x)
            case Max(windows):
                x = x[:, windows].max(axis=2)
    return x


def with_margins(layers: list[Layer], label: int) -> list[Layer]:
    """The network whose outputs are logit[label] - logit[c] for each other class c, in order."""
    outputs = _outputs(layers)
    differences = np.delete(-np.eye(outputs), label, axis=0)
    differences[:, label] = 1.0
    return joined(layers, Affine(differences, np.zeros(outputs - 1)))


def joined(layers: list[Layer], layer: Layer) -> list[Layer]:
    """Appends a layer; two affine maps in a row become one."""
    last = layers[-1] if layers else None
    if isinstance(layer, Affine) and isinstance(last, Affine):
        matrix = layer.matrix @ last.matrix
        both = Affine(matrix, layer.matrix @ last.bias + layer.bias)
        return [*layers[:-1], both]
    return [*layers, layer]


def _outputs(layers: list[Layer]) -> int:
    for layer in reversed(layers):
        match layer:
            case Affine(_, bias):
                return len(bias)
            case Max(windows):
                return len(windows)
    raise ValueError("a network without any affine map")


def as_rows(matrix: Any) -> np.ndarray:
    """A matrix as a plain array."""
    return matrix.toarray() if sparse.issparse(matrix) else np.asarray(matrix)
