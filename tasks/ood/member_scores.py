"""Scores of an ensemble by how its members differ: `f(members) -> (N,)`, higher = more OOD."""

import torch
from torch import Tensor


def mutual_information(members: Tensor) -> Tensor:
    """Entropy of the mean softmax less the mean entropy, in nats, (N,) in [0, log K].

    Args:
        members: Logits (N, M, K) of the members, float64.

    Source: Smith & Gal 2018, section 2, and Lakshminarayanan et al. 2017.
    """
    log_p = torch.log_softmax(members, dim=2)
    p = log_p.exp()
    mean = p.mean(dim=1)
    entropy = -torch.special.xlogy(mean, mean).sum(dim=1)
    result: Tensor = entropy + (p * log_p).sum(dim=2).mean(dim=1)
    return result
