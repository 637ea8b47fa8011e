"""Looking for counterexamples by projected gradient descent, and checking any that is found."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tasks.attacks.ball import inside, pull_inside
from tasks.models.logits import margin, raw_logits
from tasks.verification.layers import Network
from tasks.verification.network import read
from tasks.verification.verdicts import BOUNDARY


class Subject(NamedTuple):
    """The network under verification, three times."""

    model: nn.Module  # what is deployed
    exact: nn.Module  # the same in float64
    network: Network  # its layers


class Found(NamedTuple):
    """The best adversarials of a search: float32 (N, ...) inside the ball, and their margins."""

    adversarials: Tensor
    margins: Tensor


class Checked(NamedTuple):
    """What became of one candidate."""

    check: str  # "ok", or what failed
    margin: float  # in float64
    boundary: bool


def subject_of(model: nn.Module, shape: tuple[int, ...]) -> Subject:
    """Raises: InputError: The model cannot be read as a chain of supported layers."""
    exact = copy.deepcopy(model).double().eval()
    return Subject(model, exact, read(model, shape))


def search(
    model: nn.Module, images: Tensor, labels: Tensor, eps: float, steps: int, restarts: int
) -> Found:
    """Minimises the margin over the linf ball; the first restart starts at the images themselves.

    Samples are left alone once their margin is <= 0. Source: Madry et al. 2018, section 2.1, with
    a step that falls linearly from eps to eps / steps.
    """
    with torch.no_grad():
        best = Found(images.clone(), margin(model(images), labels))
    for restart in range(restarts):
        left = (best.margins > 0).nonzero()[:, 0]
        if not len(left):
            break
        x, y = images[left], labels[left]
        noise = torch.rand_like(x) * 2 - 1 if restart else torch.zeros_like(x)
        found = descend(model, x, y, x + eps * noise, eps, eps, steps)
        better = left[found.margins < best.margins[left]]
        chosen = found.margins < best.margins[left]
        best.adversarials[better] = found.adversarials[chosen]
        best.margins[better] = found.margins[chosen]
    return best


def descend(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    start: Tensor,
    eps: float,
    step: float,
    steps: int,
) -> Found:
    """Signed gradient steps on the margin from `start`, the first of size `step`."""
    x = pull_inside(images, start, "linf", eps)
    low, high = (pull_inside(images, images + far, "linf", eps) for far in (-2 * eps, 2 * eps))
    best = Found(x, torch.full_like(labels, torch.inf, dtype=x.dtype))
    for i in range(steps + 1):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            margins = margin(model(x), labels)
            (gradient,) = torch.autograd.grad(margins.sum(), x)
        better = (margins < best.margins).detach()
        shape = (-1, *[1] * (x.ndim - 1))
        best = Found(
            torch.where(better.reshape(shape), x.detach(), best.adversarials),
            torch.where(better, margins.detach(), best.margins),
        )
        size = step * (1 - i / (steps + 1))
        x = (x.detach() - size * gradient.sign()).clamp(low, high)
    return best


def checked(
    subject: Subject, images: Tensor, adversarials: Tensor, labels: Tensor, eps: float
) -> list[Checked]:
    """Runs candidates through the network again, in float64 and in float32."""
    exact = margin(raw_logits(subject.exact, adversarials.double()), labels)
    deployed = margin(raw_logits(subject.model, adversarials), labels).double()
    within = inside(images, adversarials, "linf", eps)
    return [
        Checked(
            _check(bool(i), e, d),
            e,
            at_boundary(e, d),
        )
        for i, e, d in zip(within, exact.tolist(), deployed.tolist(), strict=True)
    ]


def at_boundary(exact: float, deployed: float) -> bool:
    """Whether a margin is too near 0 for float32 and float64 to be sure of the same sign."""
    return min(abs(exact), abs(deployed)) < BOUNDARY or (exact <= 0) != (deployed <= 0)


def _check(within: bool, exact: float, deployed: float) -> str:
    if not within:
        return "outside the ball"
    if exact > 0:
        return "float64 margin > 0"
    return "ok" if deployed <= 0 else "float32 margin > 0"
