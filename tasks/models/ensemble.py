"""Several models that vote."""

import operator
from collections.abc import Mapping, Sequence
from functools import reduce
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.load import build


class Ensemble(nn.Module):
    """Models of the same inputs and classes; (N, *shape) in [0, 1] -> logits (N, K).

    | vote | logits |
    |---|---|
    | `mean_logits` | their mean |
    | `mean_probabilities` | log of the mean softmax, whose softmax is that mean |
    | `majority` | log of the share of votes; the mean softmax is one more, and decides ties |

    The votes of `majority` are steps: its gradients are those through the mean softmax alone.
    """

    def __init__(self, members: Sequence[nn.Module], vote: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.vote = vote

    def forward(self, images: Tensor) -> Tensor:
        return self.voted([member(images) for member in self.members])

    def voted(self, logits: Sequence[Tensor]) -> Tensor:
        """Logits (N, K) of the members' logits, (N, K) each."""
        if self.vote == "mean_logits":
            total: Tensor = reduce(operator.add, logits)
            return total / len(logits)
        log_probabilities = torch.stack([F.log_softmax(one, dim=1) for one in logits])
        if self.vote == "mean_probabilities":
            return log_probabilities.logsumexp(dim=0) - log(len(logits))
        mean = log_probabilities.exp().mean(dim=0)
        ballots = log_probabilities.argmax(dim=2)
        votes = F.one_hot(ballots, mean.shape[1]).sum(dim=0).to(mean.dtype) + mean
        # a distribution's logarithm, so that confidences are shares of the votes
        tiny = torch.finfo(mean.dtype).tiny
        return (votes / (len(logits) + 1)).clamp(min=tiny).log()

    def finish(self, train: Labelled) -> None:
        """Lets each member fit what it has to fit after its training."""
        for member in self.members:
            if callable(finish := getattr(member, "finish", None)):
                finish(train)


def ensemble(
    shape: tuple[int, ...],
    classes: int,
    *,
    vote: str = "mean_logits",
    members: Sequence[Mapping[str, Any]] = (),
) -> nn.Module:
    """Builds an `Ensemble` with fresh weights.

    Args:
        members: The architecture of each, `{"arch": name, "params": its parameters}`.

    Raises:
        InputError: There are no members, or one cannot be built.
    """
    if not members:
        raise InputError("an ensemble needs members: give it as `members: [NAME, NAME]`")
    built = [build(ModelRef("", m["arch"], m["params"], shape, classes)) for m in members]
    return Ensemble(built, vote)
