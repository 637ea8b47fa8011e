"""What corruptions are computed from: constants by severity, and how large a pixel is."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError

Images = NDArray[Any]  # (N, channels, height, width) in [0, 1]
Randoms = Sequence[np.random.Generator]  # one per image

Constant = TypeVar("Constant")

GREY_SIDE, COLOUR_SIDE = 28, 32  # pixels, of MNIST-C and of CIFAR-10-C


def at(severity: int, constants: Sequence[Constant]) -> Constant:
    if not 1 <= severity <= len(constants):
        raise InputError(f"severity {severity}: corruptions have severities 1 to {len(constants)}")
    return constants[severity - 1]


def grey(images: Images) -> bool:
    """Whether MNIST-C's constants count, and not CIFAR-10-C's."""
    return bool(images.shape[1] == 1)


def pixel(images: Images) -> float:
    """How many pixels of these images one pixel of the published constants is."""
    side = GREY_SIDE if grey(images) else COLOUR_SIDE
    return float(min(images.shape[2:]) / side)


def drawn(randoms: Randoms, shape: tuple[int, ...], mean: float, std: float) -> Images:
    """Normal numbers (N, *shape), each image's from its own generator."""
    noise = np.stack([random.standard_normal(shape) for random in randoms])
    return mean + std * noise
