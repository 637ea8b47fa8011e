"""Images to corrupt: smooth ones with dark, bright and grey parts, each its own."""

import torch
from torch import Tensor
from torch.nn import functional as F


def drawings(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Images (count, *shape) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, shape[0], 4, 4, generator=generator)
    smooth = F.interpolate(coarse, shape[1:], mode="bicubic", align_corners=True)
    return ((smooth - 0.35) * 2).clamp(0, 1)
