"""Convolutions and poolings as matrices, written out tap by tap."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse
from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.recheck.layers import Affine, Max

Shape = tuple[int, ...]


class Window(NamedTuple):
    """Where a kernel lies: offsets, kernel, stride, padding and dilation as (rows, columns)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the output."""
        rows, columns = (
            (side + 2 * p - d * (k - 1) - 1) // s + 1
            for side, k, s, p, d in zip(
                (height, width), self.kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return rows, columns

    def taps(self, height: int, width: int) -> Iterator[list[tuple[int, int, int]]]:
        """For each output place: (kernel row, kernel column, input place) inside the image."""
        rows, columns = self.size(height, width)
        for i in range(rows):
            for j in range(columns):
                found = []
                for a in range(self.kernel[0]):
                    for b in range(self.kernel[1]):
                        y = i * self.stride[0] - self.padding[0] + a * self.dilation[0]
                        x = j * self.stride[1] - self.padding[1] + b * self.dilation[1]
                        if 0 <= y < height and 0 <= x < width:
                            found.append((a, b, y * width + x))
                yield found


def convolution(layer: nn.Conv2d, shape: Shape, where: str) -> tuple[Affine, Shape]:
    """A convolution of one image (C, H, W) as a sparse matrix, and the shape of its output."""
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise InputError(f"{where}: its padding cannot be rechecked")
    _, height, width = shape
    window = Window(
        _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation)
    )
    weight = layer.weight.detach().double().cpu().numpy()
    out = window.size(height, width)
    places = out[0] * out[1]
    out_group, in_group = len(weight) // layer.groups, weight.shape[1]
    rows, columns, values = [], [], []
    for place, taps in enumerate(window.taps(height, width)):
        for a, b, source in taps:
            for output in range(len(weight)):
                first = output // out_group * in_group
                rows.append(np.full(in_group, output * places + place))
                columns.append((first + np.arange(in_group)) * height * width + source)
                values.append(weight[output, :, a, b])
    bias = (
        np.zeros(len(weight)) if layer.bias is None else layer.bias.detach().double().cpu().numpy()
    )
    size = (len(weight) * places, math.prod(shape))
    matrix = _matrix(rows, columns, values, size)
    return Affine(matrix, np.repeat(bias, places)), (len(weight), *out)


def average(layer: nn.AvgPool2d, shape: Shape, where: str) -> tuple[Affine, Shape]:
    """Average pooling of one image (C, H, W), likewise."""
    if layer.ceil_mode:
        raise InputError(f"{where}: ceil_mode cannot be rechecked")
    channels, height, width = shape
    window = Window(_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding))
    out = window.size(height, width)
    rows, columns, values = [], [], []
    for place, taps in enumerate(window.taps(height, width)):
        count = window.kernel[0] * window.kernel[1] if layer.count_include_pad else len(taps)
        for channel in range(channels):
            rows.append(np.full(len(taps), channel * out[0] * out[1] + place))
            columns.append(np.array([channel * height * width + source for _, _, source in taps]))
            values.append(np.full(len(taps), 1 / (layer.divisor_override or count)))
    size = (channels * out[0] * out[1], math.prod(shape))
    matrix = _matrix(rows, columns, values, size)
    return Affine(matrix, np.zeros(size[0])), (channels, *out)


def maximum(layer: nn.MaxPool2d, shape: Shape, where: str) -> tuple[Max, Shape]:
    """Max pooling of one image (C, H, W), likewise."""
    if layer.ceil_mode or layer.return_indices:
        raise InputError(f"{where}: ceil_mode and return_indices cannot be rechecked")
    channels, height, width = shape
    window = Window(
        _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation)
    )
    out, full = window.size(height, width), window.kernel[0] * window.kernel[1]
    windows = []
    for taps in window.taps(height, width):
        places = [source for _, _, source in taps]
        windows.append([*places, *[places[0]] * (full - len(places))])  # twice the same: no harm
    first = np.arange(channels)[:, None, None] * height * width
    return Max((first + np.array(windows)).reshape(-1, full)), (channels, *out)


def _matrix(
    rows: list[np.ndarray], columns: list[np.ndarray], values: list[np.ndarray], size: Shape
) -> sparse.csr_array:
    parts = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_array(parts, shape=size)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))
