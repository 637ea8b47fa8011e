"""Puts a network together, layer by layer, whatever it is read from."""

from collections import Counter
from dataclasses import replace

import torch
from torch import Tensor

from robsweep.tasks.verification.reading.layers import (
    Affine,
    Conv,
    Gather,
    Layer,
    Linear,
    MadeOf,
    Network,
    Pair,
    Reshape,
    Scale,
    Step,
    Sum,
    apply,
)


class Graph:
    """The layers gathered so far; value 0 is the image."""

    def __init__(
        self, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float64
    ) -> None:
        self.device, self.dtype = device, dtype
        self.layers: list[Layer] = []
        self.shapes = [shape]
        self.inputs: list[tuple[int, ...]] = []
        self.follows = True  # whether what runs follows these layers, up to their rounding
        # By value that passes through softmaxes where it runs: which of its entries go together.
        self.softmaxes: dict[int, list[list[int]]] = {}

    def add(self, layer: Layer, *read: int) -> int:
        """The new value: what `layer` makes of the values that it reads."""
        zeros = (self.zeros(1, *self.shapes[v]) for v in read)
        with torch.no_grad():
            self.shapes.append(tuple(apply(layer, *zeros).shape[1:]))
        self.layers.append(layer)
        self.inputs.append(read)
        return len(self.layers)

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def reshaped(self, value: int, shape: tuple[int, ...]) -> int:
        if value and isinstance(self.layers[value - 1], Reshape):
            (value,) = self.inputs[value - 1]
        return value if self.shapes[value] == shape else self.add(Reshape(shape), value)

    def scaled(
        self, value: int, weight: Tensor, bias: Tensor, made_of: MadeOf | None = None
    ) -> int:
        """Value * weight + bias, both broadcast over the value's shape, as are what they are of."""

        def full(part: Tensor) -> Tensor:
            return part.to(self.device, self.dtype).expand(self.shapes[value]).clone()

        parts = None if made_of is None else MadeOf(*map(full, made_of))
        return self.add(Scale(full(weight), full(bias), parts), value)

    def joined(self, values: list[int]) -> int:
        """All entries of some values, one behind the other: (n,)."""
        sizes = [torch.Size(self.shapes[v]).numel() for v in values]
        parts, first = [], 0
        for value, size in zip(values, sizes, strict=True):
            if len(values) == 1:
                return self.reshaped(value, (size,))
            index = torch.full((sum(sizes),), -1, device=self.device)
            index[first : first + size] = torch.arange(size, device=self.device)
            parts.append(self.add(Gather(index), value))
            first += size
        return self.add(Sum((1.0,) * len(parts), apart=True), *parts)

    def places(self, value: int) -> Tensor:
        """Numbers the entries of a value from 1: float64 (*shape)."""
        shape = self.shapes[value]
        count = torch.arange(1, torch.Size(shape).numel() + 1, device=self.device)
        return count.double().reshape(shape)

    def rearranged(self, value: int, moved: Tensor, fill: float = 0.0) -> int:
        """Transposing, slicing, padding with `fill`, ...

        Args:
            moved: What the operation makes of `places(value)`; 0 where it pads.
        """
        index = moved.round().long() - 1
        plain = torch.arange(index.numel(), device=index.device)
        if torch.equal(index.flatten(), plain) and index.numel() == self.places(value).numel():
            return self.reshaped(value, tuple(index.shape))
        return self.add(Gather(index.to(self.device), fill), value)

    def averaged(
        self, value: int, kernel: Pair, stride: Pair, padding: Pair, divisor: int | None
    ) -> int:
        """Average pooling: sums, which may overflow where the averages do not, and their scale.

        Args:
            divisor: What the sums are divided by; None counts what is not padding.
        """
        channels = self.shapes[value][0]
        weight = self.zeros(channels, 1, *kernel) + 1
        pool = Conv(weight, self.zeros(channels), stride, padding, groups=channels)
        pooled = self.add(pool, value)
        if divisor is not None:
            return self.scaled(pooled, self.zeros() + 1 / divisor, self.zeros())
        counts = apply(pool, self.zeros(1, *self.shapes[value]) + 1)[0]
        return self.scaled(pooled, 1 / counts, self.zeros())

    def network(self, output: int) -> Network:
        """The layers that `output` needs, with scales folded into the layers before them."""
        needed = {output}
        for k in range(len(self.layers) - 1, -1, -1):
            if k + 1 in needed:
                needed.update(self.inputs[k])
        readers = Counter(v for k, read in enumerate(self.inputs) if k + 1 in needed for v in read)
        built, now = Graph(self.shapes[0], self.device, self.dtype), {0: 0}
        steps: list[tuple[Step, ...]] = []
        for k, (layer, read) in enumerate(zip(self.layers, self.inputs, strict=True)):
            if k + 1 not in needed:
                continue
            last = built.layers[-1] if built.layers else None
            alone = readers[read[0]] == 1 and now[read[0]] == len(built.layers)
            folded = _folded(last, layer) if isinstance(layer, Scale) and alone else None
            if folded is None:
                now[k + 1] = built.add(layer, *(now[v] for v in read))
                steps.append((Step(layer),))
            else:
                built.layers[-1] = folded
                now[k + 1] = len(built.layers)
                steps[-1] += (Step(layer),)
        known = tuple(steps) if self.follows else None
        return Network(tuple(built.layers), tuple(built.shapes), tuple(built.inputs), known)


