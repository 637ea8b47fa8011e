"""Starting points for decision attacks, which begin at any adversarial and walk closer."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.logits import raw_logits

_SHARES = torch.linspace(0.05, 1, 20).tolist()


class Starts(NamedTuple):
    """Adversarials (N, ...) of any size, and which samples have one, (N,) bool."""

    images: Tensor
    found: Tensor


def starting_points(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    pool: Tensor,
    pool_labels: Tensor,
    *,
    targets: Tensor | None = None,
) -> Starts:
    """Looks for an adversarial per sample, the least changed kind first.

    Salt-and-pepper noise, then blending into uniform noise, then the closest image of the pool
    that is of another class and predicted as another class. With `targets`, classes (N,), each has
    to be predicted as its target. Foolbox gives up on the whole batch if one sample fails.
    """
    starts = Starts(images.clone(), torch.zeros_like(labels, dtype=torch.bool))
    for share in _SHARES:
        noise = torch.rand_like(images)
        salt_and_pepper = torch.where(torch.rand_like(images) < share, noise.round(), images)
        starts = _try(model, labels, targets, starts, salt_and_pepper)
    for share in _SHARES:
        blended = (1 - share) * images + share * torch.rand_like(images)
        starts = _try(model, labels, targets, starts, blended.clamp(0, 1))
    predicted = raw_logits(model, pool).argmax(dim=1)[None]
    wanted = predicted != labels[:, None] if targets is None else predicted == targets[:, None]
    wanted = wanted & (pool_labels[None] != labels[:, None])
    return _try(model, labels, targets, starts, _closest(images, pool, wanted))


def _try(
    model: nn.Module, labels: Tensor, targets: Tensor | None, starts: Starts, candidates: Tensor
) -> Starts:
    if starts.found.all():
        return starts
    predicted = raw_logits(model, candidates).argmax(dim=1)
    adversarial = predicted != labels if targets is None else predicted == targets
    new = adversarial & ~starts.found
    shape = (-1, *[1] * (candidates.ndim - 1))
    return Starts(
        torch.where(new.reshape(shape), candidates, starts.images), starts.found | adversarial
    )


def _closest(images: Tensor, pool: Tensor, wanted: Tensor) -> Tensor:
    """For each image the closest one of the pool, of those that are wanted for it, (N, M) bool."""
    far = torch.cdist(images.flatten(1), pool.flatten(1)).masked_fill(~wanted, torch.inf)
    return pool[far.argmin(dim=1)]
