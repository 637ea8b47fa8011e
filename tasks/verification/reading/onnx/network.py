"""Reads an ONNX file as a network, operator by operator."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import one_line
from robsweep.tasks.verification.reading.graph import Graph, in_float32_as
from robsweep.tasks.verification.reading.layers import (
    DOUBLE,
    UNIT,
    Gather,
    Network,
    Reshape,
    evaluate,
)
from robsweep.tasks.verification.reading.onnx.constants import is_exact
from robsweep.tasks.verification.reading.onnx.model import OnnxModel, where
from robsweep.tasks.verification.reading.onnx.reference import Numbers, computed, in_double, widened
from robsweep.tasks.verification.reading.operators import (
    arithmetic,
    jumps,
    moves,
    products,
    windows,
)
from robsweep.tasks.verification.reading.operators.values import (
    Node,
    UnsupportedError,
    Value,
    size_of,
)

_PROBES = 3
_Read = Callable[[Node], Value | Numbers | Sequence[Value]]
_WINDOW = "auto_pad dilations kernel_shape pads strides"
# What is read, by which function, and the attributes whose meaning that function knows.
_OPERATORS: dict[str, tuple[_Read, str]] = {
    "Abs": (arithmetic.absolute, ""),
    "Add": (arithmetic.add, ""),
    "AveragePool": (windows.averaged, f"{_WINDOW} ceil_mode count_include_pad"),
    "BatchNormalization": (arithmetic.normalised, "epsilon momentum spatial training_mode"),
    "Cast": (jumps.cast, "to saturate round_mode"),
    "CastLike": (jumps.cast, "saturate round_mode"),
    "Celu": (arithmetic.exponential, "alpha"),
    "Ceil": (jumps.stepped, ""),
    "Clip": (arithmetic.clip, "min max"),
    "Concat": (moves.concatenated, "axis"),
    "Conv": (windows.conv, f"{_WINDOW} group"),
    "ConvTranspose": (windows.conv_transposed, f"{_WINDOW} group output_padding"),
    "DepthToSpace": (moves.rearranged, "blocksize mode"),
    "Div": (arithmetic.divide, ""),
    "Dropout": (arithmetic.same, "ratio seed"),
    "Elu": (arithmetic.exponential, "alpha"),
    "Equal": (jumps.equal, ""),
    "Expand": (moves.rearranged, ""),
    "Flatten": (moves.rearranged, "axis"),
    "Floor": (jumps.stepped, ""),
    "Gather": (moves.rearranged, "axis"),
    "Gelu": (arithmetic.curved, "approximate"),
    "Gemm": (products.gemm, "alpha beta transA transB"),
    "GlobalAveragePool": (windows.averaged, ""),
    "GlobalMaxPool": (windows.max_pooled, ""),
    "Greater": (jumps.compared, ""),
    "GreaterOrEqual": (jumps.compared, ""),
    "HardSigmoid": (arithmetic.hard_sigmoid, "alpha beta"),
    "Identity": (arithmetic.same, ""),
    "LeakyRelu": (arithmetic.leaky, "alpha"),
    "Less": (jumps.compared, ""),
    "LessOrEqual": (jumps.compared, ""),
    "MatMul": (products.matmul, ""),
    "Max": (arithmetic.largest, ""),
    "MaxPool": (windows.max_pooled, f"{_WINDOW} ceil_mode storage_order"),
    "Mean": (arithmetic.add, ""),
    "Min": (arithmetic.largest, ""),
    "Mul": (arithmetic.multiply, ""),
    "Neg": (arithmetic.negative, ""),
    "Not": (jumps.opposite, ""),
    "PRelu": (arithmetic.parametric, ""),
    "Pad": (moves.pad, "mode pads value"),
    "ReduceMax": (products.reduced, "axes keepdims noop_with_empty_axes"),
    "ReduceMean": (products.reduced, "axes keepdims noop_with_empty_axes"),
    "ReduceMin": (products.reduced, "axes keepdims noop_with_empty_axes"),
    "ReduceSum": (products.reduced, "axes keepdims noop_with_empty_axes"),
    "Relu": (arithmetic.rectified, ""),
    "Reshape": (moves.rearranged, "allowzero"),
    "Resize": (
        moves.resized,
        "coordinate_transformation_mode mode nearest_mode keep_aspect_ratio_policy "
        "cubic_coeff_a exclude_outside extrapolation_value",
    ),
    "Round": (jumps.stepped, ""),
    "Selu": (arithmetic.exponential, "alpha gamma"),
    "Shape": (moves.shape, "start end"),
    "Sigmoid": (arithmetic.curved, ""),
    "Sign": (jumps.stepped, ""),
    "Size": (moves.shape, ""),
    "Slice": (moves.rearranged, "axes ends starts"),
    "Softmax": (arithmetic.softmax, "axis"),
    "Softplus": (arithmetic.curved, ""),
    "SpaceToDepth": (moves.rearranged, "blocksize"),
    "Split": (moves.split, "axis split num_outputs"),
    "Squeeze": (moves.rearranged, "axes"),
    "Sub": (arithmetic.subtract, ""),
    "Sum": (arithmetic.add, ""),
    "Tanh": (arithmetic.curved, ""),
    "Tile": (moves.rearranged, ""),
    "Transpose": (moves.rearranged, "perm"),
    "Unsqueeze": (moves.rearranged, "axes"),
    "Upsample": (moves.resized, "mode"),
    "Where": (jumps.where, ""),
}


# What may follow a cast to integers or a comparison.
_OF_INTEGERS = frozenset(
    {"Cast", "Flatten", "Identity", "Not", "Reshape", "Squeeze", "Transpose", "Unsqueeze", "Where"}
)


def read_onnx(model: OnnxModel) -> Network:
    """The network behind an ONNX file; value 0 has the input's shape without its batch axis.

    It has its steps as it runs, unless these are not known.

    Raises:
        InputError: An operator that is not supported, or not as it is set up here.
    """
    network = _network(model)
    if model.doubles is None or network.steps is None:
        return network.over_reals()
    if not model.doubles:
        return network
    if network.unit != UNIT:  # float64 says nothing of how far its own constants may be off
        return network.over_reals()
    try:
        return in_float32_as(network, _network(_in_double(model)))
    except InputError:
        return network.over_reals()


def _in_double(model: OnnxModel) -> OnnxModel:
    """The same with all of its numbers in float64, those too that it computes from others."""
    constants = {name: widened(value) for name, value in model.constants.items()}
    return model._replace(
        nodes=[in_double(node) for node in model.nodes],
        constants=constants | (model.doubles or {}),
        precision=np.dtype(np.float64),
    )


def _network(model: OnnxModel) -> Network:
    graph = Graph(model.shape, torch.device("cpu"))
    known: dict[str, Value | Numbers] = dict(model.constants)
    known.update(_inputs(model, graph))
    for proto in model.nodes:
        at = where(model.file, proto)
        try:
            given = tuple(known[name] if name else None for name in proto.input)
            if any(isinstance(one, Value) for one in given):
                results = _read(Node(proto, given, _attributes(proto), model.opsets, graph))
            else:  # it depends on the input's shape alone
                constants: list[Numbers | None] = list(given)  # type: ignore[arg-type]
                results = computed(proto, constants, model.opsets)
                graph.follows = graph.follows and is_exact(proto, constants)
        except UnsupportedError as why:
            raise InputError(f"{at} cannot be verified: {why}") from None
        except KeyError as name:
            what = f"nothing that is supported computes its input {name}"
            raise InputError(f"{at} cannot be verified: {what}") from None
        except Exception as error:  # numpy's or torch's word on numbers that do not fit together
            what = f"it cannot be read: {one_line(error)}"
            raise InputError(f"{at} cannot be verified: {what}") from error
        known.update(zip(proto.output, results, strict=False))
    values = []
    for end in model.outputs:
        one = known.get(end)
        if not isinstance(one, Value) or one.dtype.kind not in "fi":
            what = "is not a tensor of numbers that depends on its input"
            raise InputError(f"{model.file}: its output {end!r} {what}")
        values.append(one)
    softmaxes = _softmaxes(model.file, graph, values)
    network = graph.network(graph.joined([one.value for one in values]))
    types = {one.dtype for one in known.values() if isinstance(one, Value)}
    unit = DOUBLE if types == {np.dtype(np.float64)} else network.unit
    ends = tuple(size_of(one.dims) for one in values)
    return network._replace(unit=unit, softmaxes=softmaxes, ends=ends)


def _inputs(model: OnnxModel, graph: Graph) -> dict[str, Value]:
    """Each input as a part of the network's only one."""
    if len(model.inputs) == 1:
        return {model.inputs[0].name: Value(0, model.inputs[0].dims, model.precision)}
    found, first = {}, 0
    for one in model.inputs:
        index = torch.arange(first, first + one.size).reshape(one.dims)
        found[one.name] = Value(graph.add(Gather(index), 0), one.dims, model.precision)
        first += one.size
    return found


