"""Into the ball of an attack and [0, 1], for float32 pixels (N, F) and the images in the middle.

These are close to the border, not exact: the job pulls what an attack gives into the exact ball.
"""

import torch
from torch import Tensor


def project(images: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    """Pixels (N, F) within eps of the images and in [0, 1]; the closest such for linf and l1."""
    if norm == "linf":
        return torch.clamp(x, images - eps, images + eps).clamp_(0, 1)
    if norm == "l2":
        return into_l2(images, x, eps)
    if norm == "l1":
        return onto_l1(images, x, eps)
    raise ValueError(f"norm {norm!r} is none of linf, l2, l1")


def into_l2(images: Tensor, x: Tensor, eps: float) -> Tensor:
    """Scaled into the ball, then clipped, which brings no pixel further from its image."""
    offset = x - images
    size = torch.linalg.vector_norm(offset, dim=1, keepdim=True)
    tiny = torch.finfo(size.dtype).tiny
    return torch.addcmul(images, offset, (eps / size.clamp_(min=tiny)).clamp_(max=1)).clamp_(0, 1)


def onto_l1(images: Tensor, x: Tensor, eps: float) -> Tensor:
    """The closest point of the intersection of the l1 ball and the box, without iterating.

    Each pixel moves by `clip(|x - image| - shift, 0, room)`, with one shift per sample: where the
    sum, falling and piecewise linear in the shift, comes down to eps.

    Source: Croce & Hein 2021, proposition 2.1.
    """
    offset = x - images
    wanted = offset.abs()
    room = torch.where(offset > 0, 1 - images, images)
    total = torch.minimum(wanted, room).sum(dim=1, keepdim=True)
    # at `wanted - room` a pixel begins to move less, at `wanted` it does not move any more
    breaks, order = torch.cat([(wanted - room).clamp_(min=0), wanted], dim=1).sort(dim=1)
    moving = torch.where(order < images.shape[1], 1.0, -1.0).cumsum(dim=1)
    drops = moving[:, :-1] * breaks.diff(dim=1)
    totals = torch.cat([total, total - drops.cumsum(dim=1)], dim=1)
    first = (totals > eps).sum(dim=1, keepdim=True).sub_(1).clamp_(min=0)
    slope = moving.gather(1, first).clamp(min=1)
    shift = breaks.gather(1, first) + (totals.gather(1, first) - eps) / slope
    shift = torch.where(total > eps, shift, 0)
    moved = torch.minimum((wanted - shift).clamp_(min=0), room)
    return images + moved.copysign(offset)
