"""Calling a model, and what follows from its logits."""

import inspect

import torch
from torch import Tensor, nn


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, K) of one batch, without gradients.

    Raises:
        FloatingPointError: Some logits are not finite.
    """
    logits = raw_logits(model, images)
    bad = int((~torch.isfinite(logits)).any(dim=1).sum())
    if bad:
        raise FloatingPointError(f"the model's logits are not finite for {bad} of {len(images)}")
    return logits


def raw_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Logits (N, K) of one batch, without gradients, finite or not."""
    with torch.no_grad():
        logits: Tensor = model(images)
    return logits


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Label's logit minus the largest other one, (N,); <= 0 means misclassified or tied."""
    rows = torch.arange(len(labels), device=logits.device)
    others = logits.clone()
    others[rows, labels] = -torch.inf
    return logits[rows, labels] - others.amax(dim=1)


def confidence(logits: Tensor, model: nn.Module | None = None) -> Tensor:
    """Largest class probability, float64 (N,): the model's own one where it has a method
    `confidence(logits)`, else that of the softmax.
    """
    own = getattr(model, "confidence", None)
    if inspect.ismethod(own):
        result: Tensor = own(logits)
        return result.double()
    return torch.softmax(logits.double(), dim=1).amax(dim=1)
