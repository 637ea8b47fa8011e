"""The convolutional baselines of analysis by synthesis, and the threshold of its binary models."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from robsweep.tasks.errors import InputError

_KERNELS, _STRIDES = (5, 4, 3, 5), (1, 2, 2, 1)  # 28 -> 24 -> 11 -> 5 -> 1 pixels


def abs_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Four convolutions with batch normalisation and ELU; 249,228 parameters for ten classes.

    (N, 1, 28, 28) in [0, 1] -> logits (N, classes).
    Source: Schott et al. 2019, appendix "Hyperparameters and training details", CNN.
    """
    check_shape("abs_cnn", shape)
    return nn.Sequential(layers((20, 70, 256, classes)))


def abs_binary_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The same network on images whose pixels are set to 0 or 1 first.

    (N, 1, 28, 28) in [0, 1] -> logits (N, classes).
    Source: Schott et al. 2019, section 5, Binary CNN.
    """
    check_shape("abs_binary_cnn", shape)
    return nn.Sequential(OrderedDict(threshold=Threshold(), **layers((20, 70, 256, classes))))


def abs_transfer_cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network of the same layout, whose adversarials are tried on other models.

    (N, 1, 28, 28) in [0, 1] -> logits (N, classes).
    Source: Schott et al. 2019, section 5, transfer attacks.
    """
    check_shape("abs_transfer_cnn", shape)
    return nn.Sequential(layers((32, 32, 64, classes)))


class Threshold(nn.Module):
    """Sets pixels of at least 0.5 to 1 and all others to 0; (N, ...) -> (N, ...).

    Its true gradient is 0 wherever it exists, which would only hide the model from attacks, so
    gradients pass straight through.
    Source: Athalye et al. 2018, section 4.1.1, for the gradient.
    """

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = _StraightThrough.apply(images)  # type: ignore[no-untyped-call]
        return result


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        del ctx
        return (images >= 0.5).to(images.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        del ctx
        return gradient


def layers(channels: Sequence[int]) -> "OrderedDict[str, nn.Module]":
    """Convolutions without padding to these numbers of channels, from (N, 1, 28, 28) to (N, K)."""
    named: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(zip((1, *channels[:-1]), channels, strict=True)):
        named[f"conv_{i}"] = nn.Conv2d(before, after, _KERNELS[i], stride=_STRIDES[i])
        if i < len(channels) - 1:
            named[f"bn_{i}"] = nn.BatchNorm2d(after)
            named[f"elu_{i}"] = nn.ELU()
    named["flatten"] = nn.Flatten()
    return named


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Refuses what the convolutions are not laid out for.

    Raises:
        InputError: The inputs are no grey images of 28x28 pixels.
    """
    if tuple(shape) != (1, 28, 28):
        raise InputError(
            f"model {name!r} takes grey images (1, 28, 28), got inputs of shape {tuple(shape)}; "
            "its convolutions fit no other size"
        )
