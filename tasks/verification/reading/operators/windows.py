"""ONNX's convolutions and poolings, in one, two or three dimensions."""

from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import Conv, MaxPool, Pair
from robsweep.tasks.verification.reading.onnx.reference import Numbers
from robsweep.tasks.verification.reading.operators.values import (
    LARGEST,
    Node,
    UnsupportedError,
    Value,
    linear,
    moved,
    scaled,
    size_of,
    tensor,
)


class Axis(NamedTuple):
    """How windows lie along one axis."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int
    dilation: int
    ceil: bool

    @property
    def reach(self) -> int:
        return self.dilation * (self.kernel - 1) + 1

    @property
    def outputs(self) -> int:
        free = self.size + self.before + self.after - self.reach
        if free < 0:
            raise UnsupportedError("its windows are larger than its input")
        count = free // self.stride + 1
        # one more window where some of it is left over, if it begins inside
        begins = count * self.stride < self.size + self.before
        return count + 1 if self.ceil and free % self.stride and begins else count

    @property
    def plain(self) -> bool:
        """Padded alike on both sides, and each window ends inside."""
        free = self.size + self.before + self.after - self.reach
        return self.before == self.after and self.outputs == free // self.stride + 1

    def taps(self) -> NDArray[np.int64]:
        """(outputs, kernel): which place each window sees; outside of [0, size) is padding."""
        first = np.arange(self.outputs)[:, None] * self.stride - self.before
        places: NDArray[np.int64] = first + np.arange(self.kernel) * self.dilation
        return places


def _axes(node: Node, dims: tuple[int, ...], kernel: tuple[int, ...]) -> list[Axis]:
    count = len(dims) - 2
    if count not in (1, 2, 3) or len(kernel) != count:
        raise UnsupportedError(f"its input has shape {dims}, its windows {kernel}")
    if dims[0] != 1:
        raise UnsupportedError(f"it is asked for a batch of {dims[0]}")
    strides, dilations = (
        _numbers(node, name, [1] * count, least=1) for name in ("strides", "dilations")
    )
    pads = _numbers(node, "pads", [0] * (2 * count))
    if len(strides) != count or len(dilations) != count or len(pads) != 2 * count:
        raise UnsupportedError("strides, dilations or pads do not fit its input")
    auto = node.attributes.get("auto_pad", b"NOTSET").decode()
    if auto not in ("NOTSET", "", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedError(f"auto_pad {auto} is unknown")
    if auto not in ("NOTSET", "") and any(pads):
        raise UnsupportedError(f"it has both pads and auto_pad {auto}")
    ceil = bool(node.attributes.get("ceil_mode", 0))
    if auto.startswith("SAME") and (ceil or any(one != 1 for one in dilations)):
        raise UnsupportedError(f"it has ceil_mode or dilations beside auto_pad {auto}")
    found = []
    for i in range(count):
        ends = (pads[i], pads[count + i])
        axis = Axis(dims[2 + i], kernel[i], strides[i], *ends, dilations[i], ceil)
        if auto.startswith("SAME"):
            needed = (-(-axis.size // axis.stride) - 1) * axis.stride + axis.reach - axis.size
            small, large = max(needed, 0) // 2, -(-max(needed, 0) // 2)
            ends = (small, large) if auto == "SAME_UPPER" else (large, small)
            axis = axis._replace(before=ends[0], after=ends[1])
        found.append(axis)
    _check_size(dims[1], found)
    return found


def _check_size(channels: int, axes: list[Axis]) -> None:
    """Raises: UnsupportedError: Windows that do not fit, or too much to look at."""
    padded = prod(axis.size + axis.before + axis.after for axis in axes)
    if channels * max(padded, prod(axis.outputs for axis in axes)) > LARGEST:
        raise UnsupportedError(f"{padded} places with their padding are too many")


def _numbers(node: Node, name: str, default: list[int], least: int = 0) -> list[int]:
    found = [int(one) for one in node.attributes.get(name, default)]
    if any(one < least for one in found):
        raise UnsupportedError(f"{name} {found}")
    return found


def _kernel(node: Node) -> tuple[int, ...]:
    found = _numbers(node, "kernel_shape", [], least=1)
    if not found:
        raise UnsupportedError("it has no kernel_shape")
    if any(p >= k for p, k in zip(node.attributes.get("pads", []), found * 2, strict=False)):
        raise UnsupportedError("its pads are not smaller than its windows")
    return tuple(found)


def conv(node: Node) -> Value:
    x, weight, bias, graph = node.only(), node.constant(1), node.constant(2), node.graph
    if weight is None or weight.ndim < 3 or weight.ndim != len(x.dims) or 0 in weight.shape:
        raise UnsupportedError("its kernel does not fit its input")
    groups, kernel = node.attributes.get("group", 1), weight.shape[2:]
    if tuple(node.attributes.get("kernel_shape", kernel)) != kernel:
        raise UnsupportedError("its kernel_shape is not that of its kernel")
    if groups < 1 or weight.shape[1] * groups != x.dims[1] or len(weight) % groups:
        raise UnsupportedError("its groups do not fit its channels")
    shift = np.zeros(len(weight)) if bias is None else bias
    if shift.shape != (len(weight),):
        raise UnsupportedError("its bias does not fit its channels")
    axes = _axes(node, x.dims, kernel)
    if len(axes) == 3:
        return _conv3d(graph, x, (tensor(weight), shift), axes, groups)
    if len(axes) == 1:
        weight, axes = weight[:, :, None], [Axis(1, 1, 1, 0, 0, 1, False), *axes]
    image, padding = _padded(graph, _as_image(graph, x), axes)
    stride, dilation = (axes[0].stride, axes[1].stride), (axes[0].dilation, axes[1].dilation)
    layer = Conv(tensor(weight), tensor(shift), stride, padding, dilation, groups)
    return _shaped(graph, graph.add(layer, image.value), x, axes, len(weight))


def _conv3d(
    graph: Graph, x: Value, numbers: tuple[Tensor, Numbers], axes: list[Axis], groups: int
) -> Value:
    sides = [end for axis in reversed(axes) for end in (axis.before, axis.after)]
    stride, dilation = [a.stride for a in axes], [a.dilation for a in axes]
    weight, bias = numbers

    def does(value: Tensor) -> Tensor:
        wide = F.pad(value, sides)
        return F.conv3d(wide, weight, None, stride, 0, dilation, groups)

    return linear(graph, x, does, bias.reshape(-1, 1, 1, 1))


def conv_transposed(node: Node) -> Value:
    """Written out as a matrix."""
    x, weight, bias, graph = node.only(), node.constant(1), node.constant(2), node.graph
    if weight is None or weight.ndim != len(x.dims) or weight.ndim not in (3, 4, 5):
        raise UnsupportedError("its kernel does not fit its input")
    if node.attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b""):
        raise UnsupportedError("it has auto_pad")
    count, groups = weight.ndim - 2, node.attributes.get("group", 1)
    if tuple(node.attributes.get("kernel_shape", weight.shape[2:])) != weight.shape[2:]:
        raise UnsupportedError("its kernel_shape is not that of its kernel")
    if x.dims[0] != 1 or len(weight) != x.dims[1] or groups < 1 or len(weight) % groups:
        raise UnsupportedError("its groups do not fit its channels")
    channels = weight.shape[1] * groups
    if bias is not None and bias.shape != (channels,):
        raise UnsupportedError("its bias does not fit its channels")
    stride, dilation = (
        _numbers(node, name, [1] * count, least=1) for name in ("strides", "dilations")
    )
    more, pads = (
        _numbers(node, name, [0] * n)
        for name, n in (("output_padding", count), ("pads", 2 * count))
    )
    if [len(stride), len(dilation), len(more), len(pads)] != [count] * 3 + [2 * count]:
        raise UnsupportedError("strides, dilations or pads do not fit its input")
    if any(m >= max(s, d) for m, s, d in zip(more, stride, dilation, strict=True)):
        raise UnsupportedError("its output_padding is not smaller than its strides")
    reach = [(n - 1) * s + (k - 1) * d + 1 + m for n, s, k, d, m in zip(
        x.dims[2:], stride, weight.shape[2:], dilation, more, strict=True)]  # fmt: skip
    if channels * prod(reach) > LARGEST:
        raise UnsupportedError(f"its output has {channels * prod(reach)} entries")
    does_it = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[count - 1]
    kernel = tensor(weight)

    def does(value: Tensor) -> Tensor:
        wide = does_it(value, kernel, None, stride, 0, 0, groups, dilation)
        sides = [end for i in reversed(range(count))
                 for end in (-pads[i], more[i] - pads[count + i])]  # fmt: skip
        result: Tensor = F.pad(wide, sides)
        return result

    shift = None if bias is None else bias.reshape(-1, *[1] * count)
    return linear(graph, x, does, shift)


def max_pooled(node: Node) -> Value:
    x = node.only()
    whole = node.kind == "GlobalMaxPool"
    return largest_in(node.graph, x, _axes(node, x.dims, x.dims[2:] if whole else _kernel(node)))


def largest_in(graph: Graph, x: Value, axes: list[Axis]) -> Value:
    """The largest entry in each window; padding is none."""
    if _is_layer(axes):
        window = ((a.kernel for a in axes), (a.stride for a in axes), (a.before for a in axes))
        layer = MaxPool(*(_pair(one) for one in window))
        return _shaped(graph, graph.add(layer, _as_image(graph, x).value), x, axes, x.dims[1])
    taps, inside = _windows(x, axes)
    if not inside.any(1).all():
        raise UnsupportedError("a window sees padding alone")
    # what lies outside is replaced by what the window sees anyway
    first = taps[np.arange(len(taps)), inside.argmax(1)]
    seen = _spread(graph, x, np.where(inside, taps, first[:, None]))
    kernel = (1, seen.dims[2])
    pool = MaxPool(kernel, kernel, (0, 0))
    return _shaped(graph, graph.add(pool, seen.value), x, axes, x.dims[1])


def averaged(node: Node) -> Value:
    x = node.only()
    whole = node.kind == "GlobalAveragePool"
    axes = _axes(node, x.dims, x.dims[2:] if whole else _kernel(node))
    counted = bool(node.attributes.get("count_include_pad", 0))
    return average_in(node.graph, x, axes, padding_counts=counted)


def average_in(
    graph: Graph, x: Value, axes: list[Axis], *, padding_counts: bool, divisor: int | None = None
) -> Value:
    """The mean of each window, in which padding is 0.

    Args:
        divisor: What sums are divided by, in place of how much there is in a window.
    """
    if _is_layer(axes, averaged=True):
        image = _as_image(graph, x).value
        padding = _pair(a.before for a in axes)
        kernel = _pair(a.kernel for a in axes)
        count = prod(kernel) if padding_counts or not any(padding) else None
        stride = _pair(a.stride for a in axes)
        value = graph.averaged(image, kernel, stride, padding, divisor or count)
        return _shaped(graph, value, x, axes, x.dims[1])
    taps, inside = _windows(x, axes)
    counts = _counts(axes) if padding_counts else inside.sum(1)
    if divisor is not None:
        counts = np.full_like(counts, divisor)
    if not counts.all():
        raise UnsupportedError("a window sees padding alone")
    seen = _spread(graph, x, np.where(inside, taps, -1))
    channels, places, many = seen.dims
    ones = torch.ones(channels, 1, 1, many, dtype=graph.dtype, device=graph.device)
    layer = Conv(ones, graph.zeros(channels), (1, many), groups=channels)
    total = Value(graph.add(layer, seen.value), (channels, places, 1), x.dtype)
    shares = scaled(graph, total, 1 / counts[:, None])
    return _shaped(graph, shares.value, x, axes, channels)


def _counts(axes: list[Axis]) -> NDArray[np.int64]:
    """How many places each window sees where padding counts, but not what lies beyond it."""
    many = np.ones(1, dtype=np.int64)
    for axis in axes:
        taps = axis.taps()
        seen = (taps < axis.size + axis.after).sum(1)
        many = np.multiply.outer(many, seen).ravel()
    return many


def _is_layer(axes: list[Axis], *, averaged: bool = False) -> bool:
    """Whether it is a pooling as torch has it, in two dimensions."""
    return len(axes) == 2 and all(
        axis.plain and axis.dilation == 1 and (2 * axis.before <= axis.kernel or averaged)
        for axis in axes
    ) and (not averaged or all(axis.before < axis.kernel for axis in axes))  # fmt: skip


def _windows(x: Value, axes: list[Axis]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(windows, kernel size): the places that they see in one channel, and which are inside."""
    taps, inside = np.zeros((1, 1), dtype=np.int64), np.ones((1, 1), dtype=bool)
    many = prod(axis.outputs * axis.kernel for axis in axes) * x.dims[1]
    if many > LARGEST:
        raise UnsupportedError(f"windows of {many} places are too many")
    for axis in axes:
        here = axis.taps()
        within = (here >= 0) & (here < axis.size)
        taps = taps[:, None, :, None] * axis.size + here[None, :, None, :]
        inside = inside[:, None, :, None] & within[None, :, None, :]
        windows = taps.shape[0] * taps.shape[1]
        taps, inside = taps.reshape(windows, -1), inside.reshape(windows, -1)
    return taps, inside


