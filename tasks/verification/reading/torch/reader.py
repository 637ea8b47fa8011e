"""Follows a torch module's operations while they run, and notes them as layers."""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Linear,
    MaxPool,
    Network,
    Pair,
    Relu,
    Smooth,
    Sum,
)
from robsweep.tasks.verification.reading.operators.values import UnsupportedError
from robsweep.tasks.verification.reading.torch.operators import (
    Traced,
    at_probe,
    batch_norm,
    function_of,
    layer_of,
    parts_of,
)

SUPPORTED = (
    "Linear, Conv1d, Conv2d, ConvTranspose, BatchNorm, ReLU, LeakyReLU, PReLU, ReLU6, Hardtanh, "
    "max and average pooling, Flatten, reshapes, transpositions, slices, concatenations, padding, "
    "Dropout, sums of branches, means, abs, clamp, maximum, arithmetic with constants; Sigmoid, "
    "Tanh, GELU, ELU, Softplus, sign and rounding with bounds only"
)


class Reading(NamedTuple):
    """A module that has been run once."""

    network: Network
    logits: Tensor  # (N, K), where it was read


_LAYERS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "elu": nn.ELU,
    "softplus": nn.Softplus,
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "leaky_relu": nn.LeakyReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "max_pool1d": nn.MaxPool1d,
    "avg_pool1d": nn.AvgPool1d,
    "adaptive_avg_pool2d": nn.AdaptiveAvgPool2d,
    "adaptive_max_pool2d": nn.AdaptiveMaxPool2d,
    "dropout": lambda p=0.5, training=True, inplace=False: nn.Dropout(p).train(training),
}
_REARRANGING = {
    "contiguous",
    "flatten",
    "flip",
    "getitem",
    "pad",
    "permute",
    "reshape",
    "squeeze",
    "transpose",
    "unsqueeze",
    "view",
}
_TAKING_APART = {"chunk", "split", "tensor_split", "unbind"}
_ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "div": "/", "neg": "neg"}


