"""What the operators of an ONNX file are read with: tensors of the graph, and constants."""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import Linear, MadeOf, Relu, Sum
from robsweep.tasks.verification.reading.onnx.reference import Numbers, computed

LARGEST = 2**24  # entries of a matrix that one operator is written out as
_MOST = 2**23  # entries of a tensor


class Value(NamedTuple):
    """A tensor that depends on the input: its value in the graph, its shape and type in ONNX."""

    value: int
    dims: tuple[int, ...]
    dtype: np.dtype[Any]


Operand = Value | Numbers | None


class UnsupportedError(Exception):
    """An operator, as set up in this file, cannot be verified; says why."""


class Node(NamedTuple):
    """One operator, some of whose inputs depend on the network's."""

    proto: Any
    given: tuple[Operand, ...]  # None where an optional input is left out
    attributes: dict[str, Any]
    opsets: dict[str, int]
    graph: Graph

    @property
    def kind(self) -> str:
        return str(self.proto.op_type)

    @property
    def opset(self) -> int:
        return self.opsets[""]

    def only(self) -> Value:
        """The first input, which alone depends on the network's."""
        first, *others = self.given
        if not isinstance(first, Value) or any(isinstance(one, Value) for one in others):
            raise UnsupportedError("another input than its first depends on the network's")
        return first

    def constant(self, place: int) -> Numbers | None:
        found = self.given[place] if place < len(self.given) else None
        if isinstance(found, Value):
            raise UnsupportedError(f"its input {place + 1} is not a constant")
        return found

    def number(self, name: str, default: float) -> float:
        """An attribute; ONNX keeps them in float32, and its defaults too."""
        return float(self.attributes.get(name, np.float32(default)))


def size_of(dims: tuple[int, ...]) -> int:
    return prod(dims)


def tensor(array: Any) -> Tensor:
    """Constants of a layer, in float64."""
    numbers = np.array(array, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise UnsupportedError("its constants, or what follows from them, are not finite")
    return torch.from_numpy(numbers)


def moved(graph: Graph, x: Value, does: Callable[[Numbers], Numbers]) -> Value:
    """What `does` rearranges: each entry is one of the input's, or one constant."""
    places = graph.places(x.value).numpy().reshape(x.dims)
    there, back = does(places), does(-places)
    if not 0 < there.size <= _MOST:
        raise UnsupportedError(f"its output has {there.size} entries")
    fills = np.unique((there + back)[there != -back]) / 2
    if len(fills) > 1:
        raise UnsupportedError("it fills in several constants")
    fill = float(fills.sum())
    tensor(fill)
    value = graph.rearranged(x.value, tensor((there - back) / 2), fill)
    return Value(value, tuple(there.shape), x.dtype)


def moved_by(node: Node, x: Value, which: int = 0) -> Value:
    """What the operator itself rearranges; `which` of its outputs."""
    constants = [node.constant(i) for i in range(1, len(node.given))]
    as_double = [c.astype(np.float64) if c is not None and c.dtype.kind == "f" else c
                 for c in constants]  # fmt: skip

    def does(places: Numbers) -> Numbers:
        return computed(node.proto, [places, *as_double], node.opsets)[which]

    return moved(node.graph, x, does)


def expanded(graph: Graph, x: Value, dims: tuple[int, ...]) -> Value:
    """Broadcast to a shape."""
    if size_of(dims) == size_of(x.dims):
        return x._replace(dims=dims)
    return moved(graph, x, lambda places: np.broadcast_to(places, dims))


def shape_of(*operands: Value | Numbers) -> tuple[int, ...]:
    """To which all are broadcast.

    Raises:
        UnsupportedError: There is none, or they are of several types.
    """
    types = {str(one.dtype) for one in operands}
    if len(types) > 1:
        raise UnsupportedError(f"it mixes {' and '.join(sorted(types))}")
    shapes = [one.dims if isinstance(one, Value) else one.shape for one in operands]
    try:
        dims = tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise UnsupportedError(f"shapes {shapes} do not fit") from None
    if not 0 < size_of(dims) <= _MOST:
        raise UnsupportedError(f"its output has {size_of(dims)} entries")
    return dims


def scaled(
    graph: Graph, x: Value, weight: Any, bias: Any = 0.0, made_of: MadeOf | None = None
) -> Value:
    """The tensor * weight + bias, both broadcast to the shape of x, as are what they are of."""

    def full(one: Any) -> Tensor:
        wide = np.broadcast_to(np.asarray(one, dtype=np.float64), x.dims)
        return torch.from_numpy(wide.copy()).reshape(graph.shapes[x.value])

    factor, shift = full(tensor(weight)), full(tensor(bias))
    parts = None if made_of is None else MadeOf(*map(full, made_of))
    return x._replace(value=graph.scaled(x.value, factor, shift, parts))


def plus(graph: Graph, a: Value | Numbers, b: Value | Numbers, sign: float = 1.0) -> Value:
    """A + sign * b, one of which depends on the input; sign is 1 or -1."""
    dims = shape_of(a, b)
    if isinstance(a, Value) and isinstance(b, Value):
        one, other = expanded(graph, a, dims), expanded(graph, b, dims)
        second = graph.reshaped(other.value, graph.shapes[one.value])
        return one._replace(value=graph.add(Sum((1.0, sign)), one.value, second))
    if isinstance(a, Value):
        return scaled(graph, expanded(graph, a, dims), 1.0, sign * np.asarray(b, np.float64))
    if isinstance(b, Value):
        return scaled(graph, expanded(graph, b, dims), sign, a)
    raise UnsupportedError("it depends on nothing")


def relu(graph: Graph, x: Value) -> Value:
    return x._replace(value=graph.add(Relu(), x.value))


def linear(
    graph: Graph, x: Value, does: Callable[[Tensor], Tensor], bias: Numbers | None = None
) -> Value:
    """A linear map of a tensor, written out as a matrix; `bias` is broadcast to its output."""
    inputs = size_of(x.dims)
    sample = does(torch.zeros(x.dims, dtype=torch.float64))
    if inputs * max(sample.numel(), inputs) > LARGEST:
        raise UnsupportedError(f"a matrix of {sample.numel()} x {inputs} is too large")
    if not sample.numel():
        raise UnsupportedError("its output has no entries")
    basis = torch.eye(inputs, dtype=torch.float64).reshape(inputs, *x.dims)
    columns = torch.func.vmap(does)(basis).reshape(inputs, -1)
    dims = tuple(sample.shape)
    added = np.broadcast_to(np.zeros(()) if bias is None else bias, dims)
    flat = graph.reshaped(x.value, (inputs,))
    layer = Linear(tensor(columns.T.numpy()), tensor(added).flatten())
    return Value(graph.add(layer, flat), dims, x.dtype)
