"""Random rotations and shifts of a batch."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def moved(images: Tensor, degrees: float, share: float, random: np.random.Generator) -> Tensor:
    """Rotates each image by up to `degrees` and shifts it by up to a share of its sides.

    Bilinear; what comes in from outside is 0.
    """
    count, _, height, width = images.shape
    angle = np.deg2rad(random.uniform(-degrees, degrees, count))
    cos, sin = np.cos(angle), np.sin(angle)
    down, right = random.uniform(-2 * share, 2 * share, (2, count))  # a side is 2 long
    stretch = height / width  # of a square in these coordinates
    matrix = np.stack(
        [np.stack([cos, -sin * stretch, right], 1), np.stack([sin / stretch, cos, down], 1)], 1
    )
    theta = beside(images, matrix.astype(np.float32))
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="zeros", align_corners=False).clamp(0, 1)


def beside(images: Tensor, values: np.ndarray) -> Tensor:
    """An array where the images are; a GPU is not waited for."""
    tensor = torch.from_numpy(values)
    if images.device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(images.device, non_blocking=True)
