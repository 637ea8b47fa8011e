"""What a training keeps beside its weights: means over the epoch, the moving average of weights."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robsweep.tasks.training import workers

_FINE = 2**62  # no step


class Totals:
    """Named means over an epoch's samples, kept on the device: nothing here waits for a GPU."""

    def __init__(self, device: torch.device) -> None:
        self._sums: dict[str, Tensor] = {}
        self._samples = 0
        self._bad = torch.tensor(_FINE, device=device)  # the first step with a loss not finite

    def add(self, step: int, samples: int, name: str, mean: Tensor) -> None:
        """Takes in a scalar's mean over some samples of a step; `loss` comes first in each."""
        if name == "loss":
            self._samples += samples
            self._bad = torch.where(torch.isfinite(mean), self._bad, self._bad.clamp(max=step))
        weighted = mean.double() * samples
        self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted

    def check(self, epoch: int, steps: int) -> None:
        """Raises FloatingPointError if a loss so far was not finite."""
        bad = int(self._bad)
        if bad != _FINE:
            raise FloatingPointError(
                f"the training loss is not finite in epoch {epoch}, step {bad + 1} of {steps}; "
                "try a smaller lr"
            )

    def means(self) -> dict[str, float]:
        samples = torch.tensor(float(self._samples), dtype=torch.float64, device=self._bad.device)
        workers.summed([*self._sums.values(), samples])
        return {name: float(value / samples) for name, value in self._sums.items()}

    def state(self) -> dict[str, Any]:
        return {"sums": self._sums, "samples": self._samples}

    def restore(self, state: Mapping[str, Any]) -> None:
        device = self._bad.device
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self._samples = state["samples"]


class Average:
    """Exponential moving average of a model's parameters.

    The decay grows to its value as (1 + t) / (10 + t), so that a short training does not end with
    its initial weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._parameters: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self._mean = [p.detach().clone() for p in self._parameters]
        self._decay, self._updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        torch._foreach_lerp_(self._mean, self._parameters, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the model's parameters and their average."""
        for parameter, mean in zip(self._parameters, self._mean, strict=True):
            held = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(held)

    def state(self) -> dict[str, Any]:
        return {"mean": self._mean, "updates": self._updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        for mean, value in zip(self._mean, state["mean"], strict=True):
            mean.copy_(value)
        self._updates = state["updates"]
