"""Reads a torch module as a chain of layers, through torch.fx."""

import copy
import operator
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from tasks.errors import InputError
from tasks.verification.layers import (
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    Pair,
    Relu,
    apply,
)

SUPPORTED = (
    "chains of Linear, Conv2d, BatchNorm, ReLU, MaxPool2d, AvgPool2d, Flatten, Dropout, Identity, "
    "and constants that are added to or multiplied with whole channels"
)


def read(module: nn.Module, shape: tuple[int, ...]) -> Network:
    """Reads a module in evaluation mode; its weights become float64.

    Args:
        shape: Of one input.

    Raises:
        InputError: An operator that is not supported, a graph that is not a chain, or a reading
            that does not compute what the module computes.
    """
    module = copy.deepcopy(module).eval().double()
    name = type(module).__name__
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    probe = torch.linspace(0, 1, 2 * torch.Size(shape).numel(), device=device).double()
    probe = probe.reshape(2, *shape)
    layers: list[Layer] = []
    with torch.no_grad():
        for part in _chain(module, name):
            layers = _extended(layers, part, _run(layers, probe))
        if not torch.allclose(_run(layers, probe), module(probe), rtol=1e-9, atol=1e-9):
            raise InputError(f"model {name}: its layers do not compute what it computes")
        shapes = [tuple(_run(layers[:k], probe).shape[1:]) for k in range(len(layers) + 1)]
    if len(shapes[-1]) != 1:
        raise InputError(f"model {name}: returns {shapes[-1]} per sample, not one row of logits")
    return Network(tuple(layers), tuple(shapes))


def _run(layers: list[Layer], x: Tensor) -> Tensor:
    for layer in layers:
        x = apply(layer, x)
    return x


class _Part(NamedTuple):
    """One operator of the chain: a torch layer, or arithmetic with a constant."""

    where: str
    does: nn.Module | Callable[[Tensor], Tensor]


def _chain(module: nn.Module, name: str) -> Iterator[_Part]:
    # torch's own layers are only recognised inside another module
    leaf = fx.Tracer().is_leaf_module(module, "")
    try:
        traced = fx.symbolic_trace(nn.Sequential(module) if leaf else module)
    except Exception as error:
        raise InputError(f"model {name}: torch.fx cannot trace it: {error}") from error
    previous: fx.Node | None = None
    for node in traced.graph.nodes:
        where = f"model {name}: operator {_name(node.target)!r} ({node.name})"
        inputs = [n for n in node.all_input_nodes if n.op != "get_attr"]
        if node.op == "get_attr":
            continue
        if node.op == "output" and node.args[0] is previous:
            return
        if inputs != ([] if previous is None else [previous]):
            raise InputError(f"{where} makes it more than a chain; supported: {SUPPORTED}")
        if node.op == "call_module":
            layer = traced.get_submodule(node.target)
            yield _Part(f"model {name}: layer {type(layer).__name__} ({node.target})", layer)
        elif node.op != "placeholder":
            yield _Part(where, _operation(node, traced, where))
        previous = node


def _name(target: Any) -> str:
    return target if isinstance(target, str) else getattr(target, "__name__", str(target))


_LAYERS: dict[str, Callable[..., nn.Module]] = {
    "relu": nn.ReLU,
    "flatten": lambda start_dim=0, end_dim=-1: nn.Flatten(start_dim, end_dim),
    "max_pool2d": nn.MaxPool2d,
    "avg_pool2d": nn.AvgPool2d,
    "dropout": lambda p=0.5, training=True, inplace=False: nn.Dropout(p).train(training),
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "div": operator.truediv,
}


def _operation(
    node: fx.Node, traced: fx.GraphModule, where: str
) -> nn.Module | Callable[[Tensor], Tensor]:
    name = _name(node.target)
    if node.op not in ("call_function", "call_method"):
        raise InputError(f"{where} cannot be verified; supported: {SUPPORTED}")
    if name in _LAYERS:
        rest = {key: value for key, value in node.kwargs.items() if key != "input"}
        return _LAYERS[name](*node.args[1:], **rest)
    if name not in _ARITHMETIC or len(node.args) != 2 or node.kwargs:
        raise InputError(f"{where} cannot be verified; supported: {SUPPORTED}")
    first, second = (_constant(argument, traced) for argument in node.args)
    if first is None:
        return lambda x: _ARITHMETIC[name](x, second)
    if name in ("truediv", "div"):
        raise InputError(f"{where} divides by the image, which cannot be verified")
    return lambda x: _ARITHMETIC[name](first, x)


