"""Operators set up at random, as exporters do and as they do not: attributes, forms, shapes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Random = np.random.Generator


class Made(NamedTuple):
    """One input `x`, one output `y`; constants are initialisers."""

    nodes: list[Any]
    constants: dict[str, np.ndarray]
    dims: tuple[int, ...]
    opset: int


def saved(path: Path, made: Made, dtype: Any = np.float32) -> str:
    from onnx import helper, numpy_helper, save

    weights = [
        numpy_helper.from_array(v.astype(dtype) if v.dtype.kind == "f" else v, name)
        for name, v in made.constants.items()
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [helper.make_tensor_value_info("x", kind, made.dims)]
    outputs = [helper.make_empty_tensor_value_info("y")]
    outputs[0].type.tensor_type.elem_type = kind
    graph = helper.make_graph(made.nodes, "net", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", made.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if made.opset < 20 else 10)
    save(model, str(path))
    return str(path)


def _node(kind: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> Any:
    from onnx import helper

    kept = {name: value for name, value in attributes.items() if value is not None}
    return helper.make_node(kind, inputs, outputs, **kept)


def _one(random: Random, *choices: Any) -> Any:
    return choices[int(random.integers(len(choices)))]


def _opset(random: Random, least: int = 7, most: int = 21) -> int:
    return int(random.integers(least, most + 1))


def _ints(random: Random, low: int, high: int, count: int) -> list[int]:
    return [int(one) for one in random.integers(low, high, count)]


def _dims(random: Random, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return (1, *_ints(random, 1, 5, int(random.integers(least - 1, most))))


def _like(random: Random, dims: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that can be broadcast together with `dims`."""
    some = [_one(random, side, side, 1) for side in dims[int(random.integers(len(dims) + 1)) :]]
    if some and random.random() < 0.3:
        some = [int(random.integers(1, 4)) if s == d == 1 else s
                for s, d in zip(some, dims[len(dims) - len(some) :], strict=True)]  # fmt: skip
    return (2, *some) if random.random() < 0.1 and len(some) == len(dims) else tuple(some)


def arithmetic(random: Random) -> Made:
    kind, dims = (
        _one(random, "Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean"),
        _dims(random),
    )
    constant = random.normal(size=_like(random, dims)) + (3 if kind == "Div" else 0)
    inputs = _one(random, ("x", "c"), ("c", "x"))
    opset = _opset(random, 8 if kind in ("Max", "Min", "Sum", "Mean") else 7)
    if kind in ("Max", "Min", "Sum", "Mean"):
        inputs = _one(random, inputs, ("x", "c", "x"), ("c", "x", "d"), ("x",), ("x", "x"))
    elif random.random() < 0.2:
        inputs = ("x", "x")
    constants = {"c": constant, "d": random.normal(size=_like(random, dims))}
    return Made([_node(kind, *inputs)], constants, dims, opset)


def two_branches(random: Random) -> Made:
    kind, dims = (
        _one(random, "Add", "Sub", "Max", "Min", "Mul", "Concat", "Where"),
        _dims(random, 2),
    )
    axis = int(random.integers(-len(dims), len(dims)))
    constants = {"c": random.normal(size=_like(random, dims)), "s": random.normal(size=dims)}
    nodes = [_node("Relu", "x", outputs=("a",)), _node("Mul", "x", "c", outputs=("b",))]
    inputs: tuple[str, ...] = _one(random, ("a", "b"), ("b", "a"))
    if kind == "Concat":
        nodes[1] = _node("Neg", "x", outputs=("b",))
        inputs = _one(random, ("a", "b"), ("s", "b", "a"), ("a", "a"), ("a", "s"), ("a",))
        nodes.append(_node(kind, *inputs, axis=axis))
    elif kind == "Where":
        constants["m"] = random.random(_like(random, dims)) < 0.5
        inputs = ("m", *_one(random, inputs, ("a", "s"), ("s", "b")))
        nodes.append(_node(kind, *inputs))
    else:
        nodes.append(_node(kind, *inputs))
    return Made(nodes, constants, dims, _opset(random, 9))


