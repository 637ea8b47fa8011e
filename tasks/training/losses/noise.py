"""Gaussian noise augmentation."""

import torch
from torch import nn

from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup, cross_entropy


def noise(setup: Setup, *, std: float = 0.1) -> LossFunction:
    """Cross entropy on images with fresh Gaussian noise, clipped to [0, 1].

    Source: Ford et al. 2019, section 4.
    """
    del setup

    def loss(model: nn.Module, batch: Batch) -> Loss:
        noisy = (batch.images + std * torch.randn_like(batch.images)).clamp(0, 1)
        return cross_entropy(model, batch._replace(images=noisy))

    return loss
