"""Linear forms that see only a window of an image-shaped value.

A unit of a convolution depends on a few inputs. Carrying its form back as a window, not as a whole
image of zeros, makes CROWN on convolutions cheap.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.layers import Conv


class Patches(NamedTuple):
    """R forms on a value of shape (C, H, W), 0 outside of their windows and of the value."""

    rows: Tensor  # (R, C, h, w)
    top: Tensor  # (R,) int64: where each window begins; may be negative
    left: Tensor


class _Places(NamedTuple):
    y: Tensor  # (R, h, 1) int64, inside of the value
    x: Tensor  # (R, 1, w)
    real: Tensor  # (R, 1, h, w): whether the window is inside of the value there


def single_units(unit: Tensor, shape: tuple[int, ...]) -> Patches:
    """The values themselves: unit (R,) int64 is the index into a flattened (C, H, W)."""
    channels, height, width = shape
    channel, place = unit // (height * width), unit % (height * width)
    rows = F.one_hot(channel, channels).double()[:, :, None, None]
    return Patches(rows, place // width, place % width)


def through_conv(layer: Conv, patches: Patches, shape: tuple[int, ...]) -> Patches:
    """Forms on the layer's input, of the given shape, without what its bias adds."""
    rows = F.conv_transpose2d(
        patches.rows, layer.weight, None, layer.stride, 0, 0, layer.groups, layer.dilation
    )
    top = patches.top * layer.stride[0] - layer.padding[0]
    left = patches.left * layer.stride[1] - layer.padding[1]
    places = _places(Patches(rows, top, left), shape)
    return Patches(rows if bool(places.real.all()) else rows * places.real, top, left)


def seen(patches: Patches, value: Bounds, owner: Tensor) -> Bounds:
    """What the windows show of samples' bounds (N, C, H, W): (R, C, h, w); any value outside."""
    y, x, _ = _places(patches, value.lower.shape[1:])
    own = owner.expand(len(patches.rows))[:, None, None]
    return Bounds(*(part[own, :, y, x].permute(0, 3, 1, 2) for part in value))


def dense(patches: Patches, shape: tuple[int, ...]) -> Tensor:
    """The forms in full: (R, *shape)."""
    y, x, real = _places(patches, shape)
    full = patches.rows.new_zeros(len(patches.rows), *shape)
    flat, index = full.flatten(2), (y * shape[2] + x).flatten(1)[:, None]
    source = (patches.rows * real).flatten(2)
    return flat.scatter_add(2, index.expand_as(source), source).reshape(full.shape)


def _places(patches: Patches, shape: tuple[int, ...]) -> _Places:
    device = patches.rows.device
    y, x = (
        start[:, None] + torch.arange(size, device=device)
        for start, size in zip(patches[1:], patches.rows.shape[2:], strict=True)
    )
    real = [(at >= 0) & (at < size) for at, size in zip((y, x), shape[1:], strict=True)]
    y, x = y.clamp(0, shape[1] - 1), x.clamp(0, shape[2] - 1)
    return _Places(y[:, :, None], x[:, None], (real[0][:, :, None] & real[1][:, None])[:, None])