def activation(random: Random) -> Made:
    curves = ("Sigmoid", "Tanh", "Elu", "Celu", "Selu", "Softplus", "Gelu", "HardSigmoid")
    others = ("Relu", "LeakyRelu", "Abs", "Neg", "Identity", "PRelu", "ThresholdedRelu", "Sign",
              "HardSwish", "Softsign", "Round", "Floor", "Exp", "Softmax", "Mish")  # fmt: skip
    kind, dims = _one(random, *curves, *curves, *others, *others[:6]), _dims(random)
    least = {"Celu": 12, "Gelu": 20, "Sign": 9, "HardSwish": 14, "Round": 11, "Mish": 18}
    attributes: dict[str, Any] = {}
    constants, inputs = {}, ["x"]
    if kind in ("Elu", "Celu", "LeakyRelu", "Selu", "HardSigmoid", "ThresholdedRelu"):
        attributes["alpha"] = _one(random, None, 1.0, 0.3, 2.0, -0.5)
    if kind == "HardSigmoid":
        attributes["beta"] = _one(random, None, 0.1)
    if kind == "Gelu":
        attributes["approximate"] = _one(random, None, "none", "tanh")
    if kind == "PRelu":
        shape = tuple(_one(random, side, 1) for side in dims[int(random.integers(len(dims))) :])
        constants, inputs = {"s": random.normal(size=shape)}, ["x", "s"]
    opset = _opset(random, least.get(kind, 9), 22)
    return Made([_node(kind, *inputs, **attributes)], constants, dims, opset)


def clip(random: Random) -> Made:
    opset, dims = _opset(random), _dims(random)
    low, high = _one(random, None, -0.5, 0.0, 0.2), _one(random, None, 0.7, 0.0, -0.7)
    if opset < 11:
        return Made([_node("Clip", "x", min=low, max=high)], {}, dims, opset)
    ends = {"l": low, "h": high}
    constants = {name: np.array(value) for name, value in ends.items() if value is not None}
    inputs = [name if value is not None else "" for name, value in ends.items()]
    if high is None and random.random() < 0.5:
        inputs = inputs[:1]
    return Made([_node("Clip", "x", *inputs)], constants, dims, opset)


def _window(random: Random, count: int, *, auto: bool = True) -> dict[str, Any]:
    kernel = _ints(random, 1, 4, count)
    made: dict[str, Any] = {"kernel_shape": kernel}
    made["strides"] = _one(random, None, _ints(random, 1, 4, count))
    made["dilations"] = _one(random, None, None, _ints(random, 1, 3, count))
    pads = _ints(random, 0, 3, 2 * count)
    made["pads"] = _one(random, None, pads, [min(p, k - 1) for p, k in
                                             zip(pads, kernel * 2, strict=True)])  # fmt: skip
    if auto and random.random() < 0.25:
        made["auto_pad"] = _one(random, "SAME_UPPER", "SAME_LOWER", "VALID")
        del made["pads"]
    return made


