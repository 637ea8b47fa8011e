"""Reads an ONNX file as a network, operator by operator."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.curves import Curve
from robsweep.tasks.verification.reading.graph import Graph, in_float32_as
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Linear,
    MaxPool,
    Network,
    Pair,
    Relu,
    Smooth,
    Sum,
    evaluate,
    normalised,
)
from robsweep.tasks.verification.reading.onnx_model import Numbers, OnnxModel, computed

_CURVES: dict[str, Curve] = {"Sigmoid": "sigmoid", "Tanh": "tanh", "Elu": "elu", "Gelu": "gelu"}
_REARRANGING = {"Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Pad", "Slice", "Gather"}
_PROBES = 3
_LARGEST = 2**24  # entries of a matrix that one product is written out as


class _Value(NamedTuple):
    """A tensor that depends on the input: its value in the graph, and its shape in ONNX."""

    value: int
    dims: tuple[int, ...]


class _UnsupportedError(Exception):
    """An operator, as set up in this file, cannot be verified; says why."""


def read_onnx(model: OnnxModel) -> Network:
    """The network behind an ONNX file; value 0 has the input's shape without its batch axis.

    Raises:
        InputError: An operator that is not supported, or a reading that does not compute what
            ONNX's reference implementation computes at random inputs.
    """
    network = _network(model)
    random = np.random.default_rng(0)
    for _ in range(_PROBES):
        x = random.uniform(-1, 1, _size(model.dims))
        found = evaluate(network, torch.from_numpy(x).reshape(1, *network.shapes[0]))[-1][0]
        try:
            expected = model.exact(x)
        except Exception as error:
            raise InputError(f"{model.file}: cannot be evaluated: {error}") from error
        if not np.allclose(found.numpy(), expected, rtol=1e-9, atol=1e-9):
            raise InputError(f"{model.file}: its layers do not compute what it computes")
    return in_float32_as(network, _network(_in_own_precision(model)))


def _network(model: OnnxModel) -> Network:
    """The network, without its steps where some of its numbers are in less than float32."""
    reader = _Reader(model)
    for node in model.graph.node:
        where = f"{model.file}: operator {node.op_type} ({node.name or node.output[0]})"
        try:
            reader.read(node)
        except _UnsupportedError as why:
            raise InputError(f"{where} cannot be verified: {why}") from None
    output = reader.known[model.output]
    if not isinstance(output, _Value):
        raise InputError(f"{model.file}: its output does not depend on its input")
    graph = reader.graph
    network = graph.network(graph.reshaped(output.value, (_size(output.dims),)))
    constants = [one.dtype for one in reader.known.values() if not isinstance(one, _Value)]
    # bfloat16 is no dtype of numpy's own
    short = any(one.itemsize < 4 and one.kind in "fV" for one in constants)
    return network.over_reals() if short or _shortened(model.graph) else network


def _shortened(graph: Any) -> bool:
    """Whether an input, or what is cast, is a float of less precision than float32."""
    from onnx import TensorProto

    long = (TensorProto.FLOAT, TensorProto.DOUBLE)
    floats = {kind for name, kind in TensorProto.DataType.items() if "FLOAT" in name}
    casts = [_attributes(node)["to"] for node in graph.node if node.op_type == "Cast"]
    inputs = [value.type.tensor_type.elem_type for value in graph.input]
    return bool(floats.difference(long).intersection((*casts, *inputs)))


def _in_own_precision(model: OnnxModel) -> OnnxModel:
    """The same model, whose constants are computed as they are where it runs."""
    from onnx import numpy_helper

    constants = {one.name: numpy_helper.to_array(one) for one in model.single.initializer}
    return model._replace(graph=model.single, constants=constants)


def _size(dims: tuple[int, ...]) -> int:
    return int(np.prod(dims, dtype=np.int64))


class _Reader:
    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        shape = model.dims[1:] if len(model.dims) > 1 else model.dims
        self.graph = Graph(shape, torch.device("cpu"))
        self.known: dict[str, _Value | Numbers] = dict(model.constants)
        self.known[model.input] = _Value(0, model.dims)

    def read(self, node: Any) -> None:
        given = [self.known[name] for name in node.input if name]
        constants = [one for one in given if not isinstance(one, _Value)]
        values = [one for one in given if isinstance(one, _Value)]
        name = node.output[0]
        attributes = _attributes(node)
        if not values:
            self.known[name] = computed(node, constants, self.model.opsets)
            return
        x = values[0]
        match node.op_type:
            case "Shape":
                self.known[name] = np.array(x.dims, dtype=np.int64)
            case "Identity" | "Dropout" | "Cast":
                self.known[name] = x
            case "Relu":
                self.known[name] = x._replace(value=self.graph.add(Relu(), x.value))
            case "Sigmoid" | "Tanh" | "Elu" | "Gelu":
                if attributes.get("alpha", 1.0) != 1 or attributes.get("approximate") == b"tanh":
                    raise _UnsupportedError("only alpha = 1 and the exact form are")
                layer = Smooth(_CURVES[node.op_type])
                self.known[name] = x._replace(value=self.graph.add(layer, x.value))
            case "Add" | "Sub" | "Mul" | "Div" | "Neg":
                self.known[name] = self._arithmetic(node.op_type, given)
            case "Gemm" | "MatMul" if len(values) == 1:
                self.known[name] = self._product(node.op_type, given, attributes)
            case "Conv" if len(values) == 1 and x is given[0]:
                self.known[name] = self._conv(x, constants, attributes)
            case "MaxPool" | "AveragePool" | "GlobalAveragePool":
                self.known[name] = self._pooled(node.op_type, x, attributes)
            case "BatchNormalization" if len(values) == 1 and not attributes.get("training_mode"):
                self.known[name] = self._normalised(x, constants, attributes)
            case kind if kind in _REARRANGING and len(values) == 1 and x is given[0]:
                self.known[name] = self._rearranged(node, x, constants)
            case _:
                raise _UnsupportedError("it is not supported, or not for these inputs")

    def _arithmetic(self, kind: str, given: list[_Value | Numbers]) -> _Value:
        values = [one for one in given if isinstance(one, _Value)]
        x = values[0]
        shapes = [one.dims if isinstance(one, _Value) else one.shape for one in given]
        dims = tuple(np.broadcast_shapes(*shapes))
        if any(_size(one.dims) != _size(dims) for one in values):
            raise _UnsupportedError("it repeats values along an axis")
        shape = self.graph.shapes[x.value]
        if len(values) == 2:
            if kind not in ("Add", "Sub"):
                raise _UnsupportedError("it is not linear in two branches")
            other = self.graph.reshaped(values[1].value, shape)
            factors = (1.0, 1.0 if kind == "Add" else -1.0)
            return _Value(self.graph.add(Sum(factors), x.value, other), dims)
        first = given[0] is x
        one = np.ones(())
        constant = next((c for c in given if not isinstance(c, _Value)), one).astype(np.float64)
        match kind:
            case "Add":
                weight, bias = one, constant
            case "Sub":
                weight, bias = (one, -constant) if first else (-one, constant)
            case "Mul":
                weight, bias = constant, 0 * one
            case "Div" if first:
                weight, bias = 1 / constant, 0 * one
            case "Neg":
                weight, bias = -one, 0 * one
            case _:
                raise _UnsupportedError("it divides by what depends on the input")
        wide, shift = (_tensor(np.broadcast_to(t, dims)).reshape(shape) for t in (weight, bias))
        return _Value(self.graph.scaled(x.value, wide, shift), dims)

    def _product(
        self, kind: str, given: list[_Value | Numbers], attributes: dict[str, Any]
    ) -> _Value:
        left, right = given[0], given[1]
        if isinstance(left, _Value) and not isinstance(right, _Value):
            matrix = right.T if attributes.get("transB") else right
            if attributes.get("transA") or matrix.ndim != 2:
                raise _UnsupportedError("its first input is transposed, or its second no matrix")
            rows, dims = _size(left.dims[:-1]), (*left.dims[:-1], matrix.shape[1])
            weight, x = np.asarray(matrix.T), left
        elif isinstance(right, _Value) and not isinstance(left, _Value) and kind == "MatMul":
            if left.ndim != 2 or (len(right.dims) != 1 and right.dims[-1] != 1):
                raise _UnsupportedError("a constant matrix times more than one column")
            vector = len(right.dims) == 1
            rows = 1 if vector else _size(right.dims[:-2])
            dims = (len(left),) if vector else (*right.dims[:-2], len(left), 1)
            weight, x = left, right
        else:
            raise _UnsupportedError("its matrix is not a constant")
        if rows * rows * weight.size > _LARGEST:
            raise _UnsupportedError(f"{rows} rows times a matrix {weight.shape} is too large")
        if rows > 1:
            weight = np.kron(np.eye(rows), weight)
        weight = attributes.get("alpha", 1.0) * weight
        bias = np.zeros(len(weight))
        if len(given) > 2:
            added = given[2]
            if isinstance(added, _Value):
                raise _UnsupportedError("its third input is not a constant")
            bias = attributes.get("beta", 1.0) * np.broadcast_to(added, dims).ravel()
        flat = self.graph.reshaped(x.value, (_size(x.dims),))
        return _Value(self.graph.add(Linear(_tensor(weight), _tensor(bias)), flat), dims)

    def _image(self, x: _Value) -> int:
        if len(x.dims) != 4:
            raise _UnsupportedError(f"its input has shape {x.dims}, not one image")
        return self.graph.reshaped(x.value, x.dims[1:])

    def _moved(self, x: _Value, dims: tuple[int, ...], does: Callable[[Numbers], Numbers]) -> int:
        """What `does` rearranges; `dims` is how it sees the value."""
        places = self.graph.places(x.value).numpy().reshape(dims)
        there, back = does(places), does(-places)
        fills = np.unique((there + back)[there != -back]) / 2
        if len(fills) > 1:
            raise _UnsupportedError("it fills in several constants")
        moved = _tensor((there - back) / 2)
        return self.graph.rearranged(x.value, moved, float(fills.sum()))

    def _rearranged(self, node: Any, x: _Value, constants: list[Numbers]) -> _Value:
        def does(places: Numbers) -> Numbers:
            return computed(node, [places, *constants], self.model.opsets)

        value = self._moved(x, x.dims, does)
        return _Value(value, self.graph.shapes[value])

    def _padded(self, value: int, pads: list[int]) -> tuple[int, Pair]:
        """An image, padded by itself where the layer behind it pads all sides alike."""
        top, left, bottom, right = pads
        if (top, left) == (bottom, right):
            return value, (top, left)
        sides = ((0, 0), (top, bottom), (left, right))
        x = _Value(value, self.graph.shapes[value])
        return self._moved(x, x.dims, lambda places: np.pad(places, sides)), (0, 0)

    def _conv(self, x: _Value, constants: list[Numbers], attributes: dict[str, Any]) -> _Value:
        value, weight = self._image(x), constants[0]
        dilation = _pair(attributes.get("dilations", [1, 1]))
        window = _Window.of(attributes, x.dims, weight.shape[2:], dilation)
        value, padding = self._padded(value, window.pads)
        bias = _tensor(constants[1] if len(constants) > 1 else np.zeros(len(weight)))
        groups = attributes.get("group", 1)
        layer = Conv(_tensor(weight), bias, window.stride, padding, dilation, groups)
        return self._batched(self.graph.add(layer, value))

    def _pooled(self, kind: str, x: _Value, attributes: dict[str, Any]) -> _Value:
        value = self._image(x)
        if kind == "GlobalAveragePool":
            height, width = x.dims[2:]
            return self._batched(
                self.graph.averaged(value, (height, width), (1, 1), (0, 0), height * width)
            )
        dilation = _pair(attributes.get("dilations", [1, 1]))
        if attributes.get("ceil_mode") or dilation != (1, 1):
            raise _UnsupportedError("it is dilated, or has ceil_mode")
        kernel = _pair(attributes["kernel_shape"])
        window = _Window.of(attributes, x.dims, kernel, dilation)
        if window.pads[:2] != window.pads[2:]:
            raise _UnsupportedError(f"its pads {window.pads} are not alike on opposite sides")
        padding = _pair(window.pads[:2])
        if kind == "MaxPool":
            return self._batched(self.graph.add(MaxPool(kernel, window.stride, padding), value))
        padded = attributes.get("count_include_pad") or not any(padding)
        divisor = kernel[0] * kernel[1] if padded else None
        return self._batched(self.graph.averaged(value, kernel, window.stride, padding, divisor))

    def _normalised(
        self, x: _Value, constants: list[Numbers], attributes: dict[str, Any]
    ) -> _Value:
        scale, shift, mean, variance = (
            one.reshape(-1, *[1] * (len(x.dims) - 2)) for one in constants
        )
        variance = variance + attributes.get("epsilon", 1e-5)
        weight = scale / np.sqrt(variance)
        value = self.graph.reshaped(x.value, x.dims[1:])
        bias = shift - mean * weight
        parts = normalised(*map(_tensor, (scale, shift, mean, variance)))
        return _Value(self.graph.scaled(value, _tensor(weight), _tensor(bias), parts), x.dims)

    def _batched(self, value: int) -> _Value:
        return _Value(value, (1, *self.graph.shapes[value]))


class _Window(NamedTuple):
    stride: Pair
    pads: list[int]  # top, left, bottom, right

    @staticmethod
    def of(
        attributes: dict[str, Any], dims: tuple[int, ...], kernel: tuple[int, ...], dilation: Pair
    ) -> "_Window":
        stride = _pair(attributes.get("strides", [1, 1]))
        same = attributes.get("auto_pad", b"NOTSET").decode()
        if same not in ("SAME_UPPER", "SAME_LOWER"):
            return _Window(stride, list(attributes.get("pads", [0] * 4)))
        before, after = [], []
        for i in (0, 1):
            outputs = -(-dims[2 + i] // stride[i])
            needed = (outputs - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - dims[2 + i]
            small = max(needed, 0) // 2
            large = max(needed, 0) - small
            before.append(small if same == "SAME_UPPER" else large)
            after.append(large if same == "SAME_UPPER" else small)
        return _Window(stride, [*before, *after])


def _attributes(node: Any) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {one.name: get_attribute_value(one) for one in node.attribute}


def _pair(value: Any) -> Pair:
    if len(value) != 2:
        raise _UnsupportedError("it is not two-dimensional")
    return int(value[0]), int(value[1])


def _tensor(array: Numbers) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float64))
