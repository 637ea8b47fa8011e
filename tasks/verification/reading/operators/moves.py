"""ONNX's operators that only move numbers: each output is an input, or a constant."""

import numpy as np

from robsweep.tasks.verification.reading.layers import Sum
from robsweep.tasks.verification.reading.onnx.corrections import Numbers, padded
from robsweep.tasks.verification.reading.operators.values import (
    Node,
    UnsupportedError,
    Value,
    moved,
    moved_by,
    scaled,
)


def rearranged(node: Node) -> Value:
    """What the operator's own definition says, put to the numbers of the places."""
    return moved_by(node, node.only())


def split(node: Node) -> list[Value]:
    x = node.only()
    return [moved_by(node, x, which) for which in range(len(node.proto.output))]


def shape(node: Node) -> Numbers:
    x = node.given[0]
    if not isinstance(x, Value):
        raise UnsupportedError("it is not of what depends on the input")
    dims = np.array(x.dims, dtype=np.int64)
    if node.kind == "Size":
        return np.array(dims.prod(), dtype=np.int64)
    ends = [node.attributes.get(name) for name in ("start", "end")]
    part: Numbers = dims[slice(*ends)]
    return part


def concatenated(node: Node) -> Value:
    """The parts, each amid zeros, put together, and the constants in their places."""
    graph = node.graph
    parts = [one for one in node.given if one is not None]
    shapes = [one.dims if isinstance(one, Value) else one.shape for one in parts]
    if len(parts) != len(node.given) or len({str(one.dtype) for one in parts}) != 1:
        raise UnsupportedError("an input is missing, or of another type")
    axis = int(node.attributes["axis"])
    zeros = [np.zeros(dims) for dims in shapes]
    whole = np.concatenate(
        [z if isinstance(p, Value) else p for z, p in zip(zeros, parts, strict=True)], axis
    )
    places: list[Value] = []
    for place, part in enumerate(parts):
        if not isinstance(part, Value):
            continue

        def does(places: Numbers, place: int = place) -> Numbers:
            some = [*zeros[:place], places, *zeros[place + 1 :]]
            result: Numbers = np.concatenate(some, axis)
            return result

        places.append(moved(graph, part, does))
    if not places:
        raise UnsupportedError("it depends on nothing")
    total = places[0]
    if len(places) > 1:
        values = [graph.reshaped(one.value, whole.shape) for one in places]
        together = graph.add(Sum((1.0,) * len(values), apart=True), *values)
        total = total._replace(value=together)
    if not whole.any():
        return total
    # the constants, where nothing else is: adding 0 to the others changes nothing
    return scaled(graph, total, 1.0, whole)


def pad(node: Node) -> Value:
    x = node.only()
    if node.opset < 11:
        pads, fill, axes = node.attributes.get("pads"), node.attributes.get("value", 0.0), None
    else:
        given = [node.constant(i) for i in (1, 2, 3)]
        pads = None if given[0] is None else given[0].ravel().tolist()
        fill = 0.0 if given[1] is None else float(given[1].ravel()[0])
        axes = None if given[2] is None else [int(axis) for axis in given[2]]
    if pads is None:
        raise UnsupportedError("it does not say how much")
    mode = node.attributes.get("mode", b"constant").decode()

    def does(places: Numbers) -> Numbers:
        return padded(places, [int(one) for one in pads], fill, axes, mode)

    return moved(node.graph, x, does)


def resized(node: Node) -> Value:
    """Resize and Upsample to the nearest, by whole factors."""
    x = node.only()
    if node.attributes.get("mode", b"nearest") != b"nearest":
        raise UnsupportedError("only the nearest neighbour is")
    place = 1 if node.opset < 11 else 2
    factors, sizes = node.constant(place), node.constant(3) if len(node.given) > 3 else None
    if factors is None or not factors.size:
        if (
            sizes is None
            or node.attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch"
        ):
            raise UnsupportedError("it has neither scales nor sizes")
        factors = sizes / np.array(x.dims)
    whole = [round(float(one)) for one in factors]
    if len(whole) != len(x.dims) or any(
        w < 1 or w != f for w, f in zip(whole, factors, strict=True)
    ):
        raise UnsupportedError(f"its scales {np.asarray(factors).tolist()} are not whole")
    how = node.attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounds = node.attributes.get("nearest_mode", b"round_prefer_floor").decode()
    # by whole factors, both put each output onto the input that it lies above
    known = (how == "asymmetric" and rounds == "floor") or (
        how in ("half_pixel", "pytorch_half_pixel") and rounds.startswith("round")
    )
    if node.opset >= 11 and not known:
        raise UnsupportedError(f"{how} with {rounds} is not")

    def does(places: Numbers) -> Numbers:
        for axis, factor in enumerate(whole):
            places = np.repeat(places, factor, axis)
        return places

    return moved(node.graph, x, does)
