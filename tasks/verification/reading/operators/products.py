"""ONNX's matrix products and sums over axes."""

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.verification.reading.layers import Linear, MaxPool
from robsweep.tasks.verification.reading.onnx.reference import Numbers
from robsweep.tasks.verification.reading.operators.values import (
    Node,
    UnsupportedError,
    Value,
    linear,
    moved,
    plus,
    scaled,
    size_of,
    tensor,
)


def matmul(node: Node) -> Value:
    left, right = node.given[:2]
    if left is None or right is None:
        raise UnsupportedError("an input is missing")
    return _product(node, left, right)


def gemm(node: Node) -> Value:
    """A sum alpha * A' @ B' + beta * C, in which A or B, and C, may depend on the input."""
    graph, left, right = node.graph, *node.given[:2]
    added = node.given[2] if len(node.given) > 2 else None
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if left is None or right is None:
        raise UnsupportedError("an input is missing")
    turned = [bool(node.attributes.get(name, 0)) for name in ("transA", "transB")]
    for one in (left, right):
        if len(one.dims if isinstance(one, Value) else one.shape) != 2:
            raise UnsupportedError("an input is no matrix")
    if not isinstance(left, Value) and not isinstance(right, Value):
        product = alpha * np.matmul(*(one.T if t else one for one, t in
                                      zip((left, right), turned, strict=True)))  # fmt: skip
        if not isinstance(added, Value):
            raise UnsupportedError("it depends on nothing")
        full = np.broadcast_shapes(product.shape, added.dims)
        if full != product.shape:
            raise UnsupportedError("its third input does not fit")
        graph.follows = False  # the order of its sums is not in any layer
        return plus(graph, product.astype(added.dtype), scaled(graph, added, beta))
    if abs(alpha) < 2.0**-20:  # sums before it may overflow: `rounding.SCALED_DOWN`
        graph.follows = False
    sizes = [one.dims if isinstance(one, Value) else one.shape for one in (left, right)]
    dims = (sizes[0][int(turned[0])], sizes[1][int(not turned[1])])
    shape = () if added is None else added.dims if isinstance(added, Value) else added.shape
    if tuple(np.broadcast_shapes(dims, shape)) != dims:
        raise UnsupportedError("its third input does not fit")
    constant = None if added is None or isinstance(added, Value) else beta * added.astype(float)
    found = _product(node, left, right, (turned[0], turned[1]), alpha, constant)
    if isinstance(added, Value):
        return plus(graph, found, scaled(graph, added, beta))
    return found


def _product(
    node: Node,
    left: Value | np.ndarray,
    right: Value | np.ndarray,
    turned: tuple[bool, bool] = (False, False),
    alpha: float = 1.0,
    added: Numbers | None = None,
) -> Value:
    """Left @ right, turned, times alpha, and a constant that is broadcast to it."""
    if left.dtype != right.dtype:
        raise UnsupportedError(f"it mixes {left.dtype} and {right.dtype}")
    if isinstance(left, Value) and not isinstance(right, Value):
        x, matrix = left, tensor(right)
        plain = matrix.ndim == 2 and not turned[0] and size_of(x.dims[:-1]) == 1
        if plain:
            weight = matrix if turned[1] else matrix.T
            if weight.shape[1] != x.dims[-1]:
                raise UnsupportedError("its shapes do not fit")
            flat = node.graph.reshaped(x.value, (x.dims[-1],))
            dims = (*x.dims[:-1], len(weight))
            bias = np.broadcast_to(np.zeros(()) if added is None else added, dims)
            layer = Linear(alpha * weight, tensor(bias).flatten())
            return Value(node.graph.add(layer, flat), dims, x.dtype)
    elif isinstance(right, Value) and not isinstance(left, Value):
        x, matrix = right, tensor(left)
    else:
        raise UnsupportedError("its matrix is not a constant")
    first = isinstance(left, Value)

    def does(value: Tensor) -> Tensor:
        a, b = (value, matrix) if first else (matrix, value)
        a, b = (t.T if turn else t for t, turn in zip((a, b), turned, strict=True))
        return alpha * torch.matmul(a, b)

    return linear(node.graph, x, does, added)


def reduced(node: Node) -> Value:
    """Sums, means and extremes over some axes."""
    x = node.only()
    as_input = 13 if node.kind == "ReduceSum" else 18
    given = node.constant(1) if node.opset >= as_input else node.attributes.get("axes")
    axes = [] if given is None else [int(axis) for axis in np.asarray(given).ravel()]
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return x
    axes = axes or list(range(len(x.dims)))
    if any(not -len(x.dims) <= axis < len(x.dims) for axis in axes):
        raise UnsupportedError(f"axes {axes} do not fit its input")
    axes = sorted({axis % len(x.dims) for axis in axes})
    keep = bool(node.attributes.get("keepdims", 1))
    if node.kind in ("ReduceMax", "ReduceMin"):
        return _extreme(node, x, axes, keep=keep)
    total = linear(node.graph, x, lambda value: value.sum(axes, keepdim=keep))
    if node.kind == "ReduceSum":
        return total
    return scaled(node.graph, total, 1 / size_of(tuple(x.dims[axis] for axis in axes)))


def _extreme(node: Node, x: Value, axes: list[int], *, keep: bool) -> Value:
    """The largest, as a pooling of what stands in a row; the smallest by turned signs."""
    graph = node.graph
    many = size_of(tuple(x.dims[axis] for axis in axes))
    value = x if node.kind == "ReduceMax" else scaled(graph, x, -1.0)
    last = list(range(-len(axes), 0))
    rows = moved(graph, value, lambda some: np.moveaxis(some, axes, last).reshape(1, -1, many))
    image = graph.reshaped(rows.value, rows.dims)
    found = graph.add(MaxPool((1, many), (1, many), (0, 0)), image)
    dims = [1 if i in axes else side for i, side in enumerate(x.dims) if keep or i not in axes]
    largest = Value(graph.reshaped(found, tuple(dims)), tuple(dims), x.dtype)
    return largest if node.kind == "ReduceMax" else scaled(graph, largest, -1.0)
