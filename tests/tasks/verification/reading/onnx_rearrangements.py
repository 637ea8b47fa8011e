"""Rearrangements, casts and constants, set up at random."""

from typing import Any

import numpy as np

from tests.tasks.verification.reading.onnx_setups import (
    Made,
    Random,
    dims_of,
    ints,
    node,
    one_of,
    opset_of,
)


def padding(random: Random) -> Made:
    dims, opset = dims_of(random, 2), opset_of(random)
    mode = one_of(random, None, "constant", "constant", "reflect", "edge", "wrap")
    low = -1 if random.random() < 0.4 else 0
    axes = list(range(len(dims)))
    if opset >= 18 and random.random() < 0.5:
        axes = [int(a) for a in random.permutation(len(dims))[: int(random.integers(1, len(dims)))]]
    pads, fill = ints(random, low, 3, 2 * len(axes)), one_of(random, None, 0.0, 1.5)
    if opset < 11:
        return Made([node("Pad", "x", pads=pads, mode=mode, value=fill)], {}, dims, opset)
    constants, inputs = {"p": np.array(pads)}, ["x", "p"]
    if fill is not None:
        constants["f"], inputs = np.array(fill), ["x", "p", "f"]
    if len(axes) < len(dims):
        constants["a"] = np.array(axes)
        inputs = ["x", "p", "f" if fill is not None else "", "a"]
    return Made([node("Pad", *inputs, mode=mode)], constants, dims, opset)


def slicing(random: Random) -> Made:
    dims, opset = dims_of(random, 2), opset_of(random)
    axes = [int(a) for a in random.permutation(len(dims))[: int(random.integers(1, len(dims) + 1))]]
    steps = [one_of(random, 1, 1, 2, -1, -2) for _ in axes]
    ends = [(0, one_of(random, dims[a], 2**31 - 1, -1)) if s > 0 else
            (one_of(random, dims[a] - 1, 2**31 - 1, -1), one_of(random, -(2**31), 0, -dims[a] - 1))
            for a, s in zip(axes, steps, strict=True)]  # fmt: skip
    starts, stops = ([pair[i] for pair in ends] for i in (0, 1))
    signed = [a - one_of(random, 0, len(dims)) for a in axes]
    if opset < 10:
        starts, stops = ([max(v, -(2**31)) for v in some] for some in (starts, stops))
        sliced = node("Slice", "x", starts=starts, ends=stops, axes=axes)
        return Made([sliced], {}, dims, opset)
    constants = {"s": np.array(starts), "e": np.array(stops), "a": np.array(signed),
                 "t": np.array(steps)}  # fmt: skip
    return Made([node("Slice", "x", "s", "e", "a", "t")], constants, dims, opset)


_RESHAPING = (
    *("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Expand", "Tile", "Gather"),
    *("DepthToSpace", "SpaceToDepth", "Shape"),
)


def reshaping(random: Random) -> Made:
    dims, opset = (1, *ints(random, 2, 4, 3)), opset_of(random)
    kind = one_of(random, *_RESHAPING)
    constants: dict[str, np.ndarray] = {}
    a, b, c = dims[1:]
    match kind:
        case "Reshape":
            shape = one_of(
                random, [1, -1], [0, -1], [0, 0, -1], [a, b, c], [-1], [1, a * b, c], [b, -1]
            )
            constants["s"] = np.array(shape)
            zero = one_of(random, None, 0, 1) if opset >= 14 else None
            nodes = [node(kind, "x", "s", allowzero=zero)]
        case "Flatten":
            axis = one_of(random, None, 0, 1, 2, 4, *((-1, -2) if opset >= 11 else ()))
            nodes = [node(kind, "x", axis=axis)]
        case "Transpose":
            perm = one_of(random, None, [int(p) for p in random.permutation(4)])
            nodes = [node(kind, "x", perm=perm)]
        case "Squeeze" | "Unsqueeze":
            axes = [0] if kind == "Squeeze" else one_of(random, [0], [2, 0], [5, 1])
            if opset < 13:
                nodes = [node(kind, "x", axes=axes)]
            else:
                constants["a"] = np.array(axes)
                nodes = [node(kind, "x", "a")]
        case "Expand" | "Tile":
            constants["s"] = np.array(
                one_of(random, [2, 1, 1, 1], [1, a, b, c], [1, 1, 2, 1], [2, 3, 1, 1, 1])
            )
            opset = max(opset, 8)
            nodes = [node(kind, "x", "s")]
        case "Gather":
            axis = int(random.integers(0, 4))
            some = random.integers(
                0 if opset < 11 else -dims[axis], dims[axis], one_of(random, (), (2,), (2, 2))
            )
            constants["i"] = np.asarray(some)
            nodes = [node(kind, "x", "i", axis=axis)]
        case "DepthToSpace":
            dims = (1, 8, b, c)
            mode = one_of(random, None, "DCR", "CRD") if opset >= 11 else None
            nodes = [node(kind, "x", blocksize=2, mode=mode)]
        case "SpaceToDepth":
            dims = (1, a, 4, 6)
            nodes = [node(kind, "x", blocksize=2)]
        case _:  # sizes, computed from the input's
            constants |= {"i": np.array([0]), "m": np.array([-1])}
            nodes = [
                node("Shape", "x", outputs=("s",)),
                node("Gather", "s", "i", outputs=("n",), axis=0),
                node("Concat", "n", "m", outputs=("t",), axis=0),
                node("Reshape", "x", "t"),
            ]
    return Made(nodes, constants, dims, opset)