def _softmaxes(file: str, graph: Graph, outputs: list[Value]) -> tuple[tuple[int, ...], ...]:
    """Which outputs go together into a softmax that they end in.

    Raises:
        InputError: One is followed by anything that does more than reshape it.
    """
    behind = dict(graph.softmaxes)
    for k, (layer, read) in enumerate(zip(graph.layers, graph.inputs, strict=True)):
        if read[0] in behind and isinstance(layer, Reshape):
            behind[k + 1] = behind[read[0]]
        elif behind.keys() & set(read):
            what = "Softmax before the end cannot be verified: no bounds are known for it"
            raise InputError(f"{file}: operator {what}")
    found, first = [], 0
    for one in outputs:
        for group in behind.get(one.value, []):
            found.append(tuple(first + place for place in group))
        first += size_of(one.dims)
    return tuple(found)


def _read(node: Node) -> Sequence[Value | Numbers]:
    if node.kind not in _OPERATORS:
        raise UnsupportedError("it is not supported")
    function, attributes = _OPERATORS[node.kind]
    whole = [one for one in node.given if isinstance(one, Value) and one.dtype.kind != "f"]
    if whole and node.kind not in _OF_INTEGERS:
        raise UnsupportedError(f"it is of {whole[0].dtype}")
    if unknown := sorted(node.attributes.keys() - set(attributes.split())):
        raise UnsupportedError(f"its attribute {unknown[0]!r} is not supported")
    results = function(node)
    return results if isinstance(results, list) else [results]  # type: ignore[list-item]


