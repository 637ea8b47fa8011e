"""ODIN: temperature, and a small step that makes a sure model surer of what it knows."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

# Where a search looks if it is not told: the temperatures and steps of the paper.
TEMPERATURES = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
STEPS = tuple(k / 5000 for k in range(21))


def odin(
    model: nn.Module, images: Tensor, *, temperature: float = 1000.0, eps: float = 0.0014
) -> Tensor:
    """Minus the largest softmax of logits / T, after a step of eps towards a larger one, (N,).

    The step is along the sign of the gradient of its logarithm. Its own gradient is taken to be
    that of the images, as a sign has none.
    Source: Liang et al. 2018, section 3.
    """
    moved = images + eps * upward(model, images, temperature) if eps else images
    with torch.set_grad_enabled(images.requires_grad):
        return -_sure(model(moved), temperature).exp()


def upward(model: nn.Module, images: Tensor, temperature: float) -> Tensor:
    """Sign of the gradient of the largest log-softmax at this temperature, as the images."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(_sure(model(leaf), temperature).sum(), leaf)
    return gradient.sign()


class Tried(NamedTuple):
    temperature: float
    eps: float
    fpr95: float  # share of OOD that passes where 95 % of ID do
    auroc: float


def search(
    model: nn.Module,
    inside: Sequence[Tensor],
    outside: Sequence[Tensor],
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    eps: Sequence[float] = STEPS,
) -> list[Tried]:
    """All of a grid, the best first: by FPR at 95 %, then AUROC, then the smaller eps and T.

    Args:
        model: (N, ...) -> logits (N, K).
        inside: Batches of in-distribution images.
        outside: Batches of others.
        temperatures: To be tried.
        eps: Likewise.

    Source: Liang et al. 2018, section 4.
    """
    tried = []
    for temperature in temperatures:
        scores = [_along(model, part, temperature, eps) for part in (inside, outside)]
        for k, step in enumerate(eps):
            id_, ood = scores[0][k], scores[1][k]
            tried.append(Tried(temperature, step, _fpr95(ood, id_), _auroc(ood, id_)))
    return sorted(tried, key=lambda one: (one.fpr95, -one.auroc, one.eps, one.temperature))


def _along(
    model: nn.Module, batches: Sequence[Tensor], temperature: float, eps: Sequence[float]
) -> list[NDArray[np.float64]]:
    """Scores for each step: its direction is found once."""
    found: list[list[Tensor]] = [[] for _ in eps]
    for images in batches:
        direction = upward(model, images, temperature)
        with torch.no_grad():
            for k, step in enumerate(eps):
                moved = images + step * direction if step else images
                found[k].append(-_sure(model(moved), temperature).exp().cpu())
    return [torch.cat(parts).numpy() for parts in found]


def _sure(logits: Tensor, temperature: float) -> Tensor:
    """Log of the largest softmax of logits / T, float64 (N,)."""
    return torch.log_softmax(logits.double() / temperature, dim=1).amax(dim=1)


def _fpr95(ood: NDArray[np.float64], id_: NDArray[np.float64]) -> float:
    accepted = int(np.ceil(0.95 * len(id_) - 1e-9))
    threshold = np.sort(id_)[accepted - 1]
    return float(np.mean(ood <= threshold))


def _auroc(ood: NDArray[np.float64], id_: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([ood, id_]))[: len(ood)]
    return float((ranks.mean() - (len(ood) + 1) / 2) / len(id_))