def splitting(random: Random) -> Made:
    dims, opset = (1, *ints(random, 2, 7, 2)), opset_of(random)
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
    which = one_of(random, "a", "b")
    nodes = [node("Split", *inputs, outputs=("a", "b"), **made), node("Neg", which)]
    if random.random() < 0.3:
        nodes.reverse()
    return Made(nodes, constants, dims, opset)


def resizing(random: Random) -> Made:
    dims, opset = (1, 2, *ints(random, 2, 4, 2)), opset_of(random, 9)
    scales = np.array([1, 1, *(one_of(random, 1, 2, 2, 3, 3, 1.5) for _ in range(2))], np.float32)
    mode = one_of(random, None, "nearest", "nearest", "linear")
    if opset == 9:
        return Made([node("Upsample", "x", "s", mode=mode)], {"s": scales}, dims, opset)
    if opset == 10:
        return Made([node("Resize", "x", "s", mode=mode)], {"s": scales}, dims, opset)
    how = one_of(random, None, "asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")
    made = {"mode": mode, "coordinate_transformation_mode": how}
    made["nearest_mode"] = one_of(
        random, None, "floor", "ceil", "round_prefer_floor", "round_prefer_ceil"
    )
    if random.random() < 0.3:
        sizes = np.array([1, 2, *(side * one_of(random, 1, 2) for side in dims[2:])])
        constants = {"e": np.zeros(0, np.float32), "n": sizes}
        empty = "e" if opset < 13 else ""
        return Made([node("Resize", "x", empty, empty, "n", **made)], constants, dims, opset)
    constants = {"e": np.zeros(0, np.float32), "s": scales}
    return Made([node("Resize", "x", "e", "s", **made)], constants, dims, opset)


def casting(random: Random) -> Made:
    from onnx import TensorProto as T

    to = one_of(
        random, T.FLOAT, T.DOUBLE, T.INT64, T.INT32, T.INT8, T.UINT8, T.BOOL, T.FLOAT16, T.BFLOAT16
    )
    back = node("Cast", "c", to=T.FLOAT)
    dims, opset = dims_of(random), opset_of(random, 13)
    return Made([node("Cast", "x", outputs=("c",), to=to), back], {}, dims, opset)


def constants_alone(random: Random) -> Made:
    """A constant that other operators make: the network adds it to its input."""
    from onnx import numpy_helper

    dims, opset = (1, 4), opset_of(random, 13)
    kind = one_of(random, "Split", "ConstantOfShape", "Range", "Cast", "DequantizeLinear", "Slice",
                "Concat", "Tile", "Exp", "RandomNormal", "Where", "MatMul", "Constant")  # fmt: skip
    c = {"c": random.normal(size=(1, 8)).astype(np.float32)}
    made: list[Any]
    match kind:
        case "Split":
            made = [node("Split", "c", "n", outputs=("k", "l"), axis=1)]
            c["n"] = np.array([4, 4])
        case "ConstantOfShape":
            value = numpy_helper.from_array(np.array([0.7], np.float32))
            made = [node(kind, "n", outputs=("k",), value=value)]
            c["n"] = np.array([1, 4])
        case "Range":
            c |= {"a": np.array(0.5), "b": np.array(4.5), "d": np.array(1.0)}
            made = [node(kind, "a", "b", "d", outputs=("k",))]
        case "Cast":
            made = [node(kind, "n", outputs=("k",), to=1)]
            c["n"] = np.array([1, -2, 3, 4])
        case "DequantizeLinear":
            c |= {
                "q": np.array([1, 200, 3, 4], np.uint8),
                "s": np.array(0.1),
                "z": np.array(7, np.uint8),
            }
            made = [node(kind, "q", "s", "z", outputs=("k",))]
        case "Slice":
            c |= {"a": np.array([0]), "b": np.array([4]), "d": np.array([1])}
            made = [node(kind, "c", "a", "b", "d", outputs=("k",))]
        case "Concat":
            c |= {"a": random.normal(size=(1, 2)), "b": random.normal(size=(1, 2))}
            made = [node(kind, "a", "b", outputs=("k",), axis=-1)]
        case "Tile":
            c |= {"a": random.normal(size=(1, 2)), "n": np.array([1, 2])}
            made = [node(kind, "a", "n", outputs=("k",))]
        case "Exp":
            c["a"] = random.normal(size=4)
            made = [node(kind, "a", outputs=("k",))]
        case "RandomNormal":
            made = [node(kind, outputs=("k",), shape=[4])]
        case "Where":
            c |= {
                "m": np.array([True, False, True, False]),
                "a": random.normal(size=4),
                "b": random.normal(size=4),
            }
            made = [node(kind, "m", "a", "b", outputs=("k",))]
        case "MatMul":
            c["b"] = random.normal(size=(8, 4))
            made = [node(kind, "c", "b", outputs=("k",))]
        case _:
            made = [node(kind, outputs=("k",), value_floats=[0.1, 0.2, 0.3, 0.4])]
    nodes = [*made, node("Add", "x", "k")]
    if random.random() < 0.3:
        nodes.insert(0, node("Softmax", "x", outputs=("unused",)))
    return Made(nodes, c, dims, opset)