def pool(random: Random) -> Made:
    count = _one(random, 1, 2, 2, 2, 3)
    kind = _one(random, "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    dims = (1, *_ints(random, 1, 4, 1), *_ints(random, 3, 8, count))
    if kind.startswith("Global"):
        return Made([_node(kind, "x")], {}, dims, _opset(random))
    made = _window(random, count)
    made["ceil_mode"] = _one(random, None, 0, 1)
    opset = _opset(random, 10)
    if kind == "AveragePool":
        made["count_include_pad"] = _one(random, None, 0, 1)
        if opset < 19:
            del made["dilations"]
    else:
        made["storage_order"] = _one(random, None, 0, 1)
    return Made([_node(kind, "x", **made)], {}, dims, opset)


def conv(random: Random) -> Made:
    count = _one(random, 1, 2, 2, 2, 3)
    made, groups = _window(random, count), _one(random, 1, 1, 2, 3)
    channels, each = groups * _one(random, 1, 2), _one(random, 1, 2)
    constants = {
        "w": random.normal(size=(groups * each, channels // groups, *made["kernel_shape"]))
    }
    dims, inputs = (1, channels, *_ints(random, 3, 7, count)), ["x", "w"]
    if random.random() < 0.5:
        constants["b"], inputs = random.normal(size=groups * each), ["x", "w", "b"]
    if random.random() < 0.5:
        del made["kernel_shape"]
    made["group"] = None if groups == 1 else groups
    return Made([_node("Conv", *inputs, **made)], constants, dims, _opset(random))


def conv_transpose(random: Random) -> Made:
    count = _one(random, 1, 2, 2, 3)
    made, groups = _window(random, count, auto=random.random() < 0.2), _one(random, 1, 1, 2)
    strides, dilations = (made[name] or [1] * count for name in ("strides", "dilations"))
    if random.random() < 0.4:
        most = [max(s, d) for s, d in zip(strides, dilations, strict=True)]
        made["output_padding"] = [int(random.integers(0, m)) for m in most]
    channels = groups * _one(random, 1, 2)
    constants = {"w": random.normal(size=(channels, 2, *made["kernel_shape"]))}
    dims, inputs = (1, channels, *_ints(random, 2, 4, count)), ["x", "w"]
    if random.random() < 0.5:
        constants["b"], inputs = random.normal(size=2 * groups), ["x", "w", "b"]
    made["group"] = None if groups == 1 else groups
    return Made([_node("ConvTranspose", *inputs, **made)], constants, dims, _opset(random))


def gemm(random: Random) -> Made:
    turn = {name: _one(random, None, 0, 1) for name in ("transA", "transB")}
    m, k, n = _ints(random, 1, 4, 3)
    left = (k, m) if turn["transA"] else (m, k)
    right = (n, k) if turn["transB"] else (k, n)
    numbers = {name: _one(random, None, 0.5, -2.0) for name in ("alpha", "beta")}
    dims, inputs = _one(random, (left, ["x", "c"]), (right, ["c", "x"]))
    constants = {"c": random.normal(size=right if inputs[0] == "x" else left)}
    if random.random() < 0.6:
        inputs.append("d")
        constants["d"] = random.normal(size=_one(random, (m, n), (n,), (1, n), (m, 1), (), (1,)))
    node = _node("Gemm", "r" if inputs[0] == "x" else "c", *inputs[1:], **turn, **numbers)
    node = _node("Gemm", *("r" if one == "x" else one for one in inputs), **turn, **numbers)
    constants["shape"] = np.array(dims)
    first = _node("Reshape", "x", "shape", outputs=("r",))
    return Made([first, node], constants, (1, int(np.prod(dims))), _opset(random))


def matmul(random: Random) -> Made:
    k, m, n = _ints(random, 1, 5, 3)
    batch = tuple(_ints(random, 1, 3, int(random.integers(0, 3))))
    dims, inputs, shape = _one(
        random,
        ((1, k), ("x", "c"), (k, n)),
        ((1, *batch, k), ("x", "c"), (k, n)),
        ((1, *batch, m, k), ("x", "c"), (*_one(random, batch, ()), k, n)),
        ((1, *batch, k, n), ("c", "x"), (*_one(random, batch, ()), m, k)),
        ((1, *batch, k, 1), ("c", "x"), (m, k)),
        ((1, *batch, k, n), ("c", "x"), (k,)),
        ((1, *batch, k), ("x", "c"), (k,)),
        ((k,), ("x", "c"), (k, n)),
        ((k,), ("c", "x"), (m, k)),
    )
    return Made([_node("MatMul", *inputs)], {"c": random.normal(size=shape)}, dims, _opset(random))


def normalisation(random: Random) -> Made:
    dims, opset = _dims(random, 2), _opset(random)
    parts = {name: random.normal(size=dims[1]) for name in ("s", "b", "m")}
    parts["v"] = random.random(dims[1]) + 0.3
    made = {"epsilon": _one(random, None, 1e-3), "momentum": _one(random, None, 0.5)}
    made["training_mode"] = _one(random, None, 0, 0, 1) if opset >= 14 else None
    outputs = ("y", "u", "w") if made["training_mode"] else ("y",)
    return Made(
        [_node("BatchNormalization", "x", *parts, outputs=outputs, **made)], parts, dims, opset
    )


def dropout(random: Random) -> Made:
    opset, constants, inputs = _opset(random), {}, ["x"]
    made: dict[str, Any] = {}
    if opset < 12:
        made["ratio"] = _one(random, None, 0.5)
    else:
        constants["r"], constants["t"] = np.array(0.5), np.array(random.random() < 0.3)
        inputs = _one(random, ["x"], ["x", "r"], ["x", "r", "t"], ["x", "", "t"])
        made["seed"] = _one(random, None, 1)
    return Made([_node("Dropout", *inputs, **made)], constants, _dims(random), opset)


_SUMS = ("ReduceSum", "ReduceMean")


def reduction(random: Random) -> Made:
    kind, dims = _one(random, *_SUMS, *_SUMS, "ReduceMax", "ReduceL1"), _dims(random, 2)
    opset, rank = _opset(random), len(dims)
    count = int(random.integers(0, rank + 1))
    axes = [int(a) - _one(random, 0, rank) for a in random.choice(rank, count, replace=False)]
    made: dict[str, Any] = {"keepdims": _one(random, None, 0, 1)}
    if opset < (13 if kind == "ReduceSum" else 18):
        made["axes"] = axes or None
        return Made([_node(kind, "x", **made)], {}, dims, opset)
    made["noop_with_empty_axes"] = _one(random, None, 0, 1)
    inputs = ["x"] if not axes and random.random() < 0.5 else ["x", "a"]
    return Made([_node(kind, *inputs, **made)], {"a": np.array(axes, np.int64)}, dims, opset)


def padding(random: Random) -> Made:
    dims, opset = _dims(random, 2), _opset(random)
    mode = _one(random, None, "constant", "constant", "reflect", "edge", "wrap")
    low = -1 if random.random() < 0.4 else 0
    axes = list(range(len(dims)))
    if opset >= 18 and random.random() < 0.5:
        axes = [int(a) for a in random.permutation(len(dims))[: int(random.integers(1, len(dims)))]]
    pads, fill = _ints(random, low, 3, 2 * len(axes)), _one(random, None, 0.0, 1.5)
    if opset < 11:
        return Made([_node("Pad", "x", pads=pads, mode=mode, value=fill)], {}, dims, opset)
    constants, inputs = {"p": np.array(pads)}, ["x", "p"]
    if fill is not None:
        constants["f"], inputs = np.array(fill), ["x", "p", "f"]
    if len(axes) < len(dims):
        constants["a"] = np.array(axes)
        inputs = ["x", "p", "f" if fill is not None else "", "a"]
    return Made([_node("Pad", *inputs, mode=mode)], constants, dims, opset)


def slicing(random: Random) -> Made:
    dims, opset = _dims(random, 2), _opset(random)
    axes = [int(a) for a in random.permutation(len(dims))[: int(random.integers(1, len(dims) + 1))]]
    steps = [_one(random, 1, 1, 2, -1, -2) for _ in axes]
    ends = [(0, _one(random, dims[a], 2**31 - 1, -1)) if s > 0 else
            (_one(random, dims[a] - 1, 2**31 - 1, -1), _one(random, -(2**31), 0, -dims[a] - 1))
            for a, s in zip(axes, steps, strict=True)]  # fmt: skip
    starts, stops = ([pair[i] for pair in ends] for i in (0, 1))
    signed = [a - _one(random, 0, len(dims)) for a in axes]
    if opset < 10:
        starts, stops = ([max(v, -(2**31)) for v in some] for some in (starts, stops))
        node = _node("Slice", "x", starts=starts, ends=stops, axes=axes)
        return Made([node], {}, dims, opset)
    constants = {"s": np.array(starts), "e": np.array(stops), "a": np.array(signed),
                 "t": np.array(steps)}  # fmt: skip
    return Made([_node("Slice", "x", "s", "e", "a", "t")], constants, dims, opset)


def reshaping(random: Random) -> Made:
    dims, opset = (1, *_ints(random, 2, 4, 3)), _opset(random)
    kind = _one(random, "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile",
                "Gather", "DepthToSpace", "SpaceToDepth", "Shape")  # fmt: skip
    constants: dict[str, np.ndarray] = {}
    a, b, c = dims[1:]
    match kind:
        case "Reshape":
            shape = _one(
                random, [1, -1], [0, -1], [0, 0, -1], [a, b, c], [-1], [1, a * b, c], [b, -1]
            )
            constants["s"] = np.array(shape)
            zero = _one(random, None, 0, 1) if opset >= 14 else None
            nodes = [_node(kind, "x", "s", allowzero=zero)]
        case "Flatten":
            axis = _one(random, None, 0, 1, 2, 4, *((-1, -2) if opset >= 11 else ()))
            nodes = [_node(kind, "x", axis=axis)]
        case "Transpose":
            perm = _one(random, None, [int(p) for p in random.permutation(4)])
            nodes = [_node(kind, "x", perm=perm)]
        case "Squeeze" | "Unsqueeze":
            axes = [0] if kind == "Squeeze" else _one(random, [0], [2, 0], [5, 1])
            if opset < 13:
                nodes = [_node(kind, "x", axes=axes)]
            else:
                constants["a"] = np.array(axes)
                nodes = [_node(kind, "x", "a")]
        case "Expand" | "Tile":
            constants["s"] = np.array(
                _one(random, [2, 1, 1, 1], [1, a, b, c], [1, 1, 2, 1], [2, 3, 1, 1, 1])
            )
            opset = max(opset, 8)
            nodes = [_node(kind, "x", "s")]
        case "Gather":
            axis = int(random.integers(0, 4))
            some = random.integers(
                0 if opset < 11 else -dims[axis], dims[axis], _one(random, (), (2,), (2, 2))
            )
            constants["i"] = np.asarray(some)
            nodes = [_node(kind, "x", "i", axis=axis)]
        case "DepthToSpace":
            dims = (1, 8, b, c)
            mode = _one(random, None, "DCR", "CRD") if opset >= 11 else None
            nodes = [_node(kind, "x", blocksize=2, mode=mode)]
        case "SpaceToDepth":
            dims = (1, a, 4, 6)
            nodes = [_node(kind, "x", blocksize=2)]
        case _:  # sizes, computed from the input's
            constants |= {"i": np.array([0]), "m": np.array([-1])}
            nodes = [
                _node("Shape", "x", outputs=("s",)),
                _node("Gather", "s", "i", outputs=("n",), axis=0),
                _node("Concat", "n", "m", outputs=("t",), axis=0),
                _node("Reshape", "x", "t"),
            ]
    return Made(nodes, constants, dims, opset)


def splitting(random: Random) -> Made:
    dims, opset = (1, *_ints(random, 2, 7, 2)), _opset(random)
    axis = int(random.integers(1, 3))
    first = int(random.integers(1, dims[axis]))
    parts, equal = [first, dims[axis] - first], dims[axis] % 2 == 0 and random.random() < 0.5
    constants, made, inputs = {}, {"axis": axis}, ["x"]
    if not equal and opset < 13:
        made["split"] = parts
    elif not equal and random.random() < 0.7:
        constants["s"], inputs = np.array(parts), ["x", "s"]
    elif opset >= 18:
        made["num_outputs"] = 2
    which = _one(random, "a", "b")
    nodes = [_node("Split", *inputs, outputs=("a", "b"), **made), _node("Neg", which)]
    if random.random() < 0.3:
        nodes.reverse()
    return Made(nodes, constants, dims, opset)


def resizing(random: Random) -> Made:
    dims, opset = (1, 2, *_ints(random, 2, 4, 2)), _opset(random, 9)
    scales = np.array([1, 1, *(_one(random, 1, 2, 2, 3, 3, 1.5) for _ in range(2))], np.float32)
    mode = _one(random, None, "nearest", "nearest", "linear")
    if opset == 9:
        return Made([_node("Upsample", "x", "s", mode=mode)], {"s": scales}, dims, opset)
    if opset == 10:
        return Made([_node("Resize", "x", "s", mode=mode)], {"s": scales}, dims, opset)
    how = _one(random, None, "asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
    made = {"mode": mode, "coordinate_transformation_mode": how}
    made["nearest_mode"] = _one(
        random, None, "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"
    )
    if random.random() < 0.3:
        sizes = np.array([1, 2, *(side * _one(random, 1, 2) for side in dims[2:])])
        constants = {"e": np.zeros(0, np.float32), "n": sizes}
        empty = "e" if opset < 13 else ""
        return Made([_node("Resize", "x", empty, empty, "n", **made)], constants, dims, opset)
    constants = {"e": np.zeros(0, np.float32), "s": scales}
    return Made([_node("Resize", "x", "e", "s", **made)], constants, dims, opset)


def casting(random: Random) -> Made:
    from onnx import TensorProto as T

    to = _one(
        random, T.FLOAT, T.DOUBLE, T.INT64, T.INT32, T.INT8, T.UINT8, T.BOOL, T.FLOAT16, T.BFLOAT16
    )
    back = _node("Cast", "c", to=T.FLOAT)
    dims, opset = _dims(random), _opset(random, 13)
    return Made([_node("Cast", "x", outputs=("c",), to=to), back], {}, dims, opset)


def constants_alone(random: Random) -> Made:
    """A constant that other operators make: the network adds it to its input."""
    from onnx import numpy_helper

    dims, opset = (1, 4), _opset(random, 13)
    kind = _one(random, "Split", "ConstantOfShape", "Range", "Cast", "DequantizeLinear", "Slice",
                "Concat", "Tile", "Exp", "RandomNormal", "Where", "MatMul", "Constant")  # fmt: skip
    c = {"c": random.normal(size=(1, 8)).astype(np.float32)}
    made: list[Any]
    match kind:
        case "Split":
            made = [_node("Split", "c", "n", outputs=("k", "l"), axis=1)]
            c["n"] = np.array([4, 4])
        case "ConstantOfShape":
            value = numpy_helper.from_array(np.array([0.7], np.float32))
            made = [_node(kind, "n", outputs=("k",), value=value)]
            c["n"] = np.array([1, 4])
        case "Range":
            c |= {"a": np.array(0.5), "b": np.array(4.5), "d": np.array(1.0)}
            made = [_node(kind, "a", "b", "d", outputs=("k",))]
        case "Cast":
            made = [_node(kind, "n", outputs=("k",), to=1)]
            c["n"] = np.array([1, -2, 3, 4])
        case "DequantizeLinear":
            c |= {
                "q": np.array([1, 200, 3, 4], np.uint8),
                "s": np.array(0.1),
                "z": np.array(7, np.uint8),
            }
            made = [_node(kind, "q", "s", "z", outputs=("k",))]
        case "Slice":
            c |= {"a": np.array([0]), "b": np.array([4]), "d": np.array([1])}
            made = [_node(kind, "c", "a", "b", "d", outputs=("k",))]
        case "Concat":
            c |= {"a": random.normal(size=(1, 2)), "b": random.normal(size=(1, 2))}
            made = [_node(kind, "a", "b", outputs=("k",), axis=-1)]
        case "Tile":
            c |= {"a": random.normal(size=(1, 2)), "n": np.array([1, 2])}
            made = [_node(kind, "a", "n", outputs=("k",))]
        case "Exp":
            c["a"] = random.normal(size=4)
            made = [_node(kind, "a", outputs=("k",))]
        case "RandomNormal":
            made = [_node(kind, outputs=("k",), shape=[4])]
        case "Where":
            c |= {
                "m": np.array([True, False, True, False]),
                "a": random.normal(size=4),
                "b": random.normal(size=4),
            }
            made = [_node(kind, "m", "a", "b", outputs=("k",))]
        case "MatMul":
            c["b"] = random.normal(size=(8, 4))
            made = [_node(kind, "c", "b", outputs=("k",))]
        case _:
            made = [_node(kind, outputs=("k",), value_floats=[0.1, 0.2, 0.3, 0.4])]
    nodes = [*made, _node("Add", "x", "k")]
    if random.random() < 0.3:
        nodes.insert(0, _node("Softmax", "x", outputs=("unused",)))
    return Made(nodes, c, dims, opset)


_MAKERS = (
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
