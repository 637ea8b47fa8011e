"""Scores by what the last layer makes of features; as `distance_scores`.

The fit holds the head: weight (K, D) and bias (K,), with which logits are `features @ W.T + b`.
"""

import torch
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.ood.fits import Fitted


def react(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """Energy of the logits of features that are clipped from above.

    Source: Sun et al. 2021, section 3.
    """
    return _energy(torch.minimum(features, fit["clip"]), fit)


def ash(features: Tensor, logits: Tensor, fit: Fitted, *, prune: float = 90.0) -> Tensor:
    """Energy after the smallest activations are set to 0 and the others scaled up.

    Args:
        features: (N, D), activations that are not negative.
        logits: (N, K).
        fit: The head.
        prune: Per cent of the activations that go.

    Source: Djurisic et al. 2023, section 3, ASH-S.
    """
    ratio = _share(features, kept := _pruned(features, prune), "ash")
    return _energy(kept * ratio.exp()[:, None], fit)


def scale(features: Tensor, logits: Tensor, fit: Fitted, *, prune: float = 85.0) -> Tensor:
    """Energy of all activations, scaled by how little of them the smallest ones are.

    Args:
        features: (N, D), activations that are not negative.
        logits: (N, K).
        fit: The head.
        prune: Per cent of the activations that the others are compared with.

    Source: Xu et al. 2024, section 4.
    """
    ratio = _share(features, _pruned(features, prune), "scale")
    return _energy(features * ratio.exp()[:, None], fit)


def fdbd(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """Minus the mean distance to the decision boundaries, relative to that from the mean.

    Source: Liu & Qin 2024, section 3.
    """
    rows = torch.arange(len(logits), device=logits.device)
    predicted = logits.argmax(dim=1)
    lead = logits[rows, predicted][:, None] - logits
    apart = torch.cdist(fit["weight"], fit["weight"])[predicted]
    others = torch.ones_like(lead)
    others[rows, predicted] = 0
    distances = (lead / torch.where(others > 0, apart, 1.0) * others).sum(dim=1)
    from_mean: Tensor = (features - fit["mean"]).norm(dim=1)
    return -distances / (logits.shape[1] - 1) / from_mean


def nci(features: Tensor, logits: Tensor, fit: Fitted, *, alpha: float = 0.001) -> Tensor:
    """Minus how far the centred features point along their class's weights, and their l1 norm.

    Source: Liu & Qin 2025, section 3.
    """
    around = features - fit["mean"]
    weights = fit["weight"][logits.argmax(dim=1)]
    along: Tensor = (around * weights).sum(dim=1) / around.norm(dim=1)
    return -(along + alpha * features.abs().sum(dim=1))


def gradnorm(features: Tensor, logits: Tensor, fit: Fitted, *, temperature: float = 1.0) -> Tensor:
    """Minus the l1 norm of the weights' gradient of the cross entropy to uniform, closed form.

    The gradient is the outer product of softmax less 1/K, over T, and the features.
    Source: Huang et al. 2021, section 3.
    """
    p = torch.softmax(logits / temperature, dim=1)
    off = (p - 1 / logits.shape[1]).abs().sum(dim=1) / temperature
    return -off * features.abs().sum(dim=1)


def _share(features: Tensor, kept: Tensor, name: str) -> Tensor:
    """How much of each sample's activations the largest ones make, as a ratio of at least 1, (N,).

    Raises:
        InputError: Some activations are negative: of those the ratio says nothing.
    """
    if bool((features < 0).any()):
        raise InputError(
            f"{name} needs activations that are not negative, as behind a ReLU: this layer has "
            f"values down to {float(features.min()):.3g}; name another one with `layer:`"
        )
    whole, largest = features.sum(dim=1), kept.sum(dim=1)
    return torch.where(largest > 0, whole / largest.clamp_min(1e-30), torch.ones_like(whole))


def _pruned(features: Tensor, prune: float) -> Tensor:
    """Features (N, D) of which only the largest stay, at least one."""
    d = features.shape[1]
    stay = max(1, d - round(d * prune / 100))
    top = features.topk(stay, dim=1)
    return torch.zeros_like(features).scatter(1, top.indices, top.values)


def _energy(features: Tensor, fit: Fitted) -> Tensor:
    return -(features @ fit["weight"].T + fit["bias"]).logsumexp(dim=1)
