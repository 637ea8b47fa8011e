"""The corruptions of the first release, of images (N, ...) in [0, 1], at severities 1 to 5.

Their rows are in stores: noise and angles are drawn from the global generators, which the job seeds
by group, and so it stays. All others are seeded by sample.

Source: Hendrycks & Dietterich 2019, section 4.1; constants as in their ImageNet-C code. Rotation
is not among theirs.
"""

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.shift.moves import moved
from robsweep.tasks.shift.severity import at


def gaussian_noise(images: Tensor, severity: int) -> Tensor:
    """Adds noise from torch's global generator, clipped to [0, 1]."""
    std = at(severity, (0.08, 0.12, 0.18, 0.26, 0.38))
    return (images + std * torch.randn_like(images)).clamp(0, 1)


def brightness(images: Tensor, severity: int) -> Tensor:
    """Adds the same to every pixel, clipped to [0, 1]."""
    return (images + at(severity, (0.1, 0.2, 0.3, 0.4, 0.5))).clamp(0, 1)


def contrast(images: Tensor, severity: int) -> Tensor:
    """Shrinks every pixel towards its channel's mean."""
    factor = at(severity, (0.4, 0.3, 0.2, 0.1, 0.05))
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
    return moved(images, at(severity, (5.0, 10.0, 15.0, 20.0, 30.0)), 0.0, random)
