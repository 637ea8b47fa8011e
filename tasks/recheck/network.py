"""Reads a torch module by walking its tree of layers; nothing is traced."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from tasks.errors import InputError
from tasks.recheck.layers import Affine, Layer, Relu, forward, joined
from tasks.recheck.unroll import Shape, average, convolution, maximum

SUPPORTED = (
    "Sequential, Linear, Conv2d, BatchNorm1d, BatchNorm2d, ReLU, MaxPool2d, AvgPool2d, Flatten, "
    "Dropout, Identity"
)
_NOTHING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)


class _Read(NamedTuple):
    layers: list[Layer]
    shape: Shape  # behind the last layer


def read(module: nn.Module, shape: Shape) -> list[Layer]:
    """The layers of a module in evaluation mode, from one flattened image to logits.

    Args:
        shape: Of one image.

    Raises:
        InputError: A layer that is not known here, or layers that do not compute what the module
            computes.
    """
    name = type(module).__name__
    layers, end = _extended(_Read([], tuple(shape)), module, name)
    if len(end) != 1:
        raise InputError(f"model {name}: gives {end} per image, not one row of logits")
    probe = np.random.default_rng(0).uniform(size=(3, *shape))
    with torch.no_grad():
        expected = copy.deepcopy(module).double().eval().cpu()(torch.from_numpy(probe)).numpy()
    if not np.allclose(forward(layers, probe.reshape(3, -1)), expected, rtol=1e-9, atol=1e-9):
        raise InputError(f"model {name}: its layers do not compute what it computes")
    return layers


def _extended(before: _Read, module: nn.Module, where: str) -> _Read:
    """Appends what a module does; its exact type counts, as a subclass may do something else."""
    layers, shape = before
    kind = type(module)
    if kind is nn.Sequential:
        for name, part in module.named_children():
            before = _extended(before, part, f"{where}.{name}")
        return before
    if kind in _NOTHING:
        return before
    if kind is nn.ReLU:
        return _Read([*layers, Relu()], shape)
    if isinstance(module, nn.Flatten) and kind is nn.Flatten and module.start_dim == 1:
        if module.end_dim in (-1, len(shape)):
            return _Read(layers, (int(np.prod(shape)),))
    elif isinstance(module, nn.Linear) and kind is nn.Linear and len(shape) == 1:
        weight = _array(module.weight)
        bias = np.zeros(len(weight)) if module.bias is None else _array(module.bias)
        return _Read(joined(layers, Affine(weight, bias)), (len(weight),))
    elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_mean is not None:
        if kind in (nn.BatchNorm1d, nn.BatchNorm2d):
            return _Read(joined(layers, _normalisation(module, shape)), shape)
    elif len(shape) == 3:
        place = f"{where} ({kind.__name__})"
        if isinstance(module, nn.Conv2d) and kind is nn.Conv2d:
            affine, shape = convolution(module, shape, place)
            return _Read(joined(layers, affine), shape)
        if isinstance(module, nn.AvgPool2d) and kind is nn.AvgPool2d:
            affine, shape = average(module, shape, place)
            return _Read(joined(layers, affine), shape)
        if isinstance(module, nn.MaxPool2d) and kind is nn.MaxPool2d:
            largest, shape = maximum(module, shape, place)
            return _Read([*layers, largest], shape)
    raise InputError(
        f"{where}: {kind.__name__}, as set up here, cannot be rechecked; supported: {SUPPORTED}"
    )


def _normalisation(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape) -> Affine:
    from scipy import sparse

    assert module.running_mean is not None
    assert module.running_var is not None
    scale = 1 / np.sqrt(_array(module.running_var) + module.eps)
    if module.weight is not None:
        scale = scale * _array(module.weight)
    shift = -scale * _array(module.running_mean)
    if module.bias is not None:
        shift = shift + _array(module.bias)
    pixels = int(np.prod(shape[1:]))
    return Affine(sparse.diags_array(np.repeat(scale, pixels)).tocsr(), np.repeat(shift, pixels))


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().double().cpu().numpy()
