"""Common corruptions of images (N, ...) in [0, 1], at severities 1 to 5.

Source: Hendrycks & Dietterich 2019, section 4.1; constants as in their ImageNet-C code. Rotation
is not among theirs.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.training.augmentations import moved


def gaussian_noise(images: Tensor, severity: int) -> Tensor:
    """Adds noise from torch's global generator, clipped to [0, 1]."""
    std = _at(severity, (0.08, 0.12, 0.18, 0.26, 0.38))
    return (images + std * torch.randn_like(images)).clamp(0, 1)


def brightness(images: Tensor, severity: int) -> Tensor:
    """Adds the same to every pixel, clipped to [0, 1]."""
    return (images + _at(severity, (0.1, 0.2, 0.3, 0.4, 0.5))).clamp(0, 1)


def contrast(images: Tensor, severity: int) -> Tensor:
    """Shrinks every pixel towards its channel's mean."""
    factor = _at(severity, (0.4, 0.3, 0.2, 0.1, 0.05))
    spatial = tuple(range(2 if images.ndim > 2 else 1, images.ndim))
    mean = images.mean(dim=spatial, keepdim=True)
    return ((images - mean) * factor + mean).clamp(0, 1)


def rotation(images: Tensor, severity: int) -> Tensor:
    """Rotates each image by a random angle; what comes in from outside is black."""
    if images.ndim != 4:
        raise InputError(
            f"rotation: for images only, got inputs of shape {tuple(images.shape[1:])}"
        )
    random = np.random.default_rng(np.random.randint(2**32, dtype=np.uint64))
    return moved(images, _at(severity, (5.0, 10.0, 15.0, 20.0, 30.0)), 0.0, random)


def _at(severity: int, constants: Sequence[float]) -> float:
    if not 1 <= severity <= len(constants):
        raise InputError(f"severity {severity}: corruptions have severities 1 to {len(constants)}")
    return constants[severity - 1]