def _constant(argument: Any, traced: fx.GraphModule) -> Any:
    """The value of an argument that is not the image; None for the image."""
    if not isinstance(argument, fx.Node):
        return argument
    if argument.op != "get_attr":
        return None
    return operator.attrgetter(str(argument.target))(traced)


def _extended(layers: list[Layer], part: _Part, x: Tensor) -> list[Layer]:
    """Appends the layer behind an operator whose input is `x`, in the cheapest form."""
    does = part.does
    match does:
        case nn.Dropout() | nn.Dropout2d() if not does.training:
            return layers
        case nn.Identity():
            return layers
        case nn.ReLU():
            return [*layers, Relu()]
        case nn.Flatten(start_dim=1, end_dim=-1):
            return [*layers, Flatten()] if x.dim() > 2 else layers
        case nn.Linear() if x.dim() == 2:
            return [*layers, Linear(does.weight.detach(), _bias(does))]
        case nn.Conv2d(padding_mode="zeros", padding=tuple(padding)) if x.dim() == 4:
            stride, dilation = _pair(does.stride), _pair(does.dilation)
            weight = does.weight.detach()
            conv = Conv(weight, _bias(does), stride, _pair(padding), dilation, does.groups)
            return [*layers, conv]
        case nn.MaxPool2d(ceil_mode=False, return_indices=False) if _pair(does.dilation) == (1, 1):
            kernel, stride = _pair(does.kernel_size), _pair(does.stride)
            return [*layers, MaxPool(kernel, stride, _pair(does.padding))]
        case nn.AvgPool2d(ceil_mode=False) if does.count_include_pad or not any(
            _pair(does.padding)
        ):
            return [*layers, _average(does, x)]
        case nn.BatchNorm1d() | nn.BatchNorm2d() if does.running_mean is not None:
            return _channelwise(layers, does, x, part.where)
        case nn.Module():
            raise InputError(f"{part.where}, as set up here, cannot be verified; {SUPPORTED}")
    return _channelwise(layers, does, x, part.where)


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _bias(layer: nn.Linear | nn.Conv2d) -> Tensor:
    zeros = layer.weight.new_zeros(len(layer.weight))
    return zeros if layer.bias is None else layer.bias.detach()


def _average(pool: nn.AvgPool2d, x: Tensor) -> Conv:
    kernel, channels = _pair(pool.kernel_size), x.shape[1]
    count = pool.divisor_override or kernel[0] * kernel[1]
    weight = x.new_full((channels, 1, *kernel), 1 / count)
    bias = x.new_zeros(channels)
    return Conv(weight, bias, _pair(pool.stride), _pair(pool.padding), groups=channels)


def _channelwise(
    layers: list[Layer], does: Callable[[Tensor], Tensor], x: Tensor, where: str
) -> list[Layer]:
    """An affine map of each channel, folded into the layer before it where that is affine."""
    zeros = torch.zeros_like(x[:1])
    shift = does(zeros)
    scale = does(zeros + 1) - shift
    if shift.shape != zeros.shape or any(_varies(value) for value in (scale, shift)):
        raise InputError(f"{where} does not treat each channel as a whole: it cannot be verified")
    scale, shift = (value.reshape(x.shape[1], -1)[:, 0] for value in (scale, shift))
    match layers[-1] if layers else None:
        case Linear(weight, bias):
            return [*layers[:-1], Linear(scale[:, None] * weight, scale * bias + shift)]
        case Conv(weight, bias) as conv:
            weight = scale[:, None, None, None] * weight
            rest = (conv.stride, conv.padding, conv.dilation, conv.groups)
            return [*layers[:-1], Conv(weight, scale * bias + shift, *rest)]
    if x.dim() == 2:
        return [*layers, Linear(scale.diag(), shift)]
    return [*layers, Conv(scale[:, None, None, None], shift, groups=x.shape[1])]


def _varies(value: Tensor) -> bool:
    flat = value.flatten(2) if value.dim() > 2 else value[..., None]
    return not torch.equal(flat, flat[..., :1].expand_as(flat))
