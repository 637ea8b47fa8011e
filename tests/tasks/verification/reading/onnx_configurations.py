"""Operators set up at random, as exporters do and as they do not: attributes, forms, shapes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.tasks.verification.reading.onnx_rearrangements import (
    casting,
    constants_alone,
    padding,
    reshaping,
    resizing,
    slicing,
    splitting,
)
from tests.tasks.verification.reading.onnx_setups import (
    Made,
    Random,
    dims_of,
    ints,
    node,
    one_of,
    opset_of,
    shape_like,
)


def arithmetic(random: Random) -> Made:
    kind, dims = (
        one_of(random, "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"),
        dims_of(random),
    )
    constant = random.normal(size=shape_like(random, dims)) + (3 if kind == "Div" else 0)
    inputs = one_of(random, ("x", "c"), ("c", "x"))
    opset = opset_of(random, 8 if kind in ("Max", "Min", "Sum", "Mean") else 7)
    if kind in ("Max", "Min", "Sum", "Mean"):
        inputs = one_of(random, inputs, ("x", "c", "x"), ("c", "x", "d"), ("x",), ("x", "x"))
    elif random.random() < 0.2:
        inputs = ("x", "x")
    constants = {"c": constant, "d": random.normal(size=shape_like(random, dims))}
    return Made([node(kind, *inputs)], constants, dims, opset)


def two_branches(random: Random) -> Made:
    kind, dims = (
        one_of(random, "Add", "Sub", "Max", "Min", "Mul", "Concat", "Where"),
        dims_of(random, 2),
    )
    axis = int(random.integers(-len(dims), len(dims)))
    constants = {"c": random.normal(size=shape_like(random, dims)), "s": random.normal(size=dims)}
    nodes = [node("Relu", "x", outputs=("a",)), node("Mul", "x", "c", outputs=("b",))]
    inputs: tuple[str, ...] = one_of(random, ("a", "b"), ("b", "a"))
    if kind == "Concat":
        nodes[1] = node("Neg", "x", outputs=("b",))
        inputs = one_of(random, ("a", "b"), ("s", "b", "a"), ("a", "a"), ("a", "s"), ("a",))
        nodes.append(node(kind, *inputs, axis=axis))
    elif kind == "Where":
        constants["m"] = random.random(shape_like(random, dims)) < 0.5
        inputs = ("m", *one_of(random, inputs, ("a", "s"), ("s", "b")))
        nodes.append(node(kind, *inputs))
    else:
        nodes.append(node(kind, *inputs))
    return Made(nodes, constants, dims, opset_of(random, 9))


def activation(random: Random) -> Made:
    curves = ("Sigmoid", "Tanh", "Elu", "Celu", "Selu", "Softplus", "Gelu", "HardSigmoid")
    others = ("Relu", "LeakyRelu", "Abs", "Neg", "Identity", "PRelu", "ThresholdedRelu", "Sign",
              "HardSwish", "Softsign", "Round", "Floor", "Exp", "Softmax", "Mish")  # fmt: skip
    kind, dims = one_of(random, *curves, *curves, *others, *others[:6]), dims_of(random)
    least = {"Celu": 12, "Gelu": 20, "Sign": 9, "HardSwish": 14, "Round": 11, "Mish": 18}
    attributes: dict[str, Any] = {}
    constants, inputs = {}, ["x"]
    if kind in ("Elu", "Celu", "LeakyRelu", "Selu", "HardSigmoid", "ThresholdedRelu"):
        attributes["alpha"] = one_of(random, None, 1.0, 0.3, 2.0, -0.5)
    if kind == "HardSigmoid":
        attributes["beta"] = one_of(random, None, 0.1)
    if kind == "Gelu":
        attributes["approximate"] = one_of(random, None, "none", "tanh")
    if kind == "PRelu":
        shape = tuple(one_of(random, side, 1) for side in dims[int(random.integers(len(dims))) :])
        constants, inputs = {"s": random.normal(size=shape)}, ["x", "s"]
    opset = opset_of(random, least.get(kind, 9), 22)
    return Made([node(kind, *inputs, **attributes)], constants, dims, opset)


def clip(random: Random) -> Made:
    opset, dims = opset_of(random), dims_of(random)
    low, high = one_of(random, None, -0.5, 0.0, 0.2), one_of(random, None, 0.7, 0.0, -0.7)
    if opset < 11:
        return Made([node("Clip", "x", min=low, max=high)], {}, dims, opset)
    ends = {"l": low, "h": high}
    constants = {name: np.array(value) for name, value in ends.items() if value is not None}
    inputs = [name if value is not None else "" for name, value in ends.items()]
    if high is None and random.random() < 0.5:
        inputs = inputs[:1]
    return Made([node("Clip", "x", *inputs)], constants, dims, opset)


def _window(random: Random, count: int, *, auto: bool = True) -> dict[str, Any]:
    kernel = ints(random, 1, 4, count)
    made: dict[str, Any] = {"kernel_shape": kernel}
    made["strides"] = one_of(random, None, ints(random, 1, 4, count))
    made["dilations"] = one_of(random, None, None, ints(random, 1, 3, count))
    pads = ints(random, 0, 3, 2 * count)
    made["pads"] = one_of(random, None, pads, [min(p, k - 1) for p, k in
                                             zip(pads, kernel * 2, strict=True)])  # fmt: skip
    if auto and random.random() < 0.25:
        made["auto_pad"] = one_of(random, "SAME_UPPER", "SAME_LOWER", "VALID")
        del made["pads"]
    return made


def pool(random: Random) -> Made:
    count = one_of(random, 1, 2, 2, 2, 3)
    kind = one_of(random, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    dims = (1, *ints(random, 1, 4, 1), *ints(random, 3, 8, count))
    if kind.startswith("Global"):
        return Made([node(kind, "x")], {}, dims, opset_of(random))
    made = _window(random, count)
    made["ceil_mode"] = one_of(random, None, 0, 1)
    opset = opset_of(random, 10)
    if kind == "AveragePool":
        made["count_include_pad"] = one_of(random, None, 0, 1)
        if opset < 19:
            del made["dilations"]
    else:
        made["storage_order"] = one_of(random, None, 0, 1)
    return Made([node(kind, "x", **made)], {}, dims, opset)


def conv(random: Random) -> Made:
    count = one_of(random, 1, 2, 2, 2, 3)
    made, groups = _window(random, count), one_of(random, 1, 1, 2, 3)
    channels, each = groups * one_of(random, 1, 2), one_of(random, 1, 2)
    constants = {
        "w": random.normal(size=(groups * each, channels // groups, *made["kernel_shape"]))
    }
    dims, inputs = (1, channels, *ints(random, 3, 7, count)), ["x", "w"]
    if random.random() < 0.5:
        constants["b"], inputs = random.normal(size=groups * each), ["x", "w", "b"]
    if random.random() < 0.5:
        del made["kernel_shape"]
    made["group"] = None if groups == 1 else groups
    return Made([node("Conv", *inputs, **made)], constants, dims, opset_of(random))


def conv_transpose(random: Random) -> Made:
    count = one_of(random, 1, 2, 2, 3)
    made, groups = _window(random, count, auto=random.random() < 0.2), one_of(random, 1, 1, 2)
    strides, dilations = (made[name] or [1] * count for name in ("strides", "dilations"))
    if random.random() < 0.4:
        most = [max(s, d) for s, d in zip(strides, dilations, strict=True)]
        made["output_padding"] = [int(random.integers(0, m)) for m in most]
    channels = groups * one_of(random, 1, 2)
    constants = {"w": random.normal(size=(channels, 2, *made["kernel_shape"]))}
    dims, inputs = (1, channels, *ints(random, 2, 4, count)), ["x", "w"]
    if random.random() < 0.5:
        constants["b"], inputs = random.normal(size=2 * groups), ["x", "w", "b"]
    made["group"] = None if groups == 1 else groups
    return Made([node("ConvTranspose", *inputs, **made)], constants, dims, opset_of(random))


def gemm(random: Random) -> Made:
    turn = {name: one_of(random, None, 0, 1) for name in ("transA", "transB")}
    m, k, n = ints(random, 1, 4, 3)
    left = (k, m) if turn["transA"] else (m, k)
    right = (n, k) if turn["transB"] else (k, n)
    numbers = {name: one_of(random, None, 0.5, -2.0) for name in ("alpha", "beta")}
    dims, inputs = one_of(random, (left, ["x", "c"]), (right, ["c", "x"]))
    constants = {"c": random.normal(size=right if inputs[0] == "x" else left)}
    if random.random() < 0.6:
        inputs.append("d")
        constants["d"] = random.normal(size=one_of(random, (m, n), (n,), (1, n), (m, 1), (), (1,)))
    product = node("Gemm", *("r" if one == "x" else one for one in inputs), **turn, **numbers)
    constants["shape"] = np.array(dims)
    first = node("Reshape", "x", "shape", outputs=("r",))
    return Made([first, product], constants, (1, int(np.prod(dims))), opset_of(random))


def matmul(random: Random) -> Made:
    k, m, n = ints(random, 1, 5, 3)
    batch = tuple(ints(random, 1, 3, int(random.integers(0, 3))))
    dims, inputs, shape = one_of(
        random,
        ((1, k), ("x", "c"), (k, n)),
        ((1, *batch, k), ("x", "c"), (k, n)),
        ((1, *batch, m, k), ("x", "c"), (*one_of(random, batch, ()), k, n)),
        ((1, *batch, k, n), ("c", "x"), (*one_of(random, batch, ()), m, k)),
        ((1, *batch, k, 1), ("c", "x"), (m, k)),
        ((1, *batch, k, n), ("c", "x"), (k,)),
        ((1, *batch, k), ("x", "c"), (k,)),
        ((k,), ("x", "c"), (k, n)),
        ((k,), ("c", "x"), (m, k)),
    )
    return Made([node("MatMul", *inputs)], {"c": random.normal(size=shape)}, dims, opset_of(random))


def normalisation(random: Random) -> Made:
    dims, opset = dims_of(random, 2), opset_of(random)
    parts = {name: random.normal(size=dims[1]) for name in ("s", "b", "m")}
    parts["v"] = random.random(dims[1]) + 0.3
    made = {"epsilon": one_of(random, None, 1e-3), "momentum": one_of(random, None, 0.5)}
    made["training_mode"] = one_of(random, None, 0, 0, 1) if opset >= 14 else None
    outputs = ("y", "u", "w") if made["training_mode"] else ("y",)
    return Made(
        [node("BatchNormalization", "x", *parts, outputs=outputs, **made)], parts, dims, opset
    )


def dropout(random: Random) -> Made:
    opset, constants, inputs = opset_of(random), {}, ["x"]
    made: dict[str, Any] = {}
    if opset < 12:
        made["ratio"] = one_of(random, None, 0.5)
    else:
        constants["r"], constants["t"] = np.array(0.5), np.array(random.random() < 0.3)
        inputs = one_of(random, ["x"], ["x", "r"], ["x", "r", "t"], ["x", "", "t"])
        made["seed"] = one_of(random, None, 1)
    return Made([node("Dropout", *inputs, **made)], constants, dims_of(random), opset)


_SUMS = ("ReduceSum", "ReduceMean")


def reduction(random: Random) -> Made:
    kind, dims = (
        one_of(random, *_SUMS, *_SUMS, "ReduceMax", "ReduceMin", "ReduceL1"),
        dims_of(random, 2),
    )
    opset, rank = opset_of(random), len(dims)
    count = int(random.integers(0, rank + 1))
    axes = [int(a) - one_of(random, 0, rank) for a in random.choice(rank, count, replace=False)]
    made: dict[str, Any] = {"keepdims": one_of(random, None, 0, 1)}
    if opset < (13 if kind == "ReduceSum" else 18):
        made["axes"] = axes or None
        return Made([node(kind, "x", **made)], {}, dims, opset)
    made["noop_with_empty_axes"] = one_of(random, None, 0, 1)
    inputs = ["x"] if not axes and random.random() < 0.5 else ["x", "a"]
    return Made([node(kind, *inputs, **made)], {"a": np.array(axes, np.int64)}, dims, opset)


def comparing(random: Random) -> Made:
    """What is compared with a constant, or with another branch; and what comes of the answer."""
    from onnx import TensorProto as T

    kind = one_of(random, "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal")
    dims, opset = dims_of(random), opset_of(random, 16)
    constants = {"c": np.round(random.normal(size=shape_like(random, dims))),
                 "p": random.normal(size=dims), "q": random.normal(size=dims)}  # fmt: skip
    nodes = [node("Neg", "x", outputs=("n",))]
    nodes.append(node(kind, *one_of(random, ("x", "c"), ("c", "x"), ("x", "n")), outputs=("b",)))
    answer = "b"
    if random.random() < 0.3:
        nodes.append(node("Not", "b", outputs=("o",)))
        answer = "o"
    if random.random() < 0.4:
        nodes.append(node("Where", answer, "p", "q"))
    elif random.random() < 0.5:
        nodes += [node("Cast", answer, outputs=("i",), to=T.INT64), node("Cast", "i", to=T.FLOAT)]
    else:
        nodes.append(node("Cast", answer, to=T.FLOAT))
    return Made(nodes, constants, dims, opset)


def ending(random: Random) -> Made:
    """In a softmax, reshaped or not."""
    dims, opset = dims_of(random, 2), opset_of(random, 9)
    axis = one_of(random, None, *range(-len(dims), len(dims)))
    nodes = [node("Relu", "x", outputs=("r",)), node("Softmax", "r", outputs=("s",), axis=axis)]
    nodes.append(node(one_of(random, "Identity", "Flatten", "Identity", "Exp"), "s"))
    return Made(nodes, {}, dims, opset)


_MAKERS = (
    comparing,
    ending,
    arithmetic,
    two_branches,
    activation,
    clip,
    pool,
    conv,
    conv_transpose,
    gemm,
    matmul,
    normalisation,
    dropout,
    reduction,
    padding,
    slicing,
    reshaping,
    splitting,
    resizing,
    casting,
    constants_alone,
)
KINDS: dict[str, Callable[[Random], Made]] = {function.__name__: function for function in _MAKERS}
