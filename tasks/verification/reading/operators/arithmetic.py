"""ONNX's arithmetic and activations, as affine maps, ReLUs and smooth curves."""

import numpy as np
import torch

from robsweep.tasks.verification.reading.curves import Curve
from robsweep.tasks.verification.reading.layers import Gather, Smooth
from robsweep.tasks.verification.reading.layers import normalised as parts_of
from robsweep.tasks.verification.reading.onnx.reference import Numbers
from robsweep.tasks.verification.reading.operators.values import (
    Node,
    UnsupportedError,
    Value,
    expanded,
    plus,
    relu,
    scaled,
    shape_of,
    size_of,
    tensor,
)

_NORMAL = float(np.finfo(np.float32).tiny)
_FAR = 1e4  # an end beside which numbers are lost to rounding


def same(node: Node) -> Value:
    """Identity; and Dropout, of which only the evaluation mode gets here."""
    return node.only()


def add(node: Node) -> Value:
    """Add, Sum and Mean of any number of inputs."""
    total, *others = operands(node)
    constant = None if isinstance(total, Value) else total
    for one in others:
        if constant is not None and not isinstance(one, Value):
            total = constant = _sum_of(constant, one)
            node.graph.follows = False  # another order would round otherwise
        else:
            total, constant = plus(node.graph, total, one), None
    if not isinstance(total, Value):
        raise UnsupportedError("it depends on nothing")
    return scaled(node.graph, total, 1 / len(node.given)) if node.kind == "Mean" else total


def _sum_of(a: Numbers, b: Numbers) -> Numbers:
    shape_of(a, b)
    total: Numbers = a + b
    return total


def subtract(node: Node) -> Value:
    a, b = operands(node)
    return plus(node.graph, a, b, -1.0)


def negative(node: Node) -> Value:
    return scaled(node.graph, node.only(), -1.0)


def multiply(node: Node) -> Value:
    a, b = operands(node)
    if isinstance(a, Value) and isinstance(b, Value):
        raise UnsupportedError("it is not linear in two branches")
    x, factor = (a, b) if isinstance(a, Value) else (b, a)
    assert isinstance(x, Value)
    return scaled(node.graph, expanded(node.graph, x, shape_of(x, factor)), factor)


def divide(node: Node) -> Value:
    a, b = operands(node)
    if isinstance(b, Value) or not isinstance(a, Value):
        raise UnsupportedError("it divides by what depends on the input")
    if not b.all():
        raise UnsupportedError("it divides by 0")
    if (np.abs(b) < _NORMAL).any():  # where it may be taken for 0
        node.graph.follows = False
    x = expanded(node.graph, a, shape_of(a, b))
    return scaled(node.graph, x, 1 / b.astype(np.float64))


def absolute(node: Node) -> Value:
    """|x| = relu(x) + relu(-x)."""
    x, graph = node.only(), node.graph
    return plus(graph, relu(graph, x), relu(graph, scaled(graph, x, -1.0)))


def largest(node: Node) -> Value:
    """Max and Min of any number of inputs."""
    graph, given = node.graph, operands(node)
    numbers = [one for one in given if not isinstance(one, Value)]
    found, *others = [one for one in given if isinstance(one, Value)]
    pick = np.maximum if node.kind == "Max" else np.minimum
    for other in others:
        found = _extreme(node, found, other)
    if numbers:
        shape_of(found, *numbers)
        constant = numbers[0]
        for one in numbers[1:]:
            constant = pick(constant, one)
        found = _extreme(node, found, constant)
    return found._replace(value=graph.reshaped(found.value, found.dims))


def _extreme(node: Node, a: Value, b: Value | Numbers) -> Value:
    """The larger of two is b + relu(a - b), the smaller b - relu(b - a)."""
    graph = node.graph
    if node.kind == "Max":
        return plus(graph, b, relu(graph, plus(graph, a, b, -1.0)))
    return plus(graph, b, relu(graph, plus(graph, b, a, -1.0)), -1.0)


def clip(node: Node) -> Value:
    """First up to the least, then down to the most, which wins where they contradict."""
    x = node.only()
    if node.opset < 11:
        ends = [node.attributes.get(name) for name in ("min", "max")]
    else:
        ends = [_single(node.constant(i)) for i in (1, 2)]
    return clipped(node, x, *ends)


def clipped(node: Node, x: Value, low: float | None, high: float | None) -> Value:
    graph, most = node.graph, float(np.finfo(x.dtype).max)
    if any(end is not None and np.isnan(end) for end in (low, high)):
        raise UnsupportedError("an end is not a number")
    if low is not None and low > -most:
        x = relu(graph, x) if low == 0 else _no_less(node, x, 1.0, low)
    if high is not None and high < most:
        x = _no_less(node, x, -1.0, high)
    return x


def _no_less(node: Node, x: Value, sign: float, end: float) -> Value:
    """At least `end`; at most, where the sign is -1."""
    graph = node.graph
    if abs(end) < _FAR:
        return scaled(graph, relu(graph, scaled(graph, x, sign, -sign * end)), sign, end)
    # x is kept as it is, as little would be left of it beside the end
    return plus(graph, x, relu(graph, scaled(graph, x, -sign, sign * end)), sign)


