"""ONNX's matrix products and sums over axes."""

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.verification.reading.layers import Linear
from robsweep.tasks.verification.reading.operators.values import (
    Node,
    UnsupportedError,
    Value,
    linear,
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
        return plus(graph, product.astype(added.dtype), scaled(graph, added, beta))
    found = _product(node, left, right, (turned[0], turned[1]), alpha)
    if added is None:
        return found
    shape = added.dims if isinstance(added, Value) else added.shape
    if tuple(np.broadcast_shapes(found.dims, shape)) != found.dims:
        raise UnsupportedError("its third input does not fit")
    if isinstance(added, Value):
        return plus(graph, found, scaled(graph, added, beta))
    return scaled(graph, found, 1.0, beta * added.astype(np.float64))


def _product(
    node: Node,
    left: Value | np.ndarray,
    right: Value | np.ndarray,
    turned: tuple[bool, bool] = (False, False),
    alpha: float = 1.0,
) -> Value:
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
            layer = Linear(alpha * weight, torch.zeros(len(weight), dtype=torch.float64))
            return Value(node.graph.add(layer, flat), (*x.dims[:-1], len(weight)), x.dtype)
    elif isinstance(right, Value) and not isinstance(left, Value):
        x, matrix = right, tensor(left)
    else:
        raise UnsupportedError("its matrix is not a constant")
    first = isinstance(left, Value)

    def does(value: Tensor) -> Tensor:
        a, b = (value, matrix) if first else (matrix, value)
        a, b = (t.T if turn else t for t, turn in zip((a, b), turned, strict=True))
        return alpha * torch.matmul(a, b)

    return linear(node.graph, x, does)


def reduced(node: Node) -> Value:
    """Sums and means over some axes."""
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
    share = 1 / size_of(tuple(x.dims[axis] for axis in axes)) if node.kind == "ReduceMean" else 1.0
    return linear(node.graph, x, lambda value: share * value.sum(axes, keepdim=keep))
