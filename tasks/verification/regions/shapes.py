"""The regions that can be named: each is one function from an image to the area around it.

Images are float32 (channels, height, width) in [0, 1], or of any shape where nothing is said.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from robsweep.tasks.ball import box
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.within import Ball, Simplex
from robsweep.tasks.verification.regions.area import Area, mapped


def l1(image: Tensor, *, eps: float) -> Area:
    """The images in [0, 1] at a distance of at most eps, the sum of what pixels differ by."""
    return _ball(image, "l1", eps)


def l2(image: Tensor, *, eps: float) -> Area:
    """The images in [0, 1] at a Euclidean distance of at most eps."""
    return _ball(image, "l2", eps)


def _ball(image: Tensor, norm: str, eps: float) -> Area:
    # float64 may round x + eps down, and distances
    hull = Bounds(*box(image[None], eps * (1 + 2.0**-40) + 2.0**-50))
    return Area(hull, within=Ball(norm, image[None], eps), own=image)


def cube(image: Tensor) -> Area:
    """All images."""
    zeros = torch.zeros_like(image, dtype=torch.float64)[None]
    return Area(Bounds(zeros, zeros + 1), own=image)


def patch(image: Tensor, *, size: int = 3, at: Sequence[int] = ()) -> Area:
    """All images that differ from the image in one square alone, in all of its channels.

    Args:
        size: Pixels of a side.
        at: Row and column of the square's first pixel, from 0; without them, it may be anywhere.
    """
    height, width = image.shape[1:]
    places = [tuple(at)] if at else [
        (row, column) for row in range(height - size + 1) for column in range(width - size + 1)
    ]  # fmt: skip
    lower = image.double()[None].repeat(len(places), 1, 1, 1)
    upper = lower.clone()
    for i, (row, column) in enumerate(places):
        lower[i, :, row : row + size, column : column + size] = 0
        upper[i, :, row : row + size, column : column + size] = 1
    return Area(Bounds(lower, upper), own=image)


def blur(image: Tensor, *, kernel: int = 3) -> Area:
    """The image under every kernel of kernel x kernel numbers that are not negative, of sum 1.

    One kernel for all channels; outside of the image are zeros, and its size stays. Pixel (i, j)
    is the sum of kernel[a, b] times the pixel (i + a + 1 - c, j + b + 1 - c), c = ceil(kernel / 2).

    Source: Tjeng et al. 2019, section 4; MIPVerify's `BlurringPerturbationFamily`, which is
    the same for one channel.
    """
    height, width = image.shape[1:]
    before, after = math.ceil(kernel / 2) - 1, kernel - math.ceil(kernel / 2)
    around = torch.nn.functional.pad(image, (before, after, before, after))
    shifted = [
        around[:, row : row + height, column : column + width]
        for row in range(kernel)
        for column in range(kernel)
    ]
    count = kernel * kernel
    ends = torch.zeros((1, count), dtype=torch.float64, device=image.device)
    own = torch.zeros(count, device=image.device)
    own[before * kernel + before] = 1
    nothing = torch.zeros_like(image, dtype=torch.float64)
    return mapped(nothing, torch.stack(shifted), Bounds(ends, ends + 1), within=Simplex(), own=own)


def brightness_contrast(image: Tensor, *, brightness: float = 0.0, contrast: float = 0.0) -> Area:
    """The images c x + b clipped to [0, 1], |b| <= brightness and |c - 1| <= contrast."""
    reach = torch.tensor([[contrast, brightness]], dtype=torch.float64, device=image.device)
    directions = torch.stack([image.double(), torch.ones_like(image).double()])
    own = torch.zeros(2, device=image.device)  # c is 1 + t
    return mapped(image.double(), directions, Bounds(-reach, reach), own=own)


def affine(
    image: Tensor, *, basis: Tensor, lower: Tensor, upper: Tensor, offset: Tensor | None = None
) -> Area:
    """The images x + sum of t_i basis_i clipped to [0, 1], lower_i <= t_i <= upper_i.

    Args:
        basis: (p, *shape).
        lower: (p,), as upper.
        offset: In place of the image, x.
    """
    device = image.device
    ends = Bounds(lower.double()[None].to(device), upper.double()[None].to(device))
    start = image.double() if offset is None else offset.double().to(device)
    own = torch.zeros(len(lower), device=device) if torch.equal(start, image.double()) else None
    return mapped(start, basis.to(device), ends, own=own)