def check_reading(
    model: OnnxModel, network: Network, lower: NDArray[np.float64], upper: NDArray[np.float64]
) -> None:
    """Holds a reading against what ONNX's reference computes, inside a box: (inputs,) each.

    Raises:
        InputError: They differ at its ends, or at random points inside.
    """
    random = np.random.default_rng(0)
    points = [lower, upper]
    points += [lower + random.random(len(lower)) * (upper - lower) for _ in range(_PROBES)]
    for x in points:
        values = evaluate(network, torch.from_numpy(x).reshape(1, *network.shapes[0]))
        found = _ended(network, values[-1])[0]
        try:
            expected = model.exact(x)
        except Exception as error:  # whatever the reference does not have
            raise InputError(f"{model.file}: cannot be evaluated: {one_line(error)}") from error
        if not np.isfinite(expected).all():
            raise InputError(f"{model.file}: its outputs are not finite")
        # where large numbers cancel, the order of a sum shows
        rounding = min(1e-6, 1e-14 * max(float(one.abs().max()) for one in values))
        same_size = found.numel() == expected.size
        if not same_size or not np.allclose(found.numpy(), expected, 1e-9, 1e-9 + rounding):
            raise InputError(f"{model.file}: its layers do not compute what it computes")


def _ended(network: Network, outputs: Tensor) -> Tensor:
    """What comes of them in the softmaxes behind the layers."""
    ended = outputs.clone()
    for group in network.softmaxes:
        ended[:, group] = outputs[:, group].softmax(1)
    return ended


def _attributes(node: Any) -> dict[str, Any]:
    from onnx.helper import get_attribute_value

    return {one.name: get_attribute_value(one) for one in node.attribute}
