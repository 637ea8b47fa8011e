"""A small network as affine maps with a ReLU between each two, for bounding thousands of boxes."""

from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.backward import slack_of
from robsweep.tasks.verification.bounds.intervals import Bounds, interval_step
from robsweep.tasks.verification.bounds.rounding import added
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Gather,
    Linear,
    Network,
    Relu,
    Reshape,
    Scale,
    apply,
    bias_of,
    transposed,
    ungathered,
    weighted,
)

_LARGEST = 2**21  # numbers in a matrix


class Piece(NamedTuple):
    """What lies between two ReLUs, as one affine map on flattened values."""

    weight: Tensor  # float64 (out, in)
    bias: Tensor  # (out,)
    layers: range  # of the network, in their order


class Chain(NamedTuple):
    network: Network
    pieces: tuple[Piece, ...]


def chain_of(network: Network) -> Chain | None:
    """None where the network is no such chain, too large for matrices, or asked within a ball."""
    if network.within is not None:  # which bounds of boxes know nothing of
        return None
    groups, first = [], 0
    for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
        if read != (k,) or not isinstance(layer, Linear | Conv | Scale | Reshape | Gather | Relu):
            return None
        if isinstance(layer, Relu):
            groups.append(range(first, k))
            first = k + 1
    groups.append(range(first, len(network.layers)))
    shapes = [torch.Size(shape).numel() for shape in network.shapes]
    if any(shapes[g.start] * max(shapes[g.start : g.stop + 1]) > _LARGEST for g in groups):
        return None
    return Chain(network, tuple(_piece(network, group) for group in groups))


def _piece(network: Network, group: range) -> Piece:
    shape = network.shapes[group.stop]
    size = torch.Size(shape).numel()
    rows = torch.eye(size, dtype=torch.float64, device=_device(network)).reshape(size, *shape)
    bias = rows.new_zeros(size)
    for k in reversed(group):
        layer, before = network.layers[k], network.shapes[k]
        if isinstance(layer, Reshape):
            rows = rows.reshape(-1, *before)
        elif isinstance(layer, Gather):
            rows, constant = ungathered(layer, rows, before)
            bias = bias + constant
        elif isinstance(layer, Linear | Conv | Scale):
            bias = bias + bias_of(layer, rows)
            rows = transposed(layer, rows, before)
    return Piece(rows.flatten(1).contiguous(), bias, group)


def _device(network: Network) -> torch.device | None:
    affine = (one for one in network.layers if isinstance(one, Linear | Conv | Scale))
    return next((one.weight.device for one in affine), None)


def piece_slack(chain: Chain, piece: Piece, read: Bounds) -> Tensor:
    """What rounding may add to a piece's values, in float32 and in the float64 of the bounds.

    The matrices of several layers in one are off by far less than what `slack_of` counts of each.

    Args:
        read: (B, in), what it reads lies between.

    Returns:
        (B, out)
    """
    network = chain.network
    shape = network.shapes[piece.layers.start]
    bounds = Bounds(*(end.reshape(-1, *shape) for end in read))
    total = torch.zeros_like(bounds.lower)
    for k in piece.layers:
        layer, sizes = network.layers[k], [bounds.size()]
        if isinstance(layer, Linear | Conv | Scale):
            none = torch.zeros_like(layer.bias)
            total = weighted(layer, total, layer.weight.abs(), none)
        elif isinstance(layer, Gather):
            total = apply(Gather(layer.index), total)
        else:
            total = apply(layer, total)
        if (slack := slack_of(network, k, sizes)) is not None:
            total = total + slack
        bounds = interval_step(layer, bounds)
        if (error := added(network, k, sizes)) is not None:
            bounds = Bounds(bounds.lower - error, bounds.upper + error)
    return total.flatten(1).nan_to_num(torch.inf, torch.inf)
