"""Gaussian noise augmentation."""

import torch
from torch import Tensor, nn

from tasks.data.load import Labelled
from tasks.training.fit import Epoch, Loss, fit
from tasks.training.standard import cross_entropy


def noise(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    lr_decay: float = 1.0,
    weight_decay: float = 0.0,
    std: float = 0.1,
) -> list[Epoch]:
    """Minimises cross entropy on images with fresh Gaussian noise, clipped to [0, 1], in place.

    Source: Ford et al. 2019, section 4.
    """

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        noisy = (images + std * torch.randn_like(images)).clamp(0, 1)
        return cross_entropy(model, noisy, labels)

    return fit(
        model,
        train,
        validation,
        loss,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
    )
