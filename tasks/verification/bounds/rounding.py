"""What computing a layer in float32 may add to its values, whatever the order of its sums.

A sum of n products, computed in float32, is the sum of these products, each times a factor between
1 - gamma and 1 + gamma: gamma = k u / (1 - k u) for the unit roundoff u, where k is how often a
term is rounded. That is at most n + 1 times in every order, with fused multiply-adds or without.
What is too small for a normal number may also be taken for 0, as some processors do.

So a network as it runs is one whose values are each off by what is added here. Bounds hold for all
such networks at once, of which the one over the reals is one too.

Source: Higham 2002, Accuracy and Stability of Numerical Algorithms, sections 2.2, 3.1 and 3.5.
"""

import math

import torch
from torch import Tensor

from robsweep.tasks.verification.reading.curves import JUMPS
from robsweep.tasks.verification.reading.layers import (
    UNIT,
    Affine,
    Conv,
    Gather,
    Linear,
    MaxPool,
    Network,
    Relu,
    Reshape,
    Scale,
    Smooth,
    Step,
    Sum,
    weighted,
)

TINY = 2.0**-126  # the smallest normal number
LARGEST = torch.finfo(torch.float32).max
SCALED_DOWN = 2.0**-20  # by how much a factor of an operation may scale down its sums
# Roundings beside those of the sum: of constants, of a batch normalisation's factor, of its fusion
# with the layer before it, of an average's division.
_FURTHER = 10
_CURVE = 16  # units that library functions may be off by, times 1 + |x|; they claim a few
_SOFTPLUS = 2.1e-9  # what torch leaves out from 20 on
_ABOVE = 1 + 1e-9  # more than what the float64 sums here are off by


def added(network: Network, layer: int, sizes: list[Tensor]) -> Tensor | None:
    """How far a layer's values in float32 may be from what the layer is of those that it reads.

    Args:
        sizes: What those do not exceed there, (N, *shape) each.

    Returns:
        (N, *output shape), infinite where it may overflow; None for nothing.
    """
    if network.steps is None:
        return None
    unit = network.unit
    match network.layers[layer]:
        case Linear() | Conv() | Scale() as layer_once if not network.steps[layer]:
            weight, bias = layer_once.weight.abs(), layer_once.bias.abs()
            found = 2 * unit * weighted(layer_once, sizes[0], weight, bias) + TINY
        case Linear() | Conv() | Scale():
            found = _of_steps(network.steps[layer], sizes[0], unit)
        case Smooth() as jump if jump.curve in JUMPS:
            return None
        case Smooth() as smooth:
            extra = _SOFTPLUS if smooth.curve == "softplus" else 0.0
            found = _CURVE * unit * (1 + sizes[0]) + extra
        case Sum() as parts if parts.apart:
            return None
        case Sum() as branches:
            terms = [abs(f) * size for f, size in zip(branches.factors, sizes, strict=True)]
            counts = [_terms_of(network, value) for value in network.inputs[layer]]
            total = torch.stack(terms).sum(0)
            # a branch may be where the sums of the others begin
            rounded = [
                gamma(len(terms) + sum(counts) - own + _FURTHER, unit) * term
                for term, own in zip(terms, counts, strict=True)
            ]
            found = _in_range(torch.stack(rounded).sum(0) + TINY * (len(terms) + 1), total)
        case Gather() as moved if moved.fill:
            filled = (moved.index < 0).to(sizes[0])
            found = (unit * abs(moved.fill) * filled).expand(len(sizes[0]), *moved.index.shape)
        case Relu() | MaxPool() | Reshape() | Gather():
            return None
    return (_ABOVE * found).nan_to_num(torch.inf, torch.inf)


def gamma(count: int, unit: float = UNIT) -> float:
    """What `count` roundings amount to, relative to what is rounded."""
    part = count * unit
    return part / (1 - part) if part < 0.5 else math.inf


def _of_steps(steps: tuple[Step, ...], size: Tensor, unit: float) -> Tensor:
    """One affine operation after the other; each passes on what the ones before it have added.

    Its constants may be where the sums before it begin.
    """
    error, before = torch.zeros_like(size), 0
    for layer, off in steps:
        assert isinstance(layer, Affine)
        weight, bias = layer.weight.abs(), layer.bias.abs()
        carried = weighted(layer, error, weight, torch.zeros_like(bias))
        if off is not None:
            carried = carried + weighted(off, size, off.weight, off.bias)
            weight, bias = weight + off.weight, bias + off.bias
        error = carried + _of_sums(layer, size, weight, bias, before, unit)
        before += _terms(layer, weight)
        size = weighted(layer, size, weight, bias) + error
    return error


def _terms_of(network: Network, value: int) -> int:
    """How many terms the sums are of that a value is computed by."""
    while value and isinstance(network.layers[value - 1], Reshape):
        (value,) = network.inputs[value - 1]
    if not value or network.steps is None:
        return 0
    affine = (step.layer for step in network.steps[value - 1] if isinstance(step.layer, Affine))
    return sum(_terms(layer, layer.weight) for layer in affine)


def _terms(layer: Affine, weight: Tensor) -> int:
    return 1 if isinstance(layer, Scale) else int((weight != 0).flatten(1).sum(1).max().item())


def _of_sums(
    layer: Affine, size: Tensor, weight: Tensor, bias: Tensor, before: int, unit: float
) -> Tensor:
    """What rounding adds to sums of products.

    Args:
        size: Of what the layer reads, (N, *shape).
        weight: How large its numbers are at most, as is the bias.
        before: How many terms the layers before it add up whose sums may begin with the bias.
    """
    used = (weight > 0).to(weight)
    reach: Tensor | float = 1.0
    if isinstance(layer, Scale) and layer.made_of is not None:
        bias, reach = torch.maximum(bias, layer.made_of.size), layer.made_of.reach
    total = weighted(layer, size, weight, bias)
    # of factors, products and sums alike, each no more than the smallest normal number
    vanishing = reach * weighted(layer, size + 1, weight + used, torch.full_like(bias, 4.0))
    largest = torch.maximum(total, vanishing) if isinstance(layer, Scale) else total
    count = _terms(layer, weight) + 1 + _FURTHER
    rounded = weighted(layer, size, gamma(count, unit) * weight, gamma(count + before, unit) * bias)
    return _in_range(rounded + TINY * vanishing, largest)


def _in_range(error: Tensor, total: Tensor) -> Tensor:
    """Infinite where a partial sum may overflow, also one that is only scaled down afterwards."""
    return torch.where(total < LARGEST * SCALED_DOWN / 2, error, torch.inf)
