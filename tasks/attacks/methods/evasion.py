"""An adaptive attack on a model and its detector together."""

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import on
from robsweep.tasks.attacks.detector import Detector
from robsweep.tasks.attacks.methods.projections import project
from robsweep.tasks.logits import margin


def evade(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    norm: str,
    detector: Detector,
    steps: int = 200,
    rel_step_size: float = 0.1,
    how: str = "orthogonal",
) -> Tensor:
    """Images in the ball that are misclassified and that the detector accepts.

    A step is on the margin while the sample is classified correctly, and on the score while it is
    not. An orthogonal one leaves out what would change the other of the two to first order (in
    linf, where a step is a sign, only nearly). A sample is done when both are fooled. Of one that
    never is, the misclassified image with the lowest score is returned, else the last one. Where
    the score is a function of the margin, as nearly is the softmax of a sure model, nothing
    orthogonal is left: take selective ones.

    Args:
        model: (N, ...) -> logits (N, K).
        images: (N, ...) in [0, 1].
        labels: (N,).
        eps: Radius.
        norm: linf or l2.
        detector: Its scorer is differentiable.
        steps: At most; each is two passes, of the model and of the score.
        rel_step_size: Length of a step, in units of eps.
        how: selective or orthogonal.

    Source: Bryniarski et al. 2022, section 4.
    """
    x = _into_ball(images, images + _noise(images, eps, norm), eps, norm)
    best = x.clone()
    lowest = torch.full_like(labels, torch.inf, dtype=torch.float64)
    which = torch.arange(len(labels), device=labels.device)
    for step in range(steps + 1):
        if not len(which):
            break
        part, tried = on(model, which), x[which]
        # two leaves: passes are tallied by the tensor whose gradient they give
        for_margin, for_score = (tried.clone().requires_grad_(True) for _ in range(2))
        left = margin(part(for_margin), labels[which])
        score = detector.scorer(part, for_score)
        fooled = left.detach() <= 0
        found = score.detach().double()
        better = (fooled & (found < lowest[which])) | lowest[which].isinf()
        best[which[better]] = tried[better]
        lowest[which] = torch.where(fooled, torch.minimum(found, lowest[which]), lowest[which])
        going = ~fooled | (found > detector.threshold)
        if step == steps or not going.any():
            break
        (of_margin,) = torch.autograd.grad(left.sum(), for_margin)
        (of_score,) = torch.autograd.grad(score.sum(), for_score)
        wanted = torch.where(_like(fooled, tried), of_score, of_margin)
        other = torch.where(_like(fooled, tried), of_margin, of_score)
        if how == "orthogonal":
            wanted = _without(wanted, other)
        which = which[going]
        moved = x[which] - rel_step_size * eps * _direction(wanted[going], norm)
        x[which] = _into_ball(images[which], moved, eps, norm)
    return best


def _without(gradient: Tensor, other: Tensor) -> Tensor:
    """The part of a gradient that is orthogonal to another one, sample by sample."""
    g, o = gradient.flatten(1), other.flatten(1)
    share = (g * o).sum(dim=1) / o.square().sum(dim=1).clamp(min=1e-30)
    return (g - share[:, None] * o).reshape(gradient.shape)


def _direction(gradient: Tensor, norm: str) -> Tensor:
    """The steepest direction of length 1 in the norm."""
    if norm == "linf":
        return gradient.sign()
    size = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=1e-30)
    return gradient / _like(size, gradient)


def _noise(images: Tensor, eps: float, norm: str) -> Tensor:
    if norm == "linf":
        return eps * (2 * torch.rand_like(images) - 1)
    length = eps * torch.rand(len(images), device=images.device)
    return _like(length, images) * _direction(torch.randn_like(images), norm)


def _into_ball(images: Tensor, x: Tensor, eps: float, norm: str) -> Tensor:
    return project(images.flatten(1), x.flatten(1), eps, norm).view_as(images)


def _like(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))
