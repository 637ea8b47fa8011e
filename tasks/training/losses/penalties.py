"""Gradient penalties: trainings that flatten the model around the data."""

import torch
from torch import Tensor, nn

from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup, cross_entropy


def jacobian(setup: Setup, *, weight: float = 0.01, projections: int = 1) -> LossFunction:
    """Cross entropy + weight / 2 * ||d logits / d image||_F^2, by random projections.

    Args:
        projections: Random unit vectors a step; the estimate is unbiased for any number.

    Source: Hoffman et al. 2019, section 2.3, algorithm 1.
    """
    del setup

    def loss(model: nn.Module, batch: Batch) -> Loss:
        images = batch.images.detach().requires_grad_(True)
        fitted = cross_entropy(model, batch._replace(images=images))
        assert fitted.logits is not None
        norm = fitted.value.new_zeros(())
        for _ in range(projections):
            direction = torch.randn_like(fitted.logits)
            direction = direction / direction.norm(dim=1, keepdim=True)
            norm = norm + _squared_gradient((fitted.logits * direction).sum(), images)
        norm = norm * fitted.logits.shape[1] / projections
        return Loss(fitted.value + weight / 2 * norm, fitted.logits, {"jacobian": norm})

    return loss


def input_gradient(setup: Setup, *, weight: float = 1.0) -> LossFunction:
    """Cross entropy + weight * ||d loss / d image||_2^2 of each sample.

    Source: Drucker & LeCun 1992; Ross & Doshi-Velez 2018, section 3.
    """
    del setup

    def loss(model: nn.Module, batch: Batch) -> Loss:
        images = batch.images.detach().requires_grad_(True)
        fitted = cross_entropy(model, batch._replace(images=images))
        # the sum, so that each sample's gradient is that of its own loss
        norm = _squared_gradient(fitted.value * len(images), images)
        return Loss(fitted.value + weight * norm, fitted.logits, {"input_gradient": norm})

    return loss


def _squared_gradient(value: Tensor, images: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, images, create_graph=True)
    return gradient.flatten(1).square().sum(dim=1).mean()
