"""The one ball: what lies within eps of an image, for attacks and verifiers alike.

All comparisons are made in float64 on the float32 numbers that are stored: more than half of all
float32 `x + 0.1` lie outside the exact ball of radius 0.1.
"""

import torch
from torch import Tensor

_PULLS = 28  # tries to get inside; the last one gives up the whole perturbation


def box(images: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Float64 corners `max(0, x - eps)` and `min(1, x + eps)` of the linf ball, each (N, ...)."""
    x = images.double()
    return (x - eps).clamp(min=0), (x + eps).clamp(max=1)


def distance(images: Tensor, adversarials: Tensor, norm: str) -> Tensor:
    """Float64 distance of each sample, (N, ...) -> (N,); l0 counts pixels over all channels."""
    difference = adversarials.double() - images.double()
    if norm == "l0":
        changed = difference != 0
        pixels = changed.any(dim=1) if changed.ndim == 4 else changed
        return pixels.flatten(1).sum(dim=1).double()
    order = {"linf": torch.inf, "l2": 2, "l1": 1}[norm]
    size: Tensor = torch.linalg.vector_norm(difference.flatten(1), ord=order, dim=1)
    return size


def in_range(adversarials: Tensor) -> Tensor:
    """Which samples lie in [0, 1] everywhere, (N,) bool."""
    return ((adversarials >= 0) & (adversarials <= 1)).flatten(1).all(dim=1)


def inside(images: Tensor, adversarials: Tensor, norm: str, eps: float) -> Tensor:
    """Which samples lie in the ball and in [0, 1], (N,) bool; False where not finite."""
    result = (distance(images, adversarials, norm) <= eps) & in_range(adversarials)
    if norm == "linf":
        lower, upper = box(images, eps)
        x = adversarials.double()
        result &= ((x >= lower) & (x <= upper)).flatten(1).all(dim=1)
    return result


def pull_inside(images: Tensor, adversarials: Tensor, norm: str, eps: float) -> Tensor:
    """Float32 adversarials, moved towards their images until they are inside the ball.

    Those already inside stay as they are. An l0 ball cannot be projected onto: only the range is
    enforced. Values must be finite.
    """
    clipped = adversarials.float().clamp(0, 1)
    if norm == "l0":
        return clipped
    if norm == "linf":
        return _pull_into_box(images, clipped, eps)
    return _shrink(images, clipped, norm, eps)


def _pull_into_box(images: Tensor, adversarials: Tensor, eps: float) -> Tensor:
    lower, upper = box(images, eps)
    x = images.double()
    # the outermost float32 numbers that are in the box and no further than eps from the image,
    # which float64 rounding makes two different conditions
    low, high = lower.float(), upper.float()
    while (wrong := (low.double() < lower) | (x - low.double() > eps)).any():
        low = torch.where(wrong, torch.nextafter(low, images), low)
    while (wrong := (high.double() > upper) | (high.double() - x > eps)).any():
        high = torch.where(wrong, torch.nextafter(high, images), high)
    return torch.clamp(adversarials, low, high)


def _shrink(images: Tensor, adversarials: Tensor, norm: str, eps: float) -> Tensor:
    x = images.double()
    perturbation = adversarials.double() - x
    size = distance(images, adversarials, norm)
    result = adversarials
    for pull in range(1, _PULLS + 1):
        outside = distance(images, result, norm) > eps
        if not outside.any():
            break
        # rounding to float32 can leave the ball again: aim a little further inside each time
        factor = (eps / size).clamp(max=1) * (1 - 2.0 ** (pull - _PULLS))
        factor = factor.reshape(-1, *[1] * (x.ndim - 1))
        pulled = (x + factor * perturbation).float()
        result = torch.where(outside.reshape(factor.shape), pulled, result)
    return result
