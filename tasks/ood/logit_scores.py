"""Out-of-distribution scores that need only the logits; higher = more OOD.

A `model` may be anything that gives logits (N, K), such as the identity where these are stored.
"""

import torch
from torch import Tensor, nn

from robsweep.tasks.logits import confidence, logits_of
from robsweep.tasks.ood.fits import Fitted


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


def cross_entropy_uniform(model: nn.Module, images: Tensor) -> Tensor:
    """Minus the cross entropy from the uniform distribution to the softmax, (N,), at most -log K.

    Source: Hendrycks et al. 2019, section 3, the score of models trained with outliers.
    """
    return torch.log_softmax(_logits(model, images), dim=1).mean(dim=1)


def gen(model: nn.Module, images: Tensor, *, gamma: float = 0.1, top: int = 100) -> Tensor:
    """Generalised entropy: the sum of (p (1 - p))^gamma over the largest probabilities, (N,).

    Args:
        model: (N, ...) -> logits (N, K).
        images: (N, ...).
        gamma: Exponent, in (0, 1).
        top: So many classes count, or all where there are fewer.

    Source: Liu et al. 2023, equation 2.
    """
    log_p = torch.log_softmax(_logits(model, images), dim=1)
    largest = log_p.topk(min(top, log_p.shape[1]), dim=1).values
    # 1 - p of a sure model rounds to 0; the sum of the others does not
    rest = torch.log1p(-largest[:, 1:].exp())
    others = log_p.topk(log_p.shape[1], dim=1).values[:, 1:].logsumexp(dim=1, keepdim=True)
    return ((largest + torch.cat([others, rest], dim=1)) * gamma).exp().sum(dim=1)


def kl_matching(logits: Tensor, fit: Fitted) -> Tensor:
    """Smallest KL divergence from the softmax to the mean posterior of a class, (N,).

    Args:
        logits: (N, K).
        fit: `posteriors` (K, K), of validation samples that are predicted as each class.

    Source: Hendrycks et al. 2022, section 3.
    """
    log_p = torch.log_softmax(logits, dim=1)
    means = fit["posteriors"].clamp(min=torch.finfo(log_p.dtype).tiny).log()
    own = (log_p.exp() * log_p).sum(dim=1, keepdim=True)
    return (own - log_p.exp() @ means.T).amin(dim=1)


def _logits(model: nn.Module, images: Tensor) -> Tensor:
    # an attack on the score follows its gradient
    logits: Tensor = model(images) if images.requires_grad else logits_of(model, images)
    return logits.double()
