"""Adversarials that are brought closer to their images, and still are adversarials."""

from collections.abc import Callable

import torch
from torch import Tensor

from robsweep.tasks import ball

Fooled = Callable[[Tensor], Tensor]  # images (N, ...), in their order -> (N,) bool

_WITHIN = tuple(eighths / 8 for eighths in range(1, 9))  # times the perturbation
_BEYOND = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)
_HALVINGS = 7
_BELOW = 0.5 - 2**-25  # the largest float32 number below one half


def closest_on_the_way(
    fooled: Fooled, images: Tensor, adversarials: Tensor, *, beyond: bool
) -> Tensor:
    """The smallest multiple of each perturbation that fools the model.

    Eighths first, as what fools a model need not be one piece of the way; then bisection. A closest
    adversarial of another model lies on that model's boundary, and hardly ever beyond this one's
    too; going on in its direction is how Schott et al. 2019, section 5, transfer it. Where no
    multiple fools the model, the adversarial comes back as it is. None ends further away than it
    was, unless it is driven on.

    Args:
        fooled: Whether the model sees in each image what the attack was after.
        images: (N, ...) in [0, 1]; `adversarials` likewise, finite where they are to be moved.
        beyond: Whether to try multiples above 1.
    """
    images, adversarials = images.detach(), adversarials.detach()
    direction = adversarials - images
    shape = (-1, *[1] * (images.ndim - 1))

    def at(factor: Tensor) -> Tensor:
        return (images + factor.reshape(shape) * direction).clamp(0, 1)

    low = torch.zeros(len(images), device=images.device)
    high, found = low, low.bool()
    for factor in (*_WITHIN, *_BEYOND) if beyond else _WITHIN:
        if found.all():
            break
        low, high = torch.where(found, low, high), torch.where(found, high, factor)
        found = found | fooled(at(high))
    if not found.any():
        return adversarials
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        closer = fooled(at(middle))
        low, high = torch.where(closer, low, middle), torch.where(closer, middle, high)
    moved = found & (high != 1)
    return torch.where(moved.reshape(shape), at(high), adversarials)


def across_one_half(fooled: Fooled, images: Tensor, adversarials: Tensor, norm: str) -> Tensor:
    """Pixels just across 0.5 where they have crossed it, and as they were where they have not.

    A model that sets pixels to 0 or 1 first cannot tell the difference, but the distance can; one
    that can tell keeps its adversarial. One pass.

    Source: Schott et al. 2019, section 5, on binary models; foolbox's binarization refinement.
    """
    before, after = images >= 0.5, adversarials >= 0.5
    across = torch.where(after, 0.5, _BELOW)
    nearer = torch.where(before == after, images, across)
    closer = ball.distance(images, nearer, norm) < ball.distance(images, adversarials, norm)
    shape = (-1, *[1] * (images.ndim - 1))
    return torch.where((fooled(nearer) & closer).reshape(shape), nearer, adversarials)
