"""A detector of inputs from elsewhere: a score and where it says no."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Scorer = Callable[[nn.Module, Tensor], Tensor]  # (model, (N, ...)) -> (N,), higher = more OOD

_ACCEPTED = 0.95  # of in-distribution data


@dataclass(frozen=True)
class Detector:
    """Accepts images whose score is at most the threshold.

    For attacks, the scorer must be differentiable in images that require a gradient.
    """

    scorer: Scorer
    threshold: float

    def accepts(self, model: nn.Module, images: Tensor) -> Tensor:
        """Which images pass, (N,) bool."""
        with torch.no_grad():
            return self.scorer(model, images) <= self.threshold


def calibrated(scorer: Scorer, model: nn.Module, images: Tensor, batch: int) -> Detector:
    """The detector with the lowest threshold that accepts 95 % of these images.

    Args:
        scorer: The score.
        model: What it is of.
        images: In-distribution (N, ...), e.g. the validation split; N at least 1.
        batch: How many are scored at once.
    """
    with torch.no_grad():
        scores = torch.cat([scorer(model, part) for part in images.split(batch)])  # type: ignore[no-untyped-call]
    accepted = math.ceil(_ACCEPTED * len(scores))
    return Detector(scorer, float(scores.kthvalue(accepted).values))