class Reader:
    """Runs a module once, and notes its layers; what else it computes is constant."""

    def __init__(self, operations: fx.GraphModule, name: str, images: Tensor) -> None:
        self.operations, self.name, self.images = operations, name, images
        self.graph = Graph(tuple(images.shape[1:]), images.device, images.dtype)

    def run(self) -> Reading:
        known: dict[fx.Node, Any] = {}
        for node in self.operations.graph.nodes:
            args = fx.map_arg(node.args, known.__getitem__)
            kwargs = fx.map_arg(node.kwargs, known.__getitem__)
            where = f"model {self.name}: operator {_name(node.target)!r} ({node.name})"
            match node.op:
                case "placeholder":
                    known[node] = Traced(0, self.images)
                case "get_attr":
                    known[node] = operator.attrgetter(str(node.target))(self.operations)
                case "output" if isinstance(args[0], Traced):
                    return Reading(self.graph.network(args[0].value), args[0].probe)
                case "call_module":
                    layer = self.operations.get_submodule(str(node.target))
                    where = f"model {self.name}: layer {type(layer).__name__} ({node.target})"
                    if getattr(layer, "inplace", False):
                        _check_in_place(node, args[0], known, where)
                    known[node] = self._layer(layer, args[0], where)
                case _:
                    if kwargs.get("inplace"):
                        _check_in_place(node, args[0], known, where)
                    known[node] = self._operation(node, args, kwargs, where)
        raise InputError(f"model {self.name}: returns more than logits")

    def _operation(
        self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], where: str
    ) -> Any:
        """A function or method; of the images, or of constants such as sizes."""
        name = _name(node.target)
        traced = [a for a in (*args, *kwargs.values()) if isinstance(a, Traced)]
        if kwargs.get("input") is not None:
            args = (kwargs.pop("input"), *args)
        known, named = (
            [at_probe(a) for a in args],
            {key: at_probe(a) for key, a in kwargs.items()},
        )
        target: Any = node.target
        if name in _LAYERS and isinstance(args[0], Traced) and len(traced) == 1:
            return self._layer(_LAYERS[name](*args[1:], **kwargs), args[0], where)
        if name == "getitem" and not isinstance(args[0], Traced):
            return args[0][args[1]]  # one of several that were taken apart, or of sizes
        if node.op == "call_method":
            result = getattr(known[0], target)(*known[1:], **named)
        else:
            result = target(*known, **named)
        inside = traced or any(isinstance(a, Traced) for a in parts_of(args))
        single = len(traced) == 1 and bool(args) and isinstance(args[0], Traced)
        if not inside or not isinstance(result, Tensor):
            if single and name in _TAKING_APART:
                return self._taken_apart(node, args, kwargs, result, where)
            if inside and _holds_numbers(result, name):
                what = "returns numbers that depend on the images, which cannot be verified"
                raise InputError(f"{where} {what}")
            return result
        if name in _REARRANGING and single:

            def does(places: Tensor) -> Tensor:
                does = getattr(Tensor, target) if node.op == "call_method" else target
                moved: Tensor = does(places, *args[1:], **kwargs)
                return moved

            return self._rearranged(args[0], does, result, where)
        if name in _ARITHMETIC and not kwargs:
            return self._arithmetic(_ARITHMETIC[name], args, result, where)
        try:
            value = function_of(self.graph, name, args, kwargs, result)
        except UnsupportedError as why:
            raise InputError(f"{where} cannot be verified: {why}") from None
        if value is None:
            raise InputError(f"{where} cannot be verified; supported: {SUPPORTED}")
        return Traced(value, result)

    def _taken_apart(
        self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], results: Any, where: str
    ) -> tuple[Traced, ...]:
        target: Any = node.target
        does = getattr(Tensor, target) if node.op == "call_method" else target

        def one_of(which: int) -> Callable[[Tensor], Tensor]:
            def does_it(places: Tensor) -> Tensor:
                part: Tensor = does(places, *args[1:], **kwargs)[which]
                return part

            return does_it

        parts = enumerate(results)
        return tuple(self._rearranged(args[0], one_of(i), one, where) for i, one in parts)

    def _rearranged(
        self, x: Traced, does: Callable[[Tensor], Tensor], result: Tensor, where: str
    ) -> Traced:
        """What `does` moves, seen from where it moves the places of all samples."""
        places, count = self.graph.places(x.value), len(x.probe)
        first = places.numel() * torch.arange(count, dtype=places.dtype, device=places.device)
        moved = does(places + first.reshape(-1, *[1] * places.dim()))
        first = first.reshape(-1, *[1] * (moved.dim() - 1))
        if len(moved) != count or not torch.equal(
            moved, torch.where(moved[0] == 0, 0, moved[0] + first)
        ):
            raise InputError(f"{where} mixes samples, which cannot be verified")
        return Traced(self.graph.rearranged(x.value, moved[0]), result)

    def _arithmetic(self, sign: str, args: tuple[Any, ...], result: Tensor, where: str) -> Traced:
        traced = [a for a in args if isinstance(a, Traced)]
        if len(traced) == 2:
            shapes = {self.graph.shapes[a.value] for a in traced}
            if sign not in "+-" or len(shapes) > 1:
                raise InputError(f"{where} of two branches cannot be verified; {SUPPORTED}")
            factors = (1.0, 1.0 if sign == "+" else -1.0)
            return Traced(self.graph.add(Sum(factors), *(a.value for a in traced)), result)
        (x,) = traced
        if x.probe.shape != result.shape:
            raise InputError(f"{where} changes the shape of what it adds to or multiplies")
        one = torch.ones((), dtype=x.probe.dtype, device=x.probe.device)
        other = next((a for a in args if not isinstance(a, Traced)), one)
        constant = torch.as_tensor(other, dtype=x.probe.dtype, device=x.probe.device)
        if constant.dim() == x.probe.dim():
            if len(constant) > 1:
                raise InputError(f"{where} treats samples differently, which cannot be verified")
            constant = constant[0]
        first = args[0] is x
        match sign:
            case "+":
                weight, bias = one, constant
            case "-":
                weight, bias = (one, -constant) if first else (-one, constant)
            case "*":
                weight, bias = constant, 0 * one
            case "/" if first:
                weight, bias = 1 / constant, 0 * one
            case "neg":
                weight, bias = -one, 0 * one
            case _:
                raise InputError(f"{where} divides by the image, which cannot be verified")
        return Traced(self.graph.scaled(x.value, weight, bias), result)

    def _layer(self, layer: nn.Module, x: Any, where: str) -> Traced:
        result = layer(x.probe)
        try:
            value = self._added(layer, x, where)
        except UnsupportedError as why:
            raise InputError(f"{where} cannot be verified: {why}") from None
        if value is None:
            return self._rearranged(x, layer, result, where)
        return Traced(value, result)

    def _added(self, layer: nn.Module, x: Traced, where: str) -> int | None:
        """The value behind a torch layer; None if it only rearranges."""
        graph, value, dim = self.graph, x.value, x.probe.dim()
        match layer:
            case nn.Identity():
                return value
            case nn.Dropout() | nn.Dropout2d() if self.operations.training or not layer.training:
                return value
            case nn.ReLU():
                return graph.add(Relu(), value)
            case nn.Sigmoid():
                return graph.add(Smooth("sigmoid"), value)
            case nn.Tanh():
                return graph.add(Smooth("tanh"), value)
            case nn.GELU(approximate="none"):
                return graph.add(Smooth("gelu"), value)
            case nn.ELU(alpha=1.0):
                return graph.add(Smooth("elu"), value)
            case nn.Softplus(beta=1.0, threshold=20.0):
                return graph.add(Smooth("softplus"), value)
            case nn.Flatten() | nn.Unflatten() | nn.ZeroPad2d():
                return None
            case nn.Linear() if dim == 2:
                return graph.add(Linear(layer.weight, _bias(layer)), value)
            case nn.Conv2d(padding_mode="zeros") if dim == 4:
                return self._conv(layer, value)
            case nn.MaxPool2d(ceil_mode=False, return_indices=False) if (
                _pair(layer.dilation) == (1, 1) and dim == 4
            ):
                kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
                return graph.add(MaxPool(kernel, stride, _pair(layer.padding)), value)
            case nn.AvgPool2d(ceil_mode=False) if dim == 4:
                kernel, padding = _pair(layer.kernel_size), _pair(layer.padding)
                divisor = layer.divisor_override or kernel[0] * kernel[1]
                padded = layer.count_include_pad or layer.divisor_override or not any(padding)
                stride = _pair(layer.stride)
                return graph.averaged(value, kernel, stride, padding, divisor if padded else None)
            case nn.BatchNorm1d() | nn.BatchNorm2d() if (
                layer.running_mean is not None and layer.running_var is not None
            ):
                return graph.scaled(value, *batch_norm(layer, x.probe))
        if (known := layer_of(graph, layer, x)) is not None:
            return known
        raise InputError(f"{where}, as set up here, cannot be verified; supported: {SUPPORTED}")

    def _conv(self, layer: nn.Conv2d, value: int) -> int:
        padding = layer.padding
        if isinstance(padding, str):
            # the same order as F.pad: left, right, top, bottom
            sides = list(layer._reversed_padding_repeated_twice) if padding == "same" else [0] * 4
            moved = F.pad(self.graph.places(value), sides)
            value, padding = self.graph.rearranged(value, moved), (0, 0)
        rest = (_pair(layer.stride), _pair(padding), _pair(layer.dilation), layer.groups)
        return self.graph.add(Conv(layer.weight, _bias(layer), *rest), value)


def _check_in_place(node: fx.Node, x: Traced, known: dict[fx.Node, Any], where: str) -> None:
    """An operation that overwrites its input must be the last to see that memory.

    Raises:
        InputError: Something else reads it later, and would see other values than in the graph.
    """
    memory = x.probe.untyped_storage().data_ptr()
    for other, traced in known.items():
        shared = isinstance(traced, Traced) and traced.probe.untyped_storage().data_ptr() == memory
        if shared and any(user not in known and user is not node for user in other.users):
            raise InputError(f"{where} works in place on what is used again; set inplace=False")


def _holds_numbers(result: Any, name: str) -> bool:
    """Whether what a function returns is more than a shape or a type."""
    if isinstance(result, tuple | list):
        return any(_holds_numbers(one, name) for one in result)
    if isinstance(result, bool):
        return name in ("allclose", "equal", "is_nonzero")
    return isinstance(result, Tensor | float | complex)


def _name(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    return layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
