"""Out-of-distribution scores that need only the logits; higher = more OOD."""

import torch
from torch import Tensor, nn

from robsweep.tasks.logits import confidence, logits_of


def max_softmax(model: nn.Module, images: Tensor) -> Tensor:
    """Minus the largest class probability, (N,) in [-1, -1/K], as `models.logits.confidence`.

    Source: Hendrycks & Gimpel 2017, section 2.
    """
    # float64: a float32 softmax rounds to 1 already for logits 17 apart, and ties ruin a ranking
    return -confidence(_logits(model, images), model)


def max_logit(model: nn.Module, images: Tensor) -> Tensor:
    """Minus the largest logit, (N,).

    Source: Hendrycks et al. 2022, section 3.
    """
    return -_logits(model, images).amax(dim=1)


def energy(model: nn.Module, images: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Free energy -T logsumexp(logits / T), (N,).

    Source: Liu et al. 2020, equation 4.
    """
    return -temperature * torch.logsumexp(_logits(model, images) / temperature, dim=1)


def entropy(model: nn.Module, images: Tensor) -> Tensor:
    """Entropy of the softmax in nats, (N,) in [0, log K]."""
    log_p = torch.log_softmax(_logits(model, images), dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    # an attack on the score follows its gradient
    logits: Tensor = model(images) if images.requires_grad else logits_of(model, images)
    return logits.double()
