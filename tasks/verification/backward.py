"""CROWN's backward pass: linear forms on a value, bounded from below by forms on the images.

A value that several layers read gathers a form from each of them, so sums of branches are exact.
Results are lowered by `SAFETY` times the largest bound up to the value that the forms are on, 10^4
times what rounding adds up to: what is left holds in real arithmetic, so `lower > 0` is a proof.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.verification.intervals import Bounds
from tasks.verification.layers import (
    BENT,
    Conv,
    Gather,
    Linear,
    MaxPool,
    Network,
    Relu,
    Reshape,
    Scale,
    Smooth,
    Sum,
    bias_of,
    transposed,
    ungathered,
    windows,
)
from tasks.verification.smooth import lines

SAFETY = 1e-9
# numbers in one tensor of backward rows: on a CPU they stay in its cache (2.7 times faster)
_CHUNK = {"cpu": 2**17, "cuda": 2**25}


def lower_bounds(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, *, back_to: int = 0
) -> Tensor:
    """Lower bounds on linear forms, carried back through the layers before them.

    Args:
        bounds: On each value, up to and with the one that the forms are on.
        rows: (R, *shape of bounds[-1]), the forms.
        owner: (R,) int64, which sample's box each form is over.
        back_to: The value at whose bounds, or those of values before it, the pass ends; 0 is the
            whole network.

    Returns:
        (R,).
    """
    size = _chunk(network, bounds)
    chunks = zip(torch.split(rows, size), torch.split(owner, size), strict=True)
    last = len(bounds) - 1
    parts = [_carried(network, bounds, {last: some}, own, back_to) for some, own in chunks]
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
        forms, constant = {len(bounds) - 1: rows}, rows.new_zeros(len(rows))
        while (k := max(forms)) and not isinstance(network.layers[k - 1], BENT):
            constant = constant + _step(network, bounds, forms, own)
        lower.append(constant + _carried(network, bounds, dict(forms), own, 0))
        minus = {value: -form for value, form in forms.items()}
        upper.append(constant - _carried(network, bounds, minus, own, 0))
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
    network: Network, bounds: list[Bounds], forms: dict[int, Tensor], owner: Tensor, back_to: int
) -> Tensor:
    """As `lower_bounds`, in one piece and without the safety margin.

    Args:
        forms: By value; what is bounded is their sum. Used up.
    """
    constant = owner.new_zeros(len(owner), dtype=torch.float64)
    if bool((owner == owner[0]).all()):
        owner = owner[:1]  # broadcasts, instead of being copied for each row
    while max(forms) > back_to:
        constant = constant + _step(network, bounds, forms, owner)
    for value, rows in forms.items():
        lower, upper = bounds[value].rows(owner)
        least = torch.where(rows > 0, lower, upper).mul_(rows)
        constant = constant + least.flatten(1).sum(1)
    return constant


def _step(
    network: Network, bounds: list[Bounds], forms: dict[int, Tensor], owner: Tensor
) -> Tensor:
    """Replaces the form on the last value by forms on what its layer reads, plus constants (R,)."""
    k = max(forms) - 1
    passed, constant = _through(network, bounds, forms.pop(k + 1), owner, k)
    for value, rows in zip(network.inputs[k], passed, strict=True):
        forms[value] = forms[value] + rows if value in forms else rows
    return constant


def _through(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, k: int
) -> tuple[list[Tensor], Tensor]:
    """Forms on what layer `k` reads and constants (R,) that bound those on its output."""
    layer, first = network.layers[k], network.inputs[k][0]
    shape = network.shapes[first]
    match layer:
        case Linear() | Conv() | Scale():
            return [transposed(layer, rows, shape)], bias_of(layer, rows)
        case Relu():
            form, constant = _through_relu(layer, rows, bounds[first].rows(owner))
        case MaxPool():
            form, constant = _through_max_pool(layer, rows, bounds[first].rows(owner))
        case Smooth():
            slope, below, above = (line[owner] for line in lines(layer.curve, *bounds[first]))
            form, constant = rows * slope, torch.where(rows > 0, below, above).mul_(rows)
            constant = constant.flatten(1).sum(1)
        case Gather():
            form, constant = ungathered(layer, rows, shape)
        case Reshape():
            form, constant = rows.reshape(-1, *shape), rows.new_zeros(len(rows))
        case Sum():
            return [factor * rows for factor in layer.factors], rows.new_zeros(len(rows))
    return [form], constant


def _through_relu(layer: Relu, rows: Tensor, z: Bounds) -> tuple[Tensor, Tensor]:
    """Below: 0 or z, by default what leaves less area; above: the line from (l, 0) to (u, u)."""
    lower, upper = z.lower.clamp(max=0), z.upper.clamp(min=0)
    slope = upper / (upper - lower).clamp(min=torch.finfo(torch.float64).tiny)
    negative = rows.clamp(max=0)
    constant = -(negative * slope * lower).flatten(1).sum(1)
    below = (layer.lean * upper > -lower).double()
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
