"""sigma-zero: the fewest changed pixels, by descent on a smooth count of them."""

import math

import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.logits import margin


def sigma_zero(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 1000,
    lr: float = 1.0,
    sigma: float = 1e-3,
    tau: float = 0.3,
    t: float = 0.01,
) -> Tensor:
    """The adversarial with the fewest changed pixels on the way, (N, ...) in [0, 1].

    The descent is on max(margin, 0) + the share of pixels that are changed, where a pixel counts
    as s / (s + sigma), s its squared change over all channels. After each step, pixels that have
    changed by less than a threshold in every channel go back to the image's. The threshold is the
    sample's own: it rises while the sample is adversarial and falls while it is not.

    Args:
        model: (N, ...) -> logits (N, K).
        images: (N, C, H, W) or (N, F) in [0, 1].
        labels: (N,).
        steps: One pass forward and one backward each, and a last one forward.
        lr: Of the first step; half a cosine takes it towards 0.
        sigma: How small a change counts as none.
        tau: The threshold at the start.
        t: By how much the threshold moves in a step, as a share of the present lr.

    Source: Cinà et al. 2025, section 3, algorithm 1.
    """
    pixels = _grouped(images).shape[2]
    delta = torch.zeros_like(images)
    threshold = images.new_full((len(images),), tau)
    best = images.clone()
    fewest = images.new_full((len(images),), math.inf, dtype=torch.float64)
    for step in range(steps + 1):
        x = (images + delta).clamp(0, 1).requires_grad_(step < steps)
        distance_left = margin(model(x), labels)
        adversarial = distance_left.detach() <= 0
        count = ball.distance(images, x.detach(), "l0")
        better = adversarial & (count < fewest)
        best = torch.where(_like(better, images), x.detach(), best)
        fewest = torch.where(better, count, fewest)
        if step == steps:
            break
        now = lr * (1 + math.cos(math.pi * step / steps)) / 2
        if step:
            threshold = threshold + torch.where(adversarial, t * now, -t * now)
        (gradient,) = torch.autograd.grad(distance_left.clamp(min=0).sum(), x)
        gradient = gradient + _gradient_of_count(delta, sigma) / pixels
        largest = gradient.flatten(1).abs().amax(dim=1).clamp(min=1e-12)
        moved = delta - now * gradient / _like(largest, images)
        delta = _sparse((images + moved).clamp(0, 1) - images, threshold)
    return best


def _gradient_of_count(delta: Tensor, sigma: float) -> Tensor:
    """Of the sum over pixels of s / (s + sigma), s the squared change of all channels."""
    groups = _grouped(delta)
    squared = groups.square().sum(dim=1, keepdim=True)
    return (2 * groups * sigma / (squared + sigma).square()).reshape(delta.shape)


def _sparse(delta: Tensor, threshold: Tensor) -> Tensor:
    """Without the pixels whose change is below the sample's threshold in every channel."""
    groups = _grouped(delta)
    kept = groups.abs().amax(dim=1, keepdim=True) >= threshold[:, None, None]
    return (groups * kept).reshape(delta.shape)


def _grouped(images: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, H * W), and (N, F) -> (N, 1, F)."""
    return images.flatten(2) if images.ndim == 4 else images[:, None]


def _like(values: Tensor, images: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (images.ndim - 1))
