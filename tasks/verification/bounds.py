"""Bounds on every layer over a box of images: intervals, and CROWN's backward linear relaxation.

A box and all bounds are pairs (lower, upper) of (N, *shape), in float64. They hold in real
arithmetic for the network with these weights: intervals are widened by more than the rounding of
one layer (`_ROUNDING`), CROWN's by `SAFETY` times the largest bound up to the layer bounded, which
is 10^4 times what the rounding of the backward pass adds up to. So `lower > 0` is a proof.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.verification.layers import (
    Conv,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Network,
    Relu,
    apply,
    bias_of,
    transposed,
    weighted,
    windows,
)

SAFETY = 1e-9
_ROUNDING = 1e-11  # rounding of a sum of n float64 terms is below n * 1.2e-16 of their magnitudes
# numbers in one tensor of backward rows: on a CPU they stay in its cache (2.7 times faster)
_CHUNK = {"cpu": 2**17, "cuda": 2**25}


class Bounds(NamedTuple):
    lower: Tensor
    upper: Tensor

    def rows(self, index: Tensor) -> "Bounds":
        return Bounds(self.lower[index], self.upper[index])


def interval_step(layer: Layer, box: Bounds) -> Bounds:
    """Source: Gowal et al. 2018, section 3, equation 6."""
    if not isinstance(layer, Linear | Conv):
        return Bounds(apply(layer, box.lower), apply(layer, box.upper))
    middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    radius = radius + _ROUNDING * (middle.abs() + radius)
    middle = apply(layer, middle)
    radius = weighted(layer, radius, layer.weight.abs(), _ROUNDING * layer.bias.abs())
    return Bounds(middle - radius, middle + radius)


def interval(network: Network, box: Bounds) -> list[Bounds]:
    """Bounds on what enters each layer, and last on the logits."""
    bounds = [box]
    for layer in network.layers:
        bounds.append(interval_step(layer, bounds[-1]))
    return bounds


def crown(network: Network, box: Bounds) -> list[Bounds]:
    """Like `interval`, with what enters ReLU and max-pooling tightened where it is undecided.

    Source: Zhang et al. 2018 (CROWN), section 3.3, with the adaptive lower slope.
    """
    bounds = [box]
    for k, layer in enumerate(network.layers):
        bounds.append(interval_step(layer, bounds[-1]))
        following = network.layers[k + 1] if k + 1 < len(network.layers) else None
        relaxed = any(isinstance(one, Relu | MaxPool) for one in network.layers[:k])
        if relaxed and not isinstance(layer, Relu | MaxPool):
            lower, upper = bounds[-1]
            if isinstance(following, Relu):
                bounds[-1] = _tightened(network, bounds, (lower < 0) & (upper > 0))
            elif isinstance(following, MaxPool):
                bounds[-1] = _tightened(network, bounds, lower < upper)
    return bounds


def unstable_relus(network: Network, bounds: list[Bounds]) -> Tensor:
    """How many ReLUs may be on or off: (N,) int64."""
    count = torch.zeros(len(bounds[0].lower), dtype=torch.int64, device=bounds[0].lower.device)
    for layer, (lower, upper) in zip(network.layers, bounds, strict=False):
        if isinstance(layer, Relu):
            count += ((lower < 0) & (upper > 0)).flatten(1).sum(1)
    return count


def margins(network: Network, bounds: list[Bounds], labels: Tensor, *, back_to: int = 0) -> Tensor:
    """Lower bounds on logit[label] - logit[c] for every class c.

    Args:
        back_to: The layer whose input bounds end the backward pass; 0 is the whole network.

    Returns:
        (N, K), infinite at the label itself.
    """
    n, classes = bounds[-1].lower.shape
    eye = torch.eye(classes, dtype=torch.float64, device=labels.device)
    rows = (eye[labels][:, None] - eye).reshape(n * classes, classes)
    owner = torch.arange(n, device=labels.device).repeat_interleave(classes)
    lower = backward(network, bounds, rows, owner, back_to=back_to).reshape(n, classes)
    return lower.masked_fill(eye[labels].bool(), torch.inf)


def last_affine(network: Network) -> int:
    """Index of the last layer that is not affine, plus one: where an interval margin starts."""
    after = [k + 1 for k, one in enumerate(network.layers) if isinstance(one, Relu | MaxPool)]
    return max(after, default=0)


def backward(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, *, back_to: int = 0
) -> Tensor:
    """Lower bounds on linear forms, carried back through the layers before them.

    Args:
        bounds: On what enters each layer, up to and with what the forms are on.
        rows: (R, *shape of bounds[-1]), the forms.
        owner: (R,) int64, which sample's box each form is over.

    Returns:
        (R,), already lowered by the safety margin.
    """
    size = _chunk(network, bounds)
    parts = [
        _backward(network, bounds, some, own[:1] if bool((own == own[0]).all()) else own, back_to)
        for some, own in zip(torch.split(rows, size), torch.split(owner, size), strict=True)
    ]
    scale = torch.stack([torch.maximum(-b.lower, b.upper).flatten(1).amax(1) for b in bounds]).amax(
        0
    )
    return torch.cat(parts) - SAFETY * scale[owner]


def _chunk(network: Network, bounds: list[Bounds]) -> int:
    """How many rows to carry back at once."""
    largest = max(torch.Size(shape).numel() for shape in network.shapes[: len(bounds)])
    return max(1, _CHUNK[bounds[0].lower.device.type] // largest)


def _backward(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, back_to: int
) -> Tensor:
    """As `backward`, in one piece; one owner may stand for all rows."""
    constant = rows.new_zeros(len(rows))
    for k in range(len(bounds) - 2, back_to - 1, -1):
        layer, shape = network.layers[k], network.shapes[k]
        match layer:
            case Linear() | Conv():
                constant = constant + bias_of(layer, rows)
                rows = transposed(layer, rows, shape)
            case Flatten():
                rows = rows.reshape(-1, *shape)
            case Relu():
                rows, added = _through_relu(rows, bounds[k].rows(owner))
                constant = constant + added
            case MaxPool():
                rows, added = _through_max_pool(layer, rows, bounds[k].rows(owner))
                constant = constant + added
    lower, upper = bounds[back_to].rows(owner)
    least = torch.where(rows > 0, lower, upper).mul_(rows)
    return constant + least.flatten(1).sum(1)


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


def _tightened(network: Network, bounds: list[Bounds], undecided: Tensor) -> Bounds:
    """The last bounds, intersected with CROWN's for the undecided units: (N, *shape) bool."""
    lower, upper = bounds[-1]
    which = undecided.flatten(1).nonzero()
    if not len(which):
        return bounds[-1]
    owner, unit = which.unbind(1)
    low, high = lower.flatten(1).clone(), upper.flatten(1).clone()
    chunk = _chunk(network, bounds)
    for own, one in zip(torch.split(owner, chunk), torch.split(unit, chunk), strict=True):
        rows = F.one_hot(one, low.shape[1]).double().reshape(-1, *lower.shape[1:])
        found = Bounds(backward(network, bounds, rows, own), -backward(network, bounds, -rows, own))
        low[own, one] = torch.maximum(low[own, one], found.lower)
        high[own, one] = torch.minimum(high[own, one], found.upper)
    return Bounds(low.reshape(lower.shape), high.reshape(upper.shape))