def _folded(layer: Layer | None, scale: Scale) -> Layer | None:
    """One layer for an affine one and the scale after it, if the scale is one per channel."""
    weight, bias = scale.weight, scale.bias
    match layer:
        case Scale():
            return Scale(weight * layer.weight, weight * layer.bias + bias)
        case Linear():
            return Linear(weight[:, None] * layer.weight, weight * layer.bias + bias)
        case Conv() if not (_varies(weight) or _varies(bias)):
            weight, bias = weight[:, 0, 0], bias[:, 0, 0]
            return replace(
                layer,
                weight=weight[:, None, None, None] * layer.weight,
                bias=weight * layer.bias + bias,
            )
    return None


def _varies(value: Tensor) -> bool:
    flat = value.flatten(1)
    return not torch.equal(flat, flat[:, :1].expand_as(flat))


def in_float32_as(network: Network, single: Network) -> Network:
    """A network with how far its numbers may be off as it runs.

    Twice the difference is allowed for: library functions of other machines may round otherwise.

    Args:
        single: The same, read with its constants computed in float32; or this, if the network has
            those of float32 already.
    """
    if network.steps is None or single.steps is None:
        return network.over_reals()
    if network.shapes != single.shapes or network.inputs != single.inputs:
        return network.over_reals()
    steps = []
    for one, two in zip(network.steps, single.steps, strict=True):
        if len(one) != len(two):
            return network.over_reals()
        pairs = [(a, b.layer) for a, b in zip(one, two, strict=True)]
        if not all(_alike(a.layer, other) for a, other in pairs):
            return network.over_reals()
        steps.append(tuple(a._replace(off=_off(a.layer, other)) for a, other in pairs))
    return network._replace(steps=tuple(steps))


def _alike(layer: Layer, other: Layer) -> bool:
    """Whether two layers are the same but for the numbers of affine ones."""
    if type(layer) is not type(other):
        return False
    if isinstance(layer, Gather) and isinstance(other, Gather):
        return torch.equal(layer.index, other.index) and layer.fill == other.fill
    return isinstance(layer, Affine) or layer == other


def _off(layer: Layer, single: Layer) -> Affine | None:
    if not isinstance(layer, Affine) or not isinstance(single, Affine):
        return None
    weight, bias = (
        2 * (one - other.to(one)).abs()
        for one, other in ((layer.weight, single.weight), (layer.bias, single.bias))
    )
    return replace(layer, weight=weight, bias=bias) if weight.any() or bias.any() else None