def hard_sigmoid(node: Node) -> Value:
    slope, middle = node.number("alpha", 0.2), node.number("beta", 0.5)
    return clipped(node, scaled(node.graph, node.only(), slope, middle), 0.0, 1.0)


def rectified(node: Node) -> Value:
    return relu(node.graph, node.only())


def leaky(node: Node) -> Value:
    return _with_slope(node, node.only(), np.float64(node.number("alpha", 0.01)))


def parametric(node: Node) -> Value:
    x, slope = node.only(), node.constant(1)
    if slope is None or shape_of(x, slope) != x.dims:
        raise UnsupportedError("its slopes do not fit its input")
    return _with_slope(node, x, slope.astype(np.float64))


def _with_slope(node: Node, x: Value, slope: Numbers | np.float64) -> Value:
    """The slope below 0 is slope: slope * x + (1 - slope) * relu(x)."""
    graph = node.graph
    return plus(graph, scaled(graph, x, slope), scaled(graph, relu(graph, x), 1 - slope))


def curved(node: Node) -> Value:
    curves: dict[str, Curve] = {
        "Sigmoid": "sigmoid",
        "Tanh": "tanh",
        "Gelu": "gelu",
        "Softplus": "softplus",
    }
    if node.attributes.get("approximate", b"none") != b"none":
        raise UnsupportedError("only the exact form is")
    return _along(node, node.only(), curves[node.kind])


def exponential(node: Node) -> Value:
    """Elu, Selu, Celu: g * (relu(x) + a * (elu(x / c) - relu(x / c))); c = 1 but for Celu."""
    graph, x, c, g = node.graph, node.only(), 1.0, 1.0
    a = node.number("alpha", 1.67326319217681884765625 if node.kind == "Selu" else 1.0)
    if node.kind == "Selu":
        g = node.number("gamma", 1.05070102214813232421875)
    if node.kind == "Celu":
        c = a
    if c == 0:
        raise UnsupportedError("alpha = 0")
    curve = _along(node, x if c == 1 else scaled(graph, x, 1 / c), "elu")
    if a == g == c == 1:
        return curve
    # relu(x) - a * relu(x / c), of which nothing is left for Celu with c > 0
    if c < 0:
        raise UnsupportedError("alpha < 0")
    rest = g * (1 - a / c)
    curve = scaled(graph, curve, g * a)
    return curve if rest == 0 else plus(graph, curve, scaled(graph, relu(graph, x), rest))


def _along(node: Node, x: Value, curve: Curve) -> Value:
    return x._replace(value=node.graph.add(Smooth(curve), x.value))


def softmax(node: Node) -> Value:
    """Left out: only what a property says of it is heard of it, see `softmaxes.py`."""
    x, graph = node.only(), node.graph
    axis = int(node.attributes.get("axis", 1 if node.opset < 13 else -1))
    if not -len(x.dims) <= axis < max(len(x.dims), 1):
        raise UnsupportedError(f"axis {axis} does not fit its input")
    places = np.arange(size_of(x.dims)).reshape(x.dims)
    if node.opset < 13:
        groups = places.reshape(-1, size_of(x.dims[axis % len(x.dims) :]))
    else:
        groups = np.moveaxis(places, axis, -1).reshape(-1, x.dims[axis])
    shape = graph.shapes[x.value]
    value = graph.add(Gather(torch.from_numpy(places).reshape(shape)), x.value)
    graph.softmaxes[value] = groups.tolist()
    return x._replace(value=value)


def normalised(node: Node) -> Value:
    """Batch normalisation by constants."""
    if (
        node.attributes.get("training_mode")
        or len([name for name in node.proto.output if name]) > 1
    ):
        raise UnsupportedError("it is in training mode")
    if node.attributes.get("spatial", 1) != 1:
        raise UnsupportedError("each place has statistics of its own")
    x = node.only()
    parts = [node.constant(i) for i in (1, 2, 3, 4)]
    if len(x.dims) < 2 or any(one is None or one.shape != (x.dims[1],) for one in parts):
        raise UnsupportedError("its statistics do not fit its input")
    scale, shift, mean, variance = (
        np.asarray(one, dtype=np.float64).reshape(-1, *[1] * (len(x.dims) - 2)) for one in parts
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = variance + node.number("epsilon", 1e-5)
        weight = scale / np.sqrt(variance)
        bias = shift - mean * weight
    made_of = parts_of(*(tensor(one) for one in (scale, shift, mean, variance)))
    return scaled(node.graph, x, weight, bias, made_of)


def operands(node: Node) -> list[Value | Numbers]:
    found = [one for one in node.given if one is not None]
    if len(found) != len(node.given) or not found:
        raise UnsupportedError("an input is missing")
    return found


def _single(constant: Numbers | None) -> float | None:
    if constant is None:
        return None
    if constant.size != 1:
        raise UnsupportedError("an end of it is no single number")
    return float(constant.ravel()[0])
