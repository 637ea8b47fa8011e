"""An ONNX file as a torch module, which attacks can differentiate and verifiers can read."""

import operator
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Size, Tensor, fx, nn

from robsweep.tasks.errors import InputError

if TYPE_CHECKING:
    from robsweep.tasks.verification.reading.layers import Layer, Network


def onnx(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The catalogue's name for models that are ONNX files; see `module_of_file`."""
    raise InputError(
        f"model 'onnx' for inputs {tuple(shape)} and {classes} classes is an ONNX file: "
        "give it as `weights: FILE.onnx`"
    )


def module_of_file(content: bytes, file: str, shape: tuple[int, ...]) -> nn.Module:
    """Float32 (N, *shape) in [0, 1] -> what the network computes, (N, outputs).

    A network of flat inputs gets images flattened row by row, channel by channel.

    Raises:
        InputError: The file cannot be read, or takes inputs of another shape.
    """
    from robsweep.tasks.verification.reading.onnx.model import parsed
    from robsweep.tasks.verification.reading.onnx.network import check_reading, read_onnx

    model = parsed(content, file)
    network = read_onnx(model)
    if network.softmaxes:
        raise InputError(f"{file}: ends in a softmax; give the logits before it")
    inputs = Size(network.shapes[0]).numel()
    check_reading(model, network, np.zeros(inputs), np.ones(inputs))
    takes = network.shapes[0]
    flat = len(takes) == 1 and Size(takes).numel() == Size(shape).numel()
    if not flat and _long_axes(takes) != _long_axes(shape):
        raise InputError(f"{file} takes inputs of shape {takes}, the data set has {tuple(shape)}")
    return module_of(network, tuple(shape)).float()


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    return [side for side in shape if side != 1]


def module_of(network: "Network", shape: tuple[int, ...]) -> nn.Module:
    """The layers of a network as torch's own, in float64; scales and constants are buffers."""
    build = _Building()
    value = build.reshaped(build.graph.placeholder("x"), shape, network.shapes[0])
    values = [value]
    for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
        before = [values[v] for v in read]
        values.append(build.node(layer, before, network.shapes[read[0]], f"v{k}"))
    build.graph.output(values[-1])
    return fx.GraphModule(build.root, build.graph, "Onnx")


class _Building:
    def __init__(self) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.count = 0

    def held(self, name: str, constant: Tensor) -> fx.Node:
        self.root.register_buffer(name, constant)
        return self.graph.get_attr(name)

    def called(self, module: nn.Module, value: fx.Node) -> fx.Node:
        self.count += 1
        name = f"{type(module).__name__.lower()}{self.count}"
        self.root.add_module(name, module)
        return self.graph.call_module(name, (value,))

    def reshaped(self, value: fx.Node, old: tuple[int, ...], new: tuple[int, ...]) -> fx.Node:
        if old == new:
            return value
        if len(old) > 1:
            value = self.called(nn.Flatten(), value)
        return self.called(nn.Unflatten(1, new), value) if len(new) > 1 else value

    def node(
        self, layer: "Layer", values: list[fx.Node], shape: tuple[int, ...], name: str
    ) -> fx.Node:
        """What a layer makes of the values that it reads, the first of which has the shape."""
        from robsweep.tasks.verification.reading.layers import (
            Conv,
            Gather,
            Linear,
            MaxPool,
            Relu,
            Reshape,
            Scale,
            Smooth,
            Sum,
        )

        x = values[0]
        match layer:
            case Linear():
                outputs, inputs = layer.weight.shape
                return self._weighted(nn.Linear(inputs, outputs), layer, x)
            case Conv():
                outputs, inputs = len(layer.weight), layer.weight.shape[1] * layer.groups
                kernel = (layer.weight.shape[2], layer.weight.shape[3])
                window = (layer.stride, layer.padding, layer.dilation, layer.groups)
                return self._weighted(nn.Conv2d(inputs, outputs, kernel, *window), layer, x)
            case Scale():
                scaled = self.graph.call_function(
                    operator.mul, (x, self.held(f"{name}_weight", layer.weight))
                )
                bias = self.held(f"{name}_bias", layer.bias)
                return self.graph.call_function(operator.add, (scaled, bias))
            case Relu():
                return self.called(nn.ReLU(), x)
            case Smooth():
                curves = {
                    "sigmoid": nn.Sigmoid,
                    "tanh": nn.Tanh,
                    "gelu": nn.GELU,
                    "elu": nn.ELU,
                    "softplus": nn.Softplus,
                }
                jumps = {
                    "sign": torch.sign,
                    "floor": torch.floor,
                    "ceil": torch.ceil,
                    "round": torch.round,
                }
                if layer.curve in jumps:
                    return self.graph.call_function(jumps[layer.curve], (x,))
                if layer.curve not in curves:
                    what = "a cast or a comparison, which has no gradient, cannot be a model"
                    raise InputError(f"a network with {what}")
                return self.called(curves[layer.curve](), x)
            case MaxPool():
                return self.called(nn.MaxPool2d(layer.kernel, layer.stride, layer.padding), x)
            case Reshape():
                return self.reshaped(x, shape, layer.shape)
            case Gather():
                index, flat = self.held(f"{name}_index", layer.index), self.called(nn.Flatten(), x)
                padded = layer.index < 0
                if padded.any():  # index -1 is the last one
                    flat = self.graph.call_function(F.pad, (flat, (0, 1)))
                taken = self.graph.call_function(operator.getitem, (flat, (slice(None), index)))
                if not (padded.any() and layer.fill):
                    return taken
                fill = self.held(f"{name}_fill", layer.fill * padded.double())
                return self.graph.call_function(operator.add, (taken, fill))
            case Sum():
                total = x
                for factor, value in zip(layer.factors[1:], values[1:], strict=True):
                    sign = operator.add if factor > 0 else operator.sub
                    total = self.graph.call_function(sign, (total, value))
                return total

    def _weighted(self, made: nn.Linear | nn.Conv2d, layer: "Layer", value: fx.Node) -> fx.Node:
        made = made.double()
        made.load_state_dict({"weight": layer.weight, "bias": layer.bias})  # type: ignore[union-attr]
        return self.called(made, value)
