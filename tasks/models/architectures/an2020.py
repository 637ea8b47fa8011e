"""Plain convolutional networks without pooling for MNIST, and two shallower ones.

Layout of all: pixels to [-1, 1]; unpadded convolutions of stride 1, each with batch normalisation
and an activation; flatten; one dense layer without bias and batch normalisation. The published
networks end with a log-softmax; these return the logits before it, which differ from it by one
number per sample: cross entropy, softmax and predictions are the same.
Source: An et al. 2020, "An Ensemble of Simple Convolutional Neural Network Models for MNIST Digit
Recognition", section 2.
"""

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn

from robsweep.tasks.models.architectures.activations import activation_named
from robsweep.tasks.models.architectures.shapes import image_shape

_K3 = (32, 48, 64, 80, 96, 112, 128, 144, 160, 176)
_K5 = (32, 64, 96, 128, 160)
_K7 = (48, 96, 144, 192)


def an_k3(
    shape: tuple[int, ...], classes: int, *, activation: str = "relu", conv_bias: bool = False
) -> nn.Module:
    """Ten 3x3 convolutions; 1,124,180 parameters on 28x28. (N, *shape) in [0, 1] -> (N, classes).

    Raises:
        InputError: Images of less than 21x21 pixels; no such activation.
    """
    return _net("an_k3", shape, classes, 3, _K3, activation, conv_bias=conv_bias)


def an_k5(
    shape: tuple[int, ...], classes: int, *, activation: str = "relu", conv_bias: bool = False
) -> nn.Module:
    """Five 5x5 convolutions; 1,128,180 parameters on 28x28. (N, *shape) in [0, 1] -> (N, classes).

    Raises:
        InputError: Images of less than 21x21 pixels; no such activation.
    """
    return _net("an_k5", shape, classes, 5, _K5, activation, conv_bias=conv_bias)


def an_k7(
    shape: tuple[int, ...], classes: int, *, activation: str = "relu", conv_bias: bool = False
) -> nn.Module:
    """Four 7x7 convolutions; 2,291,972 parameters on 28x28. (N, *shape) in [0, 1] -> (N, classes).

    Raises:
        InputError: Images of less than 25x25 pixels; no such activation.
    """
    return _net("an_k7", shape, classes, 7, _K7, activation, conv_bias=conv_bias)


def an_k3_shallow(
    shape: tuple[int, ...], classes: int, *, activation: str = "relu", conv_bias: bool = False
) -> nn.Module:
    """The first five convolutions of `an_k3`; not in the paper. (N, *shape) -> (N, classes).

    Raises:
        InputError: Images of less than 11x11 pixels; no such activation.
    """
    return _net("an_k3_shallow", shape, classes, 3, _K3[:5], activation, conv_bias=conv_bias)


def an_k5_shallow(
    shape: tuple[int, ...], classes: int, *, activation: str = "relu", conv_bias: bool = False
) -> nn.Module:
    """The first three convolutions of `an_k5`; not in the paper. (N, *shape) -> (N, classes).

    Raises:
        InputError: Images of less than 13x13 pixels; no such activation.
    """
    return _net("an_k5_shallow", shape, classes, 5, _K5[:3], activation, conv_bias=conv_bias)


class _SignedPixels(nn.Module):
    """[0, 1] -> [-1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return (images - 0.5) * 2


def _net(
    name: str,
    shape: tuple[int, ...],
    classes: int,
    kernel: int,
    channels: tuple[int, ...],
    activation: str,
    *,
    conv_bias: bool,
) -> nn.Module:
    lost = len(channels) * (kernel - 1)
    depth, height, width = image_shape(name, shape, lost + 1)
    layers: OrderedDict[str, nn.Module] = OrderedDict(scale=_SignedPixels())
    for i, (before, after) in enumerate(pairwise((depth, *channels)), start=1):
        layers[f"conv{i}"] = nn.Conv2d(before, after, kernel, bias=conv_bias)
        layers[f"norm{i}"] = nn.BatchNorm2d(after)
        layers[f"act{i}"] = activation_named(activation)
    layers["flatten"] = nn.Flatten()
    pixels = (height - lost) * (width - lost)
    layers["fc"] = nn.Linear(channels[-1] * pixels, classes, bias=False)
    layers["norm"] = nn.BatchNorm1d(classes)
    # a quarter faster on CPUs; what is in a weights file is contiguous all the same
    return nn.Sequential(layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
