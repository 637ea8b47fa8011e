"""What a certificate is about: a network as affine maps, ReLUs and maxima, and a question.

`tasks.certificates` is the second program: numpy and Python's own library, nothing of ours.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Affine:
    """`matrix @ x + bias`; the matrix (outputs, inputs) row by row, its zeros left out."""

    starts: Indices  # (outputs + 1,): row i is entries starts[i] to starts[i + 1]
    columns: Indices  # (entries,), ascending in each row
    weights: Floats  # (entries,)
    bias: Floats  # (outputs,)


@dataclass(frozen=True, eq=False)
class Relu:
    """`max(x, 0)` of some values; the others pass as they are."""

    units: NDArray[np.bool_]  # (n,)


@dataclass(frozen=True, eq=False)
class Max:
    """The largest of several values: `windows` (outputs, taps) are their indices."""

    windows: Indices


Layer = Affine | Relu | Max


class Network(NamedTuple):
    """Value 0 is the flattened input and value k + 1 what `layers[k]` makes of value k."""

    inputs: int
    layers: tuple[Layer, ...]

    def sizes(self) -> list[int]:
        """How many numbers each value has."""
        found = [self.inputs]
        for layer in self.layers:
            match layer:
                case Affine():
                    found.append(len(layer.bias))
                case Relu():
                    found.append(found[-1])
                case Max():
                    found.append(len(layer.windows))
        return found

    def bent(self) -> list[int]:
        """Which values enter a ReLU or a maximum."""
        return [k for k, layer in enumerate(self.layers) if not isinstance(layer, Affine)]

    def entries(self) -> int:
        """Of all matrices together."""
        return sum(len(one.weights) for one in self.layers if isinstance(one, Affine))

    def digest(self) -> str:
        """SHA-256 of all that it computes with."""
        hashed = hashlib.sha256(f"network {self.inputs}".encode())
        for layer in self.layers:
            match layer:
                case Affine():
                    parts = (layer.starts, layer.columns, layer.weights, layer.bias)
                    _update(hashed, "Affine", *parts)
                case Relu():
                    _update(hashed, "Relu", layer.units)
                case Max():
                    _update(hashed, "Max", layer.windows)
        return hashed.hexdigest()


class Disjunct(NamedTuple):
    """A part of the unsafe region: where `weight @ outputs + bias <= 0` in all rows."""

    weight: Floats  # (rows, outputs)
    bias: Floats  # (rows,), finite


@dataclass(frozen=True, eq=False)
class Question:
    """Whether any input of a box has outputs in any of the disjuncts. Proved is that none has."""

    lower: Floats  # (inputs,)
    upper: Floats
    unsafe: tuple[Disjunct, ...]

    def digest(self) -> str:
        """SHA-256 of the box and of the unsafe region."""
        hashed = hashlib.sha256(b"question")
        _update(hashed, "box", self.lower, self.upper)
        for one in self.unsafe:
            _update(hashed, "disjunct", one.weight, one.bias)
        return hashed.hexdigest()


def question(lower: Any, upper: Any, weight: Any, bias: Any) -> Question:
    """In the one form that is hashed: what is never reached or always holds is left out.

    Args:
        lower: Of the box, any shape, as is `upper`.
        weight: (disjuncts, rows, outputs); rows that are there twice count once.
        bias: (disjuncts, rows); infinite: the row never holds, negative infinite: it always does.
    """
    weight, bias = np.asarray(weight, dtype=np.float64), np.asarray(bias, dtype=np.float64)
    unsafe = []
    for rows, constants in zip(weight, bias, strict=True):
        if np.isposinf(constants).any():
            continue
        both = dict.fromkeys(
            (tuple(row), constant)
            for row, constant in zip(rows.tolist(), constants.tolist(), strict=True)
            if constant != -np.inf
        )
        matrix = np.array([row for row, _ in both]).reshape(len(both), rows.shape[1])
        unsafe.append(Disjunct(matrix, np.array([constant for _, constant in both])))
    low, high = (np.asarray(end, dtype=np.float64).ravel() for end in (lower, upper))
    return Question(low, high, tuple(unsafe))


def evaluate(network: Network, x: Floats) -> list[Floats]:
    """All values of one input (inputs,), in plain float64: nothing that is proved rests on it."""
    values = [np.asarray(x, dtype=np.float64)]
    for layer in network.layers:
        here = values[-1]
        match layer:
            case Affine():
                products = np.concatenate([[0.0], np.cumsum(layer.weights * here[layer.columns])])
                ends = products[layer.starts]
                values.append(ends[1:] - ends[:-1] + layer.bias)
            case Relu():
                values.append(np.where(layer.units, np.maximum(here, 0), here))
            case Max():
                values.append(here[layer.windows].max(1))
    return values


def _update(hashed: Any, name: str, *arrays: NDArray[Any]) -> None:
    for array in arrays:
        # negative zeros are zeros
        plain = array + 0 if array.dtype == np.float64 else array
        hashed.update(f"{name} {plain.dtype.str} {plain.shape}".encode())
        hashed.update(np.ascontiguousarray(plain).tobytes())
