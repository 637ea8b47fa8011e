"""Models that spare foolbox's attacks the passes whose answers they do not use."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import on
from robsweep.tasks.logits import margin

_MARGIN = 1e-4  # relative: foolbox computes its distances in float32


class OnlyCloser(nn.Module):
    """For an attack that keeps only what is closer in l2 than its best adversarial so far.

    What is further away is answered as if it were the label; no attack of that kind can tell.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.model, self.images, self.labels = model, images, labels
        self.best = torch.full(labels.shape, torch.inf, dtype=torch.float64, device=labels.device)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        distance = ball.distance(self.images, images, "l2")
        which = (distance <= self.best * (1 + _MARGIN)).nonzero().flatten()
        if len(which) == len(images):
            logits: Tensor = self.model(images)
        elif len(which):
            closer = on(self.model, which)(images[which])
            logits = F.one_hot(self.labels, closer.shape[1]).to(closer)
            logits = logits.index_copy(0, which, closer)
        else:
            return F.one_hot(self.labels, int(self.labels.max()) + 2).to(images)
        adversarial = margin(logits.detach(), self.labels) <= 0
        self.best = torch.where(adversarial, torch.minimum(self.best, distance), self.best)
        return logits


class Settled(nn.Module):
    """For an attack that leaves a sample where it is once that is adversarial.

    The sample is asked about once more as long as it stays there, and has no gradient.
    """

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.model, self.labels = model, labels
        self.there = images.detach().clone()
        self.settled = torch.zeros_like(labels, dtype=torch.bool)
        self.logits: Tensor | None = None
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        stays = (images.detach() == self.there).flatten(1).all(dim=1)
        going = (~(self.settled & stays)).nonzero().flatten()
        if self.logits is None or len(going) == len(images):
            logits: Tensor = self.model(images)
            self.logits = logits.detach().clone()
        else:
            # the sum keeps the result part of a graph, also where all have settled
            logits = self.logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)
            if len(going):
                logits = logits.index_copy(0, going, on(self.model, going)(images[going]))
            self.logits = logits.detach().clone()
        self.there = images.detach().clone()
        self.settled = margin(self.logits, self.labels) <= 0
        return logits
