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

from robsweep.tasks.verification.reading.layers import (
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

UNIT = 2.0**-24
TINY = 2.0**-126  # the smallest normal number
LARGEST = torch.finfo(torch.float32).max
# Roundings beside those of the sum: of constants, of a batch normalisation's factor, of its fusion
# with the layer before it, of an average's division.
_FURTHER = 10
_CURVE = 16 * UNIT  # of library functions, times 1 + |x|; they claim to be off by a few units
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
    match network.layers[layer]:
        case Linear() | Conv() | Scale():
            found = _of_steps(network.steps[layer], sizes[0])
        case Smooth() as smooth:
            extra = _SOFTPLUS if smooth.curve == "softplus" else 0.0
            found = _CURVE * (1 + sizes[0]) + extra
        case Sum() as branches:
            terms = [abs(f) * size for f, size in zip(branches.factors, sizes, strict=True)]
            total = torch.stack(terms).sum(0)
            found = _in_range(gamma(len(terms) + _FURTHER) * total + TINY * (len(terms) + 1), total)
        case Gather() as moved if moved.fill:
            filled = (moved.index < 0).to(sizes[0])
            found = (UNIT * abs(moved.fill) * filled).expand(len(sizes[0]), *moved.index.shape)
        case Relu() | MaxPool() | Reshape() | Gather():
            return None
    return (_ABOVE * found).nan_to_num(torch.inf, torch.inf)


def gamma(count: int) -> float:
    """What `count` roundings amount to, relative to what is rounded."""
    part = count * UNIT
    return part / (1 - part) if part < 0.5 else math.inf


def _of_steps(steps: tuple[Step, ...], size: Tensor) -> Tensor:
    """One affine operation after the other; each passes on what the ones before it have added."""
    error = torch.zeros_like(size)
    for layer, off in steps:
        assert isinstance(layer, Affine)
        weight, bias = layer.weight.abs(), layer.bias.abs()
        carried = weighted(layer, error, weight, torch.zeros_like(bias))
        if off is not None:
            carried = carried + weighted(off, size, off.weight, off.bias)
            weight, bias = weight + off.weight, bias + off.bias
        error = carried + _of_sums(layer, size, weight, bias)
        size = weighted(layer, size, weight, bias) + error
    return error


def _of_sums(layer: Affine, size: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """What rounding adds to sums of products.

    Args:
        size: Of what the layer reads, (N, *shape).
        weight: How large its numbers are at most, as is the bias.
    """
    used = (weight > 0).to(weight)
    reach: Tensor | float = 1.0
    terms = 1
    if not isinstance(layer, Scale):
        terms = int(used.flatten(1).sum(1).max().item())
    elif layer.made_of is not None:
        bias, reach = torch.maximum(bias, layer.made_of.size), layer.made_of.reach
    total = weighted(layer, size, weight, bias)
    # of factors, products and sums alike, each no more than the smallest normal number
    vanishing = reach * weighted(layer, size + 1, weight + used, torch.full_like(bias, 4.0))
    largest = torch.maximum(total, vanishing) if isinstance(layer, Scale) else total
    return _in_range(gamma(terms + 1 + _FURTHER) * total + TINY * vanishing, largest)


def _in_range(error: Tensor, total: Tensor) -> Tensor:
    """Infinite where a partial sum may overflow."""
    return torch.where(total < LARGEST / 2, error, torch.inf)
