"""Models that answer at random, seen through the mean of several answers."""

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import keep_confidence, on


class Averaged(nn.Module):
    """Expectation over transformation: the mean of the logits of `eot` passes, in one batch.

    Source: Athalye et al. 2018, section 4.2.
    """

    def __init__(self, model: nn.Module, eot: int) -> None:
        super().__init__()
        self.model, self.eot = model, eot
        keep_confidence(self, model)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.model(torch.cat([images] * self.eot))
        return answers.reshape(self.eot, len(images), -1).mean(dim=0)

    def on(self, which: Tensor) -> "Averaged":
        """The same for some of the samples."""
        return Averaged(on(self.model, which), self.eot)
