"""Counts what an attack costs."""

import torch
from torch import Tensor, nn


class Counted(nn.Module):
    """A model in eval mode that counts how many samples pass forward and backward through it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.n_forward = 0
        self.n_backward = 0
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        self.n_forward += len(images)
        logits: Tensor = self.model(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def _count_backward(self, gradient: Tensor) -> None:
        self.n_backward += len(gradient)


class RefusesNonFinite(nn.Module):
    """A model that raises on inputs that are not finite.

    Decision attacks whose walk has left the numbers would otherwise loop for ever.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if not torch.isfinite(images).all():
            raise FloatingPointError("the attack tried images that are not finite")
        logits: Tensor = self.model(images)
        return logits
