"""The layers that can be verified, and the linear maps behind them. Everything is in float64."""

from dataclasses import dataclass
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Linear:
    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


@dataclass(frozen=True, eq=False)
class Conv:
    """Also average pooling and batch normalisation, with one group per channel."""

    weight: Tensor  # (out, in / groups, kernel height, kernel width)
    bias: Tensor  # (out,)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class MaxPool:
    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class Flatten:
    pass


Affine = Linear | Conv
Layer = Linear | Conv | Relu | MaxPool | Flatten


class Network(NamedTuple):
    """`shapes[k]` is the shape of what enters `layers[k]`; the last one is that of the logits."""

    layers: tuple[Layer, ...]
    shapes: tuple[tuple[int, ...], ...]


def weighted(layer: Affine, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The affine map of `layer` with other numbers in it, e.g. their absolute values."""
    if isinstance(layer, Linear):
        return F.linear(x, weight, bias)
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def apply(layer: Layer, x: Tensor) -> Tensor:
    match layer:
        case Linear() | Conv():
            return weighted(layer, x, layer.weight, layer.bias)
        case Relu():
            return F.relu(x)
        case MaxPool():
            return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
        case Flatten():
            return x.flatten(1)


def transposed(layer: Affine, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Turns linear forms on the layer's output into forms on its input.

    Args:
        rows: (R, *output shape).
        shape: Of the input.

    Returns:
        (R, *shape), without what the bias adds.
    """
    if isinstance(layer, Linear):
        return rows @ layer.weight
    unseen = [
        shape[1 + i]
        + 2 * layer.padding[i]
        - layer.dilation[i] * (layer.weight.shape[2 + i] - 1)
        - layer.stride[i] * (rows.shape[2 + i] - 1)
        - 1
        for i in (0, 1)
    ]
    return F.conv_transpose2d(
        rows,
        layer.weight,
        None,
        layer.stride,
        layer.padding,
        unseen,
        layer.groups,
        layer.dilation,
    )


def bias_of(layer: Affine, rows: Tensor) -> Tensor:
    """What the bias adds to linear forms on the layer's output: (R, *output shape) -> (R,)."""
    if isinstance(layer, Linear):
        return rows @ layer.bias
    return rows.flatten(2).sum(2) @ layer.bias


def windows(pool: MaxPool, x: Tensor, fill: float) -> Tensor:
    """What each output of a pooling layer sees: (N, C, H, W) -> (N, C, H', W', kernel size)."""
    (top, left), (height, width) = pool.padding, pool.kernel
    padded = F.pad(x, (left, left, top, top), value=fill)
    return padded.unfold(2, height, pool.stride[0]).unfold(3, width, pool.stride[1]).flatten(4)
