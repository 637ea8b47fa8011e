"""Torch's operators beside plain layers: written as affine maps, ReLUs, pooling and curves."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robsweep.tasks.verification.reading.curves import Curve
from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Linear,
    MadeOf,
    MaxPool,
    Relu,
    Smooth,
    Sum,
    normalised,
)
from robsweep.tasks.verification.reading.operators.values import LARGEST, UnsupportedError, Value
from robsweep.tasks.verification.reading.operators.windows import Axis, average_in, largest_in

_JUMPS: dict[str, Curve] = {"sign": "sign", "floor": "floor", "ceil": "ceil", "round": "round"}


class Traced(NamedTuple):
    """A tensor that depends on the images: its value in the graph, and at the probed images."""

    value: int
    probe: Tensor


class _Call(NamedTuple):
    """A function or method on traced tensors, and what torch makes of it."""

    graph: Graph
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Tensor

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


def scaled(graph: Graph, value: int, weight: Any, bias: Any = 0.0) -> int:
    one = graph.zeros()
    return graph.scaled(value, one + weight, one + bias)


def plus(graph: Graph, a: int, b: int, sign: float = 1.0) -> int:
    return graph.add(Sum((1.0, sign)), a, b)


def leaky(graph: Graph, value: int, slope: Any) -> int:
    """Slope * x + (1 - slope) * relu(x); the slope is broadcast over one sample."""
    rest = scaled(graph, graph.add(Relu(), value), 1 - slope)
    return plus(graph, scaled(graph, value, slope), rest)


def at_least(graph: Graph, value: int, end: Any, sign: float = 1.0) -> int:
    """Max(x, end); Min where the sign is -1. The end is broadcast over one sample.

    x is kept as it is, so that nothing of it is lost beside a large end.
    """
    missing = graph.add(Relu(), scaled(graph, value, -sign, sign * end))
    return plus(graph, value, missing, sign)


def larger(graph: Graph, a: int, b: int, sign: float = 1.0) -> int:
    """Max(a, b) = b + relu(a - b); Min where the sign is -1."""
    first, second = (a, b) if sign > 0 else (b, a)
    return plus(graph, b, graph.add(Relu(), plus(graph, first, second, -1.0)), sign)


def clipped(graph: Graph, value: int, low: Any, high: Any) -> int:
    for end, sign in ((low, 1.0), (high, -1.0)):
        if end is not None and (isinstance(end, Tensor) or np.isfinite(end)):
            value = at_least(graph, value, end, sign)
    return value


def layer_of(graph: Graph, layer: nn.Module, x: Traced) -> int | None:
    """The value behind a torch layer; None if it is not known here.

    Raises:
        UnsupportedError: It is, but not as it is set up.
    """
    value, dim = x.value, x.probe.dim()
    match layer:
        case nn.Softmax() | nn.LogSoftmax():
            raise UnsupportedError("give the logits before it, by which classes compare alike")
        case nn.LeakyReLU():
            return leaky(graph, value, layer.negative_slope)
        case nn.PReLU():
            return leaky(graph, value, _by_channel(layer.weight, dim))
        case nn.Hardtanh():  # ReLU6 is one
            return clipped(graph, value, layer.min_val, layer.max_val)
        case nn.Hardsigmoid():
            return clipped(graph, scaled(graph, value, 1 / 6, 0.5), 0.0, 1.0)
        case nn.Conv1d(padding_mode="zeros") if dim == 3 and not isinstance(layer.padding, str):
            return _conv1d(graph, layer, value)
        case nn.ConvTranspose1d() | nn.ConvTranspose2d() if dim == layer.weight.dim():
            return _matrix(graph, x, layer, layer.bias)
        case nn.MaxPool1d() | nn.MaxPool2d() if not layer.return_indices and _is_image(layer, dim):
            axes = _axes(layer, x, layer.dilation, ceil=layer.ceil_mode)
            return largest_in(graph, _as_value(x), axes).value
        case nn.AvgPool1d() | nn.AvgPool2d() if _is_image(layer, dim):
            axes = _axes(layer, x, 1, ceil=layer.ceil_mode)
            divisor = getattr(layer, "divisor_override", None)
            counts = layer.count_include_pad
            pooled = average_in(graph, _as_value(x), axes, padding_counts=counts, divisor=divisor)
            return pooled.value
        case nn.AdaptiveAvgPool1d() | nn.AdaptiveAvgPool2d() if _is_image(layer, dim):
            return _matrix(graph, x, layer, None)
        case nn.AdaptiveMaxPool1d() | nn.AdaptiveMaxPool2d() if _is_image(layer, dim):
            if layer.return_indices:
                return None
            return largest_in(graph, _as_value(x), _adaptive(layer, x)).value
    return None


def _is_image(layer: nn.Module, dim: int) -> bool:
    return dim == (3 if type(layer).__name__.endswith("1d") else 4)


def _by_channel(weight: Tensor, dim: int) -> Tensor:
    return weight.reshape(-1, *[1] * (dim - 2)) if weight.numel() > 1 else weight.reshape(())


def _as_value(x: Traced) -> Value:
    return Value(x.value, (1, *x.probe.shape[1:]), np.dtype(np.float64))


def _axes(layer: Any, x: Traced, dilation: Any, *, ceil: bool) -> list[Axis]:
    sizes = x.probe.shape[2:]

    def each(of: Any) -> Sequence[int]:
        return [int(of)] * len(sizes) if isinstance(of, int) else [int(one) for one in of]

    parts = zip(
        sizes,
        *map(each, (layer.kernel_size, layer.stride, layer.padding, dilation)),
        strict=True,
    )
    return [Axis(size, k, s, p, p, d, ceil) for size, k, s, p, d in parts]


def _adaptive(layer: Any, x: Traced) -> list[Axis]:
    sizes, wanted = x.probe.shape[2:], layer.output_size
    wanted = (wanted,) * len(sizes) if isinstance(wanted, int) else tuple(wanted)
    axes = []
    for size, given in zip(sizes, wanted, strict=True):
        count = size if given is None else given
        if size % count:
            raise UnsupportedError(f"{count} windows do not divide {size}")
        axes.append(Axis(size, size // count, size // count, 0, 0, 1, False))
    return axes


def _conv1d(graph: Graph, layer: nn.Conv1d, value: int) -> int:
    """As a convolution of an image of height 1."""
    channels, length = graph.shapes[value]
    image = graph.reshaped(value, (channels, 1, length))
    bias = graph.zeros(len(layer.weight)) if layer.bias is None else layer.bias
    window = ((1, layer.stride[0]), (0, int(layer.padding[0])), (1, layer.dilation[0]))
    found = graph.add(Conv(layer.weight[:, :, None], bias, *window, layer.groups), image)
    return graph.reshaped(found, (graph.shapes[found][0], graph.shapes[found][2]))


def _matrix(graph: Graph, x: Traced, does: Callable[[Tensor], Tensor], bias: Tensor | None) -> int:
    """An affine map, written out; it may see several samples at once, but not mix them."""
    shape = x.probe.shape[1:]
    inputs = shape.numel()
    zero = does(torch.zeros((1, *shape), dtype=graph.dtype, device=graph.device))
    if zero.numel() * inputs > LARGEST:
        raise UnsupportedError(f"a matrix of {zero.numel()} x {inputs} is too large")
    basis = torch.eye(inputs, dtype=graph.dtype, device=graph.device).reshape(inputs, *shape)
    columns = (does(basis) - zero).flatten(1)
    added = zero.flatten() if bias is not None else graph.zeros(zero.numel())
    flat = graph.reshaped(x.value, (inputs,))
    found = graph.add(Linear(columns.T.contiguous(), added), flat)
    return graph.reshaped(found, tuple(zero.shape[1:]))


def function_of(
    graph: Graph, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
) -> int | None:
    """The value behind a function or method of traced tensors; None if it is not known here.

    Raises:
        UnsupportedError: It is, but not as it is called.
    """
    call = _Call(graph, args, kwargs, result)
    x = args[0]
    if name in ("cat", "concat", "concatenate"):
        return _together(call)
    if not isinstance(x, Traced):
        return None
    match name:
        case "abs" | "absolute":
            turned = graph.add(Relu(), scaled(graph, x.value, -1.0))
            return plus(graph, graph.add(Relu(), x.value), turned)
        case "clamp" | "clip" | "clamp_min" | "clamp_max" | "relu6":
            low, high = call.argument(1, "min"), call.argument(2, "max")
            if name == "clamp_max":
                low, high = None, call.argument(1, "max")
            return clipped(graph, x.value, _constant(call, low), _constant(call, high))
        case "maximum" | "minimum" | "max" | "min" if (
            other := call.argument(1, "other")
        ) is not None and isinstance(other, Traced | Tensor):
            return _extreme(call, x, other, 1.0 if name.startswith("max") else -1.0)
        case "amax" | "amin":
            return _over_axes(call, x, 1.0 if name == "amax" else -1.0)
        case "mean" | "sum":
            return _summed(call, x, name)
        case "prelu":
            slope = _by_channel(call.argument(1, "weight"), x.probe.dim())
            return leaky(graph, x.value, slope)
        case "sign" | "floor" | "ceil" | "round" if len(args) == 1 and not kwargs:
            return graph.add(Smooth(_JUMPS[name]), x.value)
    return None


def _constant(call: _Call, end: Any) -> Any:
    """Of one sample."""
    if isinstance(end, Traced):
        raise UnsupportedError("an end depends on the image")
    if isinstance(end, Tensor) and end.dim() == call.result.dim():
        if len(end) > 1:
            raise UnsupportedError("it treats samples differently")
        return end[0]
    return end


def _extreme(call: _Call, x: Traced, other: Traced | Tensor, sign: float) -> int:
    if call.result.shape != x.probe.shape:
        raise UnsupportedError("it changes the shape of its first input")
    if isinstance(other, Tensor):
        return at_least(call.graph, x.value, _constant(call, other), sign)
    if other.probe.shape != x.probe.shape:
        raise UnsupportedError("its inputs are of several shapes")
    return larger(call.graph, x.value, other.value, sign)


def _together(call: _Call) -> int | None:
    parts, axis = call.args[0], call.argument(1, "dim", 0)
    traced = [one for one in parts if isinstance(one, Traced)]
    if not traced or len(traced) != len(parts):
        raise UnsupportedError("it has a constant among its parts")
    dim = traced[0].probe.dim()
    axis = axis % dim - 1
    if axis < 0:
        raise UnsupportedError("it puts samples together")
    graph, shape, first, placed = call.graph, call.result.shape[1:], 0, []
    for one in traced:
        moved = graph.zeros(*shape).double()
        size = one.probe.shape[axis + 1]
        moved.narrow(axis, first, size).copy_(graph.places(one.value))
        placed.append(graph.rearranged(one.value, moved))
        first += size
    if len(placed) == 1:
        return placed[0]
    return graph.add(Sum((1.0,) * len(placed), apart=True), *placed)


def _axes_of(call: _Call, x: Traced, name: str) -> tuple[list[int], bool]:
    """Axes of one sample, and whether they are kept."""
    given = call.argument(1, name)
    axes = list(range(x.probe.dim())) if given is None else given
    axes = [axes] if isinstance(axes, int) else list(axes)
    axes = sorted({axis % x.probe.dim() - 1 for axis in axes})
    if not axes or axes[0] < 0:
        raise UnsupportedError("it puts samples together")
    return axes, bool(call.argument(2, "keepdim", False))


def _summed(call: _Call, x: Traced, name: str) -> int:
    axes, keep = _axes_of(call, x, "dim")
    batched = [axis + 1 for axis in axes]
    total = _matrix(call.graph, x, lambda some: some.sum(batched, keepdim=keep), None)
    if name == "sum":
        return total
    count = np.prod([x.probe.shape[axis] for axis in batched])
    return scaled(call.graph, total, 1 / float(count))


def _over_axes(call: _Call, x: Traced, sign: float) -> int:
    """The largest entries, as a pooling of them in a row; the smallest by turned signs."""
    graph = call.graph
    axes, _ = _axes_of(call, x, "dim")
    value = x.value if sign > 0 else scaled(graph, x.value, -1.0)
    places = graph.places(value)
    last = places.movedim(axes, list(range(-len(axes), 0)))
    rows = last.reshape(1, -1, int(np.prod([places.shape[axis] for axis in axes])))
    seen = graph.rearranged(value, rows)
    kernel = (1, rows.shape[2])
    found = graph.add(MaxPool(kernel, kernel, (0, 0)), graph.reshaped(seen, tuple(rows.shape)))
    found = graph.reshaped(found, tuple(call.result.shape[1:]))
    return found if sign > 0 else scaled(graph, found, -1.0)


def batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> tuple[Tensor, Tensor, MadeOf]:
    """Factor and constant of each channel of x (N, C, ...), to be broadcast over one sample."""
    mean, var = layer.running_mean, layer.running_var
    if layer.training:
        rest = [axis for axis in range(x.dim()) if axis != 1]
        var, mean = torch.var_mean(x, rest, correction=0)
    assert mean is not None
    assert var is not None
    weight = (var + layer.eps).rsqrt()
    if layer.affine:
        weight = weight * layer.weight
    bias = -mean * weight
    if layer.affine:
        bias = bias + layer.bias
    with torch.no_grad():
        one, zero = torch.ones_like(mean), torch.zeros_like(mean)
        parts = (layer.weight, layer.bias) if layer.affine else (one, zero)
        made_of = normalised(*parts, mean, var + layer.eps)
    shape = (-1, *[1] * (x.dim() - 2))
    made_of = MadeOf(*(part.reshape(shape) for part in made_of))
    return weight.reshape(shape), bias.reshape(shape), made_of


def parts_of(args: Any) -> list[Any]:
    return [b for a in args for b in (a if isinstance(a, tuple | list) else [a])]


def at_probe(some: Any) -> Any:
    if isinstance(some, Traced):
        return some.probe
    if isinstance(some, tuple | list) and any(isinstance(one, Traced) for one in some):
        return [at_probe(one) for one in some]
    return some
