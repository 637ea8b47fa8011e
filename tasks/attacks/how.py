"""How an attack is run, beside its own parameters: what it is aimed at, and what it may see."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.averaged import Averaged
from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.attacks.detector import Detector
from robsweep.tasks.attacks.score_based import Estimator, ScoreBased


@dataclass(frozen=True)
class How:
    restarts: int = 1
    seed: int = 0
    target: str | None = None  # the class aimed at: runner_up | least_likely | random
    gradients: Estimator | None = None  # estimated from queries alone
    gradient_samples: int = 0
    gradient_step: float = 1e-3
    eot: int = 1  # passes that are averaged, for randomised models
    source: nn.Module | None = None  # the model that is attacked in place of the one that is asked
    detector: Detector | None = None  # must accept what counts as a success
    time_limit_seconds: float | None = None  # of one call

    def shown(self, model: nn.Module, tally: Tally, where: Tensor) -> nn.Module:
        """A model for the group's samples `where`, with its passes counted."""
        counted = Counted(model, tally, where)
        return counted if self.eot == 1 else Averaged(counted, self.eot)

    def seen(self, model: nn.Module, tally: Tally, where: Tensor) -> nn.Module:
        """What the attack is given."""
        shown = self.shown(self.source or model, tally, where)
        if self.gradients is not None:
            shown = ScoreBased(
                shown, self.gradients, self.gradient_samples, self.gradient_step
            ).eval()
        return shown

    def targets(self, logits: Tensor, labels: Tensor) -> Tensor | None:
        """The class that each sample is to become, int64 (N,), from its clean logits (N, K)."""
        if self.target is None:
            return None
        others = logits.clone()
        rows = torch.arange(len(labels), device=labels.device)
        if self.target == "least_likely":
            others[rows, labels] = torch.inf
            return others.argmin(dim=1)
        if self.target == "random":
            others = torch.rand_like(logits)
        others[rows, labels] = -torch.inf
        return others.argmax(dim=1)
