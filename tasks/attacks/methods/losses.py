"""Losses that attacks raise: higher is closer to a wrong class. (N, K) logits -> (N,)."""

import torch
from torch import Tensor

from robsweep.tasks.logits import margin

_TINY = 1e-30  # the scale is 0 only where the label ties, and the sample is broken anyway


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Difference of logits ratio: the negative margin, over the largest minus the third logit.

    With two classes there is no third and the ratio would be 1 throughout: the negative margin.

    Source: Croce & Hein 2020, section 4.
    """
    if logits.shape[1] < 3:
        return -margin(logits, labels)
    top = logits.topk(3, dim=1).values
    return -margin(logits, labels) / (top[:, 0] - top[:, 2]).clamp(min=_TINY)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """The target's logit minus the label's, over the largest minus the mean of third and fourth.

    With less than four classes the difference alone: its ratio to the largest minus the third is
    constant for the least likely of three classes.

    Source: Croce & Hein 2020, section 4.2.
    """
    rows = torch.arange(len(labels), device=logits.device)
    difference = logits[rows, targets] - logits[rows, labels]
    if logits.shape[1] < 4:
        return difference
    top = logits.topk(4, dim=1).values
    return difference / (top[:, 0] - top[:, 2:].mean(dim=1)).clamp(min=_TINY)
