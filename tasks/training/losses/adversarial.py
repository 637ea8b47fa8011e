"""Adversarial training in the linf ball."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup, cross_entropy
from robsweep.tasks.training.recipe import by_epoch


def fgsm(
    setup: Setup,
    *,
    eps: float,
    rel_step_size: float = 1.25,
    adversarial_weight: Sequence[float] = (1.0,),
) -> LossFunction:
    """Cross entropy after one signed gradient step from a random start.

    Args:
        rel_step_size: Step size divided by eps.
        adversarial_weight: As in `pgd`.

    Source: Wong et al. 2020, algorithm 3.
    """
    return pgd(
        setup,
        eps=eps,
        steps=1,
        rel_step_size=rel_step_size,
        adversarial_weight=adversarial_weight,
    )


def pgd(
    setup: Setup,
    *,
    eps: float,
    steps: int = 7,
    rel_step_size: float = 0.25,
    adversarial_weight: Sequence[float] = (1.0,),
) -> LossFunction:
    """Cross entropy after projected signed gradient ascent from a random start.

    Args:
        rel_step_size: Step size divided by eps.
        adversarial_weight: Of the adversarial loss in epoch 1, 2, ..., the last one from then on;
            the clean loss has the rest of 1.

    Source: Madry et al. 2018, section 2.1; mixed with the clean loss as in Goodfellow et al. 2015,
    section 6.
    """
    del setup

    def loss(model: nn.Module, batch: Batch) -> Loss:
        weight = by_epoch(adversarial_weight, batch.epoch)
        if weight == 0:
            return cross_entropy(model, batch)
        model.eval()  # the attack must neither feel dropout nor move batch statistics
        found = ascend(
            model, batch.images, batch.targets, eps=eps, steps=steps, step_size=rel_step_size * eps
        )
        model.train()
        adversarial = cross_entropy(model, batch._replace(images=found))
        if weight == 1:
            return adversarial
        clean = cross_entropy(model, batch)
        value = (1 - weight) * clean.value + weight * adversarial.value
        terms = {"clean": clean.value, "adversarial": adversarial.value}
        return Loss(value, adversarial.logits, terms)

    return loss


def trades(
    setup: Setup, *, eps: float, steps: int = 10, rel_step_size: float = 0.25, beta: float = 6.0
) -> LossFunction:
    """Clean cross entropy, and how far the answer moves in the ball, in KL divergence.

    Args:
        rel_step_size: Step size divided by eps.
        beta: Weight of the divergence (the paper's 1 / lambda).

    Source: Zhang et al. 2019, section 3 and algorithm 1 (TRADES).
    """
    del setup

    def loss(model: nn.Module, batch: Batch) -> Loss:
        model.eval()
        with torch.no_grad():
            answer = model(batch.images).softmax(dim=1)
        found = ascend(
            model, batch.images, answer, eps=eps, steps=steps, step_size=rel_step_size * eps,
            start=0.001 / eps if eps else 0.0,
        )  # fmt: skip
        model.train()
        clean = cross_entropy(model, batch)
        assert clean.logits is not None
        divergence = F.kl_div(
            model(found).log_softmax(dim=1), clean.logits.softmax(dim=1), reduction="batchmean"
        )
        terms = {"clean": clean.value, "divergence": divergence}
        return Loss(clean.value + beta * divergence, clean.logits, terms)

    return loss


def ascend(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    eps: float,
    steps: int,
    step_size: float,
    start: float = 1.0,
) -> Tensor:
    """Signed gradient ascent on cross entropy in the linf ball around images in [0, 1].

    Args:
        targets: Labels (N,) or probabilities (N, K).
        start: Radius of the random start, divided by eps.
    """
    lower, upper = (images - eps).clamp(min=0), (images + eps).clamp(max=1)
    moved = images + start * torch.empty_like(images).uniform_(-eps, eps)
    adversarials = torch.clamp(moved, lower, upper)
    for _ in range(steps):
        adversarials.requires_grad_(True)
        loss = F.cross_entropy(model(adversarials), targets, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarials)
        moved = adversarials.detach() + step_size * gradient.sign()
        adversarials = torch.clamp(moved, lower, upper)
    return adversarials
