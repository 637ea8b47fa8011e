"""OOD images that are pushed towards low scores, so that a detector takes them for its own."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.ball import pull_inside
from robsweep.tasks.ood.scoring import OnImages


class Evasion(NamedTuple):
    """How a ball is searched."""

    eps: float
    norm: str = "linf"  # or l2
    steps: int = 40
    rel_step_size: float = 0.1  # of eps
    restarts: int = 1  # the first from the image itself, the others from random points


def evaded(scorer: OnImages, model: nn.Module, images: Tensor, how: Evasion) -> Tensor:
    """The images (N, ...) of the lowest scores that were found in the ball, in [0, 1].

    Projected gradient descent on the score, with steps that shrink to a tenth. Where a gradient
    is zero or not finite the image stays where it is. The image itself is among those tried, and
    all lie in the exact ball.
    """
    best = images.clone()
    lowest = _scores(scorer, model, images)
    for restart in range(how.restarts):
        x = images.clone() if restart == 0 else _drawn(images, how)
        for step in range(how.steps):
            leaf = x.clone().requires_grad_(True)
            found = scorer(model, leaf)
            (gradient,) = torch.autograd.grad(found.sum(), leaf)
            best, lowest = _lower(best, lowest, x, found.detach().double())
            size = how.rel_step_size * how.eps * (1 - 0.9 * step / how.steps)
            x = _inside(images, x - size * _direction(gradient, how.norm), how)
        best, lowest = _lower(best, lowest, x, _scores(scorer, model, x))
    return best


def _scores(scorer: OnImages, model: nn.Module, images: Tensor) -> Tensor:
    return scorer(model, images).detach().double()


def _lower(best: Tensor, lowest: Tensor, x: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    better = found < lowest
    return torch.where(_like(better, x), x, best), torch.where(better, found, lowest)


def _direction(gradient: Tensor, norm: str) -> Tensor:
    """The steepest direction of length 1 in the norm; 0 where there is none."""
    flat = gradient.flatten(1)
    finite = torch.isfinite(flat).all(dim=1)
    gradient = torch.where(_like(finite, gradient), gradient, 0.0)
    if norm == "linf":
        return gradient.sign()
    size = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=1e-30)
    return gradient / _like(size, gradient)


def _drawn(images: Tensor, how: Evasion) -> Tensor:
    if how.norm == "linf":
        noise = how.eps * (2 * torch.rand_like(images) - 1)
    else:
        length = how.eps * torch.rand(len(images), device=images.device)
        noise = _like(length, images) * _direction(torch.randn_like(images), how.norm)
    return _inside(images, images + noise, how)


def _inside(images: Tensor, x: Tensor, how: Evasion) -> Tensor:
    return pull_inside(images, x, how.norm, how.eps)


def _like(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))
