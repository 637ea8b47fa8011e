"""Adversarial training in the linf ball."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.load import Labelled
from tasks.training.fit import Epoch, Loss, fit
from tasks.training.standard import cross_entropy


def fgsm(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    lr_decay: float = 1.0,
    weight_decay: float = 0.0,
    eps: float,
    rel_step_size: float = 1.25,
) -> list[Epoch]:
    """Trains in place on one signed gradient step from a random start.

    Args:
        rel_step_size: Step size divided by eps.

    Source: Wong et al. 2020, algorithm 3.
    """
    return pgd(
        model,
        train,
        validation,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
        eps=eps,
        steps=1,
        rel_step_size=rel_step_size,
    )


def pgd(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    lr_decay: float = 1.0,
    weight_decay: float = 0.0,
    eps: float,
    steps: int = 7,
    rel_step_size: float = 0.25,
) -> list[Epoch]:
    """Trains in place on the result of projected signed gradient ascent from a random start.

    Args:
        rel_step_size: Step size divided by eps.

    Source: Madry et al. 2018, section 2.1.
    """

    def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
        model.eval()  # the attack must neither feel dropout nor move batch statistics
        adversarials = ascend(
            model, images, labels, eps=eps, steps=steps, step_size=rel_step_size * eps
        )
        model.train()
        return cross_entropy(model, adversarials, labels)

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


def ascend(
    model: nn.Module, images: Tensor, labels: Tensor, *, eps: float, steps: int, step_size: float
) -> Tensor:
    """Signed gradient ascent on cross entropy in the linf ball around images in [0, 1]."""
    lower, upper = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    start = images + torch.empty_like(images).uniform_(-eps, eps)
    adversarials = start.clamp(0, 1)
    for _ in range(steps):
        adversarials.requires_grad_(True)
        loss = F.cross_entropy(model(adversarials), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarials)
        moved = adversarials.detach() + step_size * gradient.sign()
        adversarials = torch.clamp(moved, lower, upper)
    return adversarials
