"""FAB: walks along the decision boundary, drawn back towards the image."""

import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import on
from robsweep.tasks.attacks.methods.hyperplane import to_hyperplane
from robsweep.tasks.logits import margin, raw_logits

_ALPHA_MAX, _ETA, _BETA = 0.1, 1.05, 0.9  # bias to the image, overshoot, backward step
_SEARCHES = 3
_ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
_DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
_SURE = 1e-5  # of the largest logit: rounding differs between batches by less


def fab(
    model: nn.Module, images: Tensor, labels: Tensor, *, norm: str = "linf", steps: int = 100
) -> Tensor:
    """Fast adaptive boundary attack, each step towards the closest linearised boundary.

    A step takes a gradient per class. Norms linf, l2, l1.

    Source: Croce & Hein 2020, "Minimally distorted adversarial examples with a fast adaptive
    boundary attack", algorithm 1 and section 3.
    """
    closest = _walk(model, images, labels, images, None, norm, steps)
    return _final_search(model, images, labels, closest)


def fab_targeted(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: str = "linf",
    steps: int = 100,
    classes: int = 9,
) -> Tensor:
    """FAB-T: one walk to each of the `classes` wrong classes that are most likely at the image.

    Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", section 5.
    """
    logits = raw_logits(model, images).scatter(1, labels[:, None], -torch.inf)
    others = logits.argsort(dim=1, descending=True)[:, :-1]  # without the label
    closest = images
    for targets in others[:, :classes].unbind(dim=1):
        closest = _walk(model, images, labels, closest, targets, norm, steps)
    return _final_search(model, images, labels, closest)


def _walk(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    closest: Tensor,
    targets: Tensor | None,
    norm: str,
    steps: int,
) -> Tensor:
    """The closest adversarials, those known included; where none is known it is the image."""
    x, shape = images, (-1, *[1] * (images.ndim - 1))
    distance = ball.distance(images, closest, norm)
    distance = torch.where(distance > 0, distance, torch.inf)
    start = images.flatten(1)
    for _ in range(steps):
        values, normals = _boundary(model, x, labels, targets, norm)
        flat = x.flatten(1)
        at_start = values + (normals * (start - flat)).sum(dim=1)
        both = to_hyperplane(
            torch.cat([flat, start]),
            torch.cat([normals, normals]),
            torch.cat([values, at_start]),
            norm,
        )
        step, step_from_start = both.chunk(2)
        length, other = torch.linalg.vector_norm(both, ord=_ORDER[norm], dim=1, keepdim=True).chunk(
            2
        )
        bias = (length / (length + other)).nan_to_num(0).clamp(max=_ALPHA_MAX)
        moved = (1 - bias) * (flat + _ETA * step) + bias * (start + _ETA * step_from_start)
        x = moved.clamp(0, 1).reshape(images.shape)
        adversarial = margin(raw_logits(model, x), labels) <= 0
        moved_by = ball.distance(images, x, norm)
        closer = adversarial & (moved_by < distance)
        distance = torch.where(closer, moved_by, distance)
        closest = torch.where(closer.reshape(shape), x, closest)
        drawn_back = (1 - _BETA) * images + _BETA * x
        x = torch.where(adversarial.reshape(shape), drawn_back, x)
    return closest


def _boundary(
    model: nn.Module, x: Tensor, labels: Tensor, targets: Tensor | None, norm: str
) -> tuple[Tensor, Tensor]:
    """Another class's logit minus the label's, (N,), and its gradient (N, D).

    The other class is the target, or that with the closest linearised boundary.
    """
    rows = torch.arange(len(x), device=x.device)
    x = x.detach().requires_grad_()
    logits = model(x)
    if targets is not None:
        values = logits[rows, targets] - logits[rows, labels]
        (gradient,) = torch.autograd.grad(values.sum(), x)
        return values.detach(), gradient.flatten(1)
    gradients = torch.stack(
        [
            torch.autograd.grad(of_class.sum(), x, retain_graph=True)[0].flatten(1)
            for of_class in logits.unbind(dim=1)
        ],
        dim=1,
    )  # (N, K, D)
    normals = gradients - gradients[rows, labels][:, None]
    values = (logits - logits[rows, labels][:, None]).detach()
    away = values.abs() / torch.linalg.vector_norm(normals, ord=_DUAL[norm], dim=2)
    away[rows, labels] = torch.inf
    nearest = away.nan_to_num(torch.inf).argmin(dim=1)
    return values[rows, nearest], normals[rows, nearest]


def _final_search(model: nn.Module, images: Tensor, labels: Tensor, found: Tensor) -> Tensor:
    """Cuts the way from image to adversarial where the boundary would be if it were linear."""
    which = (found != images).flatten(1).any(dim=1).nonzero().flatten()
    if not len(which):
        return found
    part, labels = on(model, which), labels[which]
    low, high = images[which], found[which]
    at_low, at_high = raw_logits(part, low), raw_logits(part, high)
    shape = (-1, *[1] * (images.ndim - 1))
    for _ in range(_SEARCHES):
        rival = at_high.scatter(1, labels[:, None], -torch.inf).argmax(dim=1, keepdim=True)
        before, behind = (
            a.gather(1, rival) - a.gather(1, labels[:, None]) for a in (at_low, at_high)
        )
        wanted = 2 * _SURE * at_high.abs().amax(dim=1, keepdim=True)
        share = ((behind - wanted) / (behind - before)).nan_to_num(0).clamp(0, 1).reshape(shape)
        middle = high - share * (high - low)
        logits = raw_logits(part, middle)
        sure = margin(logits, labels) < -_SURE * logits.abs().amax(dim=1)
        high = torch.where(sure.reshape(shape), middle, high)
        low = torch.where(sure.reshape(shape), low, middle)
        at_high = torch.where(sure[:, None], logits, at_high)
        at_low = torch.where(sure[:, None], at_low, logits)
    result = found.clone()
    result[which] = high
    return result
