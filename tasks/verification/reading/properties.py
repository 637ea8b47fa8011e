"""What is to be shown of a network's outputs, as the region that they must not reach.

The region is closed: a point on its border is unsafe, so a tie of the label's logit with another
one counts as adversarial. Strict inequalities are read as these closed ones.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

# A margin below it may have another sign in float32 than in float64, and solvers accept points that
# violate a constraint by as much. So `verified` means that the smallest margin is above it.
BOUNDARY = 1e-6
PROVED = math.nextafter(BOUNDARY, 1.0)  # the least that a margin can be if it is above

Verdict = Literal["verified", "falsified", "misclassified", "unknown", "timeout", "error"]


class Property(NamedTuple):
    """N samples' unsafe regions: any of D disjuncts, each of which is a conjunction.

    Disjunct d of a sample is where `weight[d] @ logits + bias[d] <= 0` in all of its C rows.
    Disjuncts that are shorter repeat a row; one with an infinite bias is never reached.
    """

    weight: Tensor  # float64 (N, D, C, K)
    bias: Tensor  # float64 (N, D, C)

    def rows(self, index: Tensor | list[int]) -> "Property":
        return Property(self.weight[index], self.bias[index])


def untargeted(labels: Tensor, classes: int, least: float = 0.0) -> Property:
    """Some class comes within `least` of the label's logit; disjunct c is class c.

    Args:
        labels: (N,) int64.
        least: By how much the label must win; at least 0.
    """
    eye = torch.eye(classes, dtype=torch.float64, device=labels.device)
    own = eye[labels]
    bias = torch.full_like(own, -least).masked_fill(own.bool(), torch.inf)
    return Property((own[:, None] - eye)[:, :, None], bias[:, :, None])


def targeted(targets: list[int], classes: int, device: torch.device | None = None) -> Property:
    """One of the target classes is predicted, or ties with what is: a region for one sample."""
    eye = torch.eye(classes, dtype=torch.float64, device=device)
    weight = eye[None, :] - eye[targets][:, None]
    own = eye[targets].bool()  # whose row always holds
    bias = torch.zeros_like(eye[targets]).masked_fill(own, -torch.inf)
    return Property(weight[None], bias[None])


def margin(unsafe: Property, logits: Tensor) -> Tensor:
    """How far logits (N, K) are from the region, (N,): <= 0 is inside."""
    found = torch.einsum("ndck,nk->ndc", unsafe.weight, logits.double()) + unsafe.bias
    return found.amax(2).amin(1)