def _spread(graph: Graph, x: Value, taps: NDArray[np.int64]) -> Value:
    """(channels, windows, kernel size): what each window sees; -1 is 0."""
    channels = x.dims[1]

    def does(places: Numbers) -> Numbers:
        flat = np.concatenate([places.reshape(channels, -1), np.zeros((channels, 1))], 1)
        result: Numbers = flat[:, taps]
        return result

    return moved(graph, x, does)


def _as_image(graph: Graph, x: Value) -> Value:
    """(channels, height, width); a signal is an image of height 1."""
    dims = (x.dims[1], *([1] if len(x.dims) == 3 else []), *x.dims[2:])
    return Value(graph.reshaped(x.value, dims), dims, x.dtype)


def _padded(graph: Graph, image: Value, axes: list[Axis]) -> tuple[Value, Pair]:
    """An image, padded by itself where the layer behind it pads all sides alike."""
    if all(axis.before == axis.after for axis in axes):
        return image, _pair(axis.before for axis in axes)
    sides = ((0, 0), *((axis.before, axis.after) for axis in axes))
    return moved(graph, image, lambda places: np.pad(places, sides)), (0, 0)


def _shaped(graph: Graph, value: int, x: Value, axes: list[Axis], channels: int) -> Value:
    places = [axis.outputs for axis in axes][-(len(x.dims) - 2) :]
    dims = (1, channels, *places)
    if size_of(dims) != size_of(graph.shapes[value]):
        raise UnsupportedError(f"its output is not of shape {dims}")
    return Value(graph.reshaped(value, dims[1:]), dims, x.dtype)


def _pair(numbers: Any) -> Pair:
    first, second = numbers
    return int(first), int(second)
