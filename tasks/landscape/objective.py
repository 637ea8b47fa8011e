"""What an exploration of the energy landscape descends: a loss as a function of the weights."""

import copy
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.logits import raw_logits

Floats = NDArray[np.float64]
_BATCH = 5000  # images whose gradients are held at once


class Visit(NamedTuple):
    """Where one local minimisation ended, whether or not it converged."""

    step: int  # 0: from the chain's start
    weights: Floats  # (P,)
    accepted: bool  # the chain went on from here


class Objective:
    """Mean cross entropy of a model on fixed data + l2 * ||weights||^2, in float64.

    The penalty makes minima isolated points: without it, separable data have none at all, and a
    ReLU net's lie in valleys along which one layer grows as the next shrinks. The model is in eval
    mode, so that nothing is drawn and no statistics move.
    """

    def __init__(self, model: nn.Module, data: Labelled, l2: float) -> None:
        self.model = copy.deepcopy(model).double().eval().requires_grad_(True)
        for parameter in self.model.parameters():  # some nets keep theirs channels last
            parameter.data = parameter.data.contiguous()
        self.images, self.labels = data.images.double(), data.labels
        self.l2 = l2
        self._weights = parameters_to_vector(self.model.parameters()).detach()
        # from here on the parameters are views of it
        vector_to_parameters(self._weights, self.model.parameters())

    def start(self) -> Floats:
        """The weights of now, (P,)."""
        weights: Floats = self._weights.cpu().numpy().copy()
        return weights

    def __call__(self, weights: Floats) -> tuple[float, Floats]:
        """The loss at weights (P,), and its gradient, (P,)."""
        self._weights.copy_(torch.from_numpy(weights))
        parameters = list(self.model.parameters())
        loss, gradient = self.l2 * float(weights @ weights), 2 * self.l2 * weights
        for start in range(0, len(self.labels), _BATCH):
            part = slice(start, start + _BATCH)
            logits = self.model(self.images[part])
            share = F.cross_entropy(logits, self.labels[part], reduction="sum") / len(self.labels)
            found = torch.autograd.grad(
                share, parameters, allow_unused=True, materialize_grads=True
            )
            gradient += torch.cat([one.reshape(-1) for one in found]).cpu().numpy()
            loss += float(share.detach())
        return loss, gradient

    def logits(self, weights: Floats) -> Tensor:
        """Float64 logits on the data, (N, K)."""
        self._weights.copy_(torch.from_numpy(weights))
        return torch.cat([raw_logits(self.model, part) for part in self.images.split(_BATCH)])  # type: ignore[no-untyped-call]


def put(model: nn.Module, weights: Floats) -> None:
    """Gives a model these weights, in its own type."""
    first = next(model.parameters())
    flat = torch.tensor(weights, dtype=first.dtype, device=first.device)
    vector_to_parameters(flat, model.parameters())
