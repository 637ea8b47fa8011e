"""The layers that can be verified, and the linear maps behind them. Everything is in float64."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robsweep.tasks.verification.reading.curves import Curve, value_of
from robsweep.tasks.verification.reading.within import Within

Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Linear:
    weight: Tensor  # (out, in)
    bias: Tensor  # (out,)


@dataclass(frozen=True, eq=False)
class Conv:
    """Also average pooling, with one group per channel."""

    weight: Tensor  # (out, in / groups, kernel height, kernel width)
    bias: Tensor  # (out,)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


class MadeOf(NamedTuple):
    """What a batch normalisation's factor and constant are computed from: it may be large there."""

    size: Tensor  # (*shape), at least |weight * mean| + |shift|
    reach: Tensor  # (*shape), at least 1 and any of its parts, or a product of some of them


def normalised(scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> MadeOf:
    """Of (x - mean) / sqrt(variance) * scale + shift; all of one shape."""
    inverse = variance.rsqrt()
    size = (scale * inverse * mean).abs() + shift.abs()
    reach = (1 + scale.abs()) * (1 + inverse) * (1 + mean.abs())
    # what is no normal number in float32 may be taken for 0 there
    return MadeOf(size, torch.where(variance < 1e-37, torch.inf, reach))


@dataclass(frozen=True, eq=False)
class Scale:
    """Each value times its own factor, plus its own constant."""

    weight: Tensor  # (*shape)
    bias: Tensor  # (*shape)
    made_of: "MadeOf | None" = None


@dataclass(frozen=True)
class Relu:
    pass


@dataclass(frozen=True)
class Smooth:
    """An activation that is bounded, but never solved exactly."""

    curve: Curve


@dataclass(frozen=True)
class MaxPool:
    kernel: Pair
    stride: Pair
    padding: Pair


@dataclass(frozen=True)
class Reshape:
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Gather:
    """Transposing, padding, slicing: each output is one of the inputs, or `fill`."""

    index: Tensor  # (*output shape) int64, into the flattened input; -1 for `fill`
    fill: float = 0.0


@dataclass(frozen=True)
class Sum:
    """The sum of several inputs of one shape, each times its factor."""

    factors: tuple[float, ...]
    # whether it only puts them together: in each place, all but one of them are 0
    apart: bool = False


Affine = Linear | Conv | Scale
Layer = Linear | Conv | Scale | Relu | Smooth | MaxPool | Reshape | Gather | Sum
UNIT, DOUBLE = 2.0**-24, 2.0**-53  # of what float32 and float64 round, relative to it
BENT = (Relu, MaxPool, Smooth)  # what CROWN has to relax


class Network(NamedTuple):
    """Layers in an order in which each comes after what it reads.

    Value 0 is the image and value k + 1 what `layers[k]` returns; the last one is the logits.
    """

    layers: tuple[Layer, ...]
    shapes: tuple[tuple[int, ...], ...]  # of each value
    inputs: tuple[tuple[int, ...], ...]  # which values each layer reads
    # By layer: the operations that it is where the network runs; none of an affine layer: it is
    # rounded once. None: left out, or unknown.
    steps: "tuple[tuple[Step, ...], ...] | None" = None
    unit: float = UNIT  # of the precision in which it runs
    # Which entries of the last value pass through a softmax where it runs; left out here.
    softmaxes: tuple[tuple[int, ...], ...] = ()
    ends: tuple[int, ...] = ()  # the sizes of several outputs that the last value is made of
    within: Within | None = None  # what else than bounds is known of the image

    def up_to(self, value: int) -> "Network":
        """The layers that come before a value, which is the last one then."""
        steps = None if self.steps is None else self.steps[:value]
        return self._replace(
            layers=self.layers[:value],
            shapes=self.shapes[: value + 1],
            inputs=self.inputs[:value],
            steps=steps,
        )

    def over_reals(self) -> "Network":
        return self._replace(steps=None)


class Step(NamedTuple):
    """One operation as it runs. A layer may be several, one after the other, folded into one."""

    layer: Layer
    # how far its numbers in float32 may be off, as another layer; None: not at all
    off: Affine | None = None


def evaluate(network: Network, x: Tensor) -> list[Tensor]:
    """All values of a batch: float64 (N, *shape) each."""
    values = [x]
    for layer, read in zip(network.layers, network.inputs, strict=True):
        values.append(apply(layer, *(values[v] for v in read)))
    return values


def in_float32(network: Network) -> Network:
    """The same network, rounded: for searching, not for proving."""
    layers = (
        replace(one, weight=one.weight.float(), bias=one.bias.float())
        if isinstance(one, Affine)
        else one
        for one in network.layers
    )
    return network._replace(layers=tuple(layers))


def is_exact(network: Network) -> bool:
    """Whether a MILP can encode it; otherwise there are bounds only."""
    return not any(isinstance(layer, Smooth) for layer in network.layers)


def weighted(layer: Affine, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The affine map of `layer` with other numbers in it, e.g. their absolute values."""
    match layer:
        case Linear():
            return F.linear(x, weight, bias)
        case Scale():
            return x * weight + bias
    return F.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


def apply(layer: Layer, *inputs: Tensor) -> Tensor:
    x = inputs[0]
    match layer:
        case Linear() | Conv() | Scale():
            return weighted(layer, x, layer.weight, layer.bias)
        case Relu():
            return F.relu(x)
        case Smooth():
            return value_of(layer.curve, x)
        case MaxPool():
            return F.max_pool2d(x, layer.kernel, layer.stride, layer.padding)
        case Reshape():
            return x.reshape(len(x), *layer.shape)
        case Gather():
            flat = F.pad(x.flatten(1), (0, 1), value=layer.fill)  # index -1 is the last one
            return flat[:, layer.index]
        case Sum():
            terms = [f * value for f, value in zip(layer.factors, inputs, strict=True)]
            return torch.stack(terms).sum(0)


def transposed(layer: Affine, rows: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Turns linear forms on the layer's output into forms on its input.

    Args:
        rows: (R, *output shape).
        shape: Of the input.

    Returns:
        (R, *shape), without what the bias adds.
    """
    match layer:
        case Linear():
            return rows @ layer.weight
        case Scale():
            return rows * layer.weight
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
    match layer:
        case Linear():
            return rows @ layer.bias
        case Scale():
            return rows.flatten(1) @ layer.bias.flatten()
    return rows.flatten(2).sum(2) @ layer.bias


def ungathered(layer: Gather, rows: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Forms (R, *shape) on the input of a `Gather`, and what its constants add: (R,)."""
    index = layer.index.flatten()
    flat, real = rows.flatten(1), index >= 0
    spread = rows.new_zeros(len(rows), torch.Size(shape).numel())
    spread.index_add_(1, index[real], flat[:, real])
    return spread.reshape(-1, *shape), layer.fill * flat[:, ~real].sum(1)


def windows(pool: MaxPool, x: Tensor, fill: float) -> Tensor:
    """What each output of a pooling layer sees: (N, C, H, W) -> (N, C, H', W', kernel size)."""
    (top, left), (height, width) = pool.padding, pool.kernel
    padded = F.pad(x, (left, left, top, top), value=fill)
    return padded.unfold(2, height, pool.stride[0]).unfold(3, width, pool.stride[1]).flatten(4)
