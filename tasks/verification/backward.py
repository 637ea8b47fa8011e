"""CROWN's backward pass: linear forms on a layer, bounded from below by forms on the images.

Results are lowered by `SAFETY` times the largest bound up to the layer that the forms are on, 10^4
times what rounding adds up to: what is left holds in real arithmetic, so `lower > 0` is a proof.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.verification.intervals import Bounds
from tasks.verification.layers import (
    Conv,
    Flatten,
    Linear,
    MaxPool,
    Network,
    Relu,
    bias_of,
    transposed,
    windows,
)

SAFETY = 1e-9
# numbers in one tensor of backward rows: on a CPU they stay in its cache (2.7 times faster)
_CHUNK = {"cpu": 2**17, "cuda": 2**25}


def lower_bounds(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, *, back_to: int = 0
) -> Tensor:
    """Lower bounds on linear forms, carried back through the layers before them.

    Args:
        bounds: On what enters each layer, up to and with what the forms are on.
        rows: (R, *shape of bounds[-1]), the forms.
        owner: (R,) int64, which sample's box each form is over.
        back_to: The layer whose input bounds end the pass; 0 is the whole network.

    Returns:
        (R,).
    """
    size = _chunk(network, bounds)
    chunks = zip(torch.split(rows, size), torch.split(owner, size), strict=True)
    parts = [_carried(network, bounds, some, own, back_to) for some, own in chunks]
    return torch.cat(parts) - _safety(bounds)[owner]


def unit_bounds(network: Network, bounds: list[Bounds], owner: Tensor, unit: Tensor) -> Bounds:
    """Bounds on single values of the last of `bounds`.

    Args:
        owner: (R,) int64, the sample.
        unit: (R,) int64, index into its flattened values.

    Returns:
        Bounds, each (R,).
    """
    shape, size = bounds[-1].lower.shape[1:], _chunk(network, bounds)
    lower, upper = [], []
    for own, one in zip(torch.split(owner, size), torch.split(unit, size), strict=True):
        rows = F.one_hot(one, shape.numel()).double().reshape(-1, *shape)
        # both directions are the same until the first relaxation
        k, constant = len(bounds) - 1, rows.new_zeros(len(rows))
        while k and not isinstance(network.layers[k - 1], Relu | MaxPool):
            k -= 1
            rows, added = _through(network, bounds, rows, own, k)
            constant = constant + added
        lower.append(constant + _carried(network, bounds[: k + 1], rows, own, 0))
        upper.append(constant - _carried(network, bounds[: k + 1], -rows, own, 0))
    safety = _safety(bounds)[owner]
    return Bounds(torch.cat(lower) - safety, torch.cat(upper) + safety)


def _safety(bounds: list[Bounds]) -> Tensor:
    largest = [torch.maximum(-lower, upper).flatten(1).amax(1) for lower, upper in bounds]
    return SAFETY * torch.stack(largest).amax(0)


def _chunk(network: Network, bounds: list[Bounds]) -> int:
    """How many rows to carry back at once."""
    largest = max(torch.Size(shape).numel() for shape in network.shapes[: len(bounds)])
    return max(1, _CHUNK[bounds[0].lower.device.type] // largest)


def _carried(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, back_to: int
) -> Tensor:
    """As `lower_bounds`, in one piece and without the safety margin."""
    constant = rows.new_zeros(len(rows))
    if bool((owner == owner[0]).all()):
        owner = owner[:1]  # broadcasts, instead of being copied for each row
    for k in range(len(bounds) - 2, back_to - 1, -1):
        rows, added = _through(network, bounds, rows, owner, k)
        constant = constant + added
    lower, upper = bounds[back_to].rows(owner)
    least = torch.where(rows > 0, lower, upper).mul_(rows)
    return constant + least.flatten(1).sum(1)


def _through(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Forms on the input of layer `k` and constants (R,) that bound those on its output."""
    layer, shape = network.layers[k], network.shapes[k]
    match layer:
        case Linear() | Conv():
            return transposed(layer, rows, shape), bias_of(layer, rows)
        case Relu():
            return _through_relu(rows, bounds[k].rows(owner))
        case MaxPool():
            return _through_max_pool(layer, rows, bounds[k].rows(owner))
        case Flatten():
            return rows.reshape(-1, *shape), rows.new_zeros(len(rows))


def _through_relu(rows: Tensor, z: Bounds) -> tuple[Tensor, Tensor]:
    """Below: 0 or z, whichever leaves less area; above: the line from (l, 0) to (u, u)."""
    lower, upper = z.lower.clamp(max=0), z.upper.clamp(min=0)
    slope = upper / (upper - lower).clamp(min=torch.finfo(torch.float64).tiny)
    negative = rows.clamp(max=0)
    constant = -(negative * slope * lower).flatten(1).sum(1)
    below = (upper > -lower).double()
    return torch.where(rows > 0, below, slope).mul_(rows), constant


def _through_max_pool(layer: MaxPool, rows: Tensor, z: Bounds) -> tuple[Tensor, Tensor]:
    """Below: the input with the largest lower bound; above: it too where it dominates its window.

    Otherwise above is the largest upper bound.
    """
    best, index = F.max_pool2d(
        z.lower, layer.kernel, layer.stride, layer.padding, return_indices=True
    )
    most = F.max_pool2d(z.upper, layer.kernel, layer.stride, layer.padding)
    # the second largest upper bound decides whether the best input dominates
    places = torch.arange(z.lower[0, 0].numel(), device=rows.device, dtype=torch.float64)
    seen = windows(layer, places.reshape(1, 1, *z.lower.shape[2:]), -1.0)
    others = windows(layer, z.upper, -torch.inf).masked_fill(seen == index[..., None], -torch.inf)
    exact = others.amax(-1) <= best
    kept = torch.where(exact | (rows > 0), rows, 0)
    constant = ((rows - kept) * most).flatten(1).sum(1)
    index = index.expand_as(kept)
    spread = rows.new_zeros(*kept.shape[:2], places.numel())
    spread.scatter_add_(2, index.flatten(2), kept.flatten(2))
    return spread.reshape(-1, *z.lower.shape[1:]), constant
