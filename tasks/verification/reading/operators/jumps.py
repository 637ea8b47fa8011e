"""ONNX's operators whose values jump: signs, steps, comparisons, casts, choices between two."""

import numpy as np

from robsweep.tasks.verification.reading.curves import Curve
from robsweep.tasks.verification.reading.layers import Smooth
from robsweep.tasks.verification.reading.onnx.reference import Numbers
from robsweep.tasks.verification.reading.operators.arithmetic import operands
from robsweep.tasks.verification.reading.operators.values import (
    Node,
    UnsupportedError,
    Value,
    expanded,
    plus,
    scaled,
    shape_of,
)

_BOOL = np.dtype(bool)


def stepped(node: Node) -> Value:
    curves: dict[str, Curve] = {
        "Sign": "sign",
        "Floor": "floor",
        "Ceil": "ceil",
        "Round": "round",
    }
    return _along(node, node.only(), curves[node.kind])


def compared(node: Node) -> Value:
    """Greater(a, b) is whether a - b is positive."""
    first, second = operands(node)
    if node.kind in ("Less", "GreaterOrEqual"):
        first, second = second, first
    larger = _along(node, _difference(node, first, second), "positive")
    found = larger if node.kind in ("Less", "Greater") else scaled(node.graph, larger, -1.0, 1.0)
    return found._replace(dtype=_BOOL)


def equal(node: Node) -> Value:
    first, second = operands(node)
    other = _along(node, _difference(node, first, second), "nonzero")
    return scaled(node.graph, other, -1.0, 1.0)._replace(dtype=_BOOL)


def opposite(node: Node) -> Value:
    return scaled(node.graph, node.only(), -1.0, 1.0)


def _difference(node: Node, a: Value | Numbers, b: Value | Numbers) -> Value:
    """A - b, which is rounded; but not where b is 0."""
    dims = shape_of(a, b)
    if isinstance(a, Value) and not isinstance(b, Value) and not b.any():
        return expanded(node.graph, a, dims)
    if isinstance(b, Value) and not isinstance(a, Value) and not a.any():
        return scaled(node.graph, expanded(node.graph, b, dims), -1.0)
    return plus(node.graph, a, b, -1.0)


def _along(node: Node, x: Value, curve: Curve) -> Value:
    return x._replace(value=node.graph.add(Smooth(curve), x.value))


def cast(node: Node) -> Value:
    """Between float32 and float64 the same, but for rounding; to integers and booleans it jumps."""
    from onnx import TensorProto, helper

    x = node.given[0]
    if not isinstance(x, Value):
        raise UnsupportedError("what it casts does not depend on the input")
    if node.kind == "Cast":
        kind = node.attributes["to"]
    else:
        like = node.given[1]
        if like is None:
            raise UnsupportedError("it has no second input")
        kind = helper.np_dtype_to_tensor_dtype(like.dtype)
    curves: dict[int, Curve] = {
        TensorProto.BOOL: "nonzero",
        TensorProto.INT32: "int32",
        TensorProto.INT64: "int64",
    }
    floats = (TensorProto.FLOAT, TensorProto.DOUBLE)
    if kind not in (*floats, *curves):
        name = TensorProto.DataType.Name(kind)
        raise UnsupportedError(f"a cast to {name} changes numbers")
    if kind in curves:
        if x.dtype.kind != "f" and kind != TensorProto.BOOL:
            raise UnsupportedError(f"it is of {x.dtype}")
        x = x if x.dtype == _BOOL else _along(node, x, curves[kind])
    elif kind == TensorProto.FLOAT and x.dtype not in (np.float32, _BOOL):
        x = scaled(node.graph, x, 1.0)  # it rounds
    return x._replace(dtype=np.dtype(helper.tensor_dtype_to_np_dtype(kind)))


def where(node: Node) -> Value:
    """Chosen by a constant; or between constants."""
    if isinstance(node.given[0], Value):
        return _between(node, node.given[0])
    condition = node.constant(0)
    if condition is None:
        raise UnsupportedError("it has no condition")
    a, b = operands(node)[-2:] if len(node.given) == 3 else (None, None)
    if a is None or b is None:
        raise UnsupportedError("it has not three inputs")
    graph = node.graph
    dims = tuple(np.broadcast_shapes(condition.shape, shape_of(a, b)))
    yes = np.broadcast_to(condition.astype(bool), dims)
    halves: list[Value | Numbers] = []
    for one, kept in ((a, yes), (b, ~yes)):
        if isinstance(one, Value):
            halves.append(scaled(graph, expanded(graph, one, dims), kept))
        else:
            halves.append(np.where(kept, np.broadcast_to(one, dims), np.zeros((), one.dtype)))
    return plus(graph, halves[0], halves[1])


def _between(node: Node, condition: Value) -> Value:
    """A * condition + b * (1 - condition), of constants."""
    yes, no = operands(node)[1:] if len(node.given) == 3 else (None, None)
    if yes is None or no is None or isinstance(yes, Value) or isinstance(no, Value):
        raise UnsupportedError("what it chooses between is not constant, and how it does neither")
    dims = tuple(np.broadcast_shapes(condition.dims, shape_of(yes, no)))
    chosen = expanded(node.graph, condition, dims)._replace(dtype=yes.dtype)
    wide = [np.broadcast_to(one, dims).astype(np.float64) for one in (yes, no)]
    if yes.dtype.kind != "f":
        raise UnsupportedError(f"it is of {yes.dtype}")
    return scaled(node.graph, chosen, wide[0] - wide[1], wide[1])
