"""Attacks one group of samples, and believes nothing that an attack says about itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from tasks.attacks import ball
from tasks.attacks.count import Counted, Tally
from tasks.attacks.load import LoadedAttack, attempt
from tasks.attacks.starts import starting_points
from tasks.models.logits import logits_of, margin, raw_logits

NO_START = "no starting point"


@dataclass(frozen=True)
class Result:
    """What is known of a group's N samples at one eps, or from one min-norm attack.

    Where no adversarial was found, `distance` is NaN and `adversarials` holds the last one tried.
    """

    eps: float | None
    adversarials: Tensor  # (N, ...) float32, on the CPU
    logits: Tensor  # (N, K) float32 on the CPU, of the adversarials
    success: np.ndarray
    inferred_from_eps: np.ndarray  # NaN: attacked at this eps itself
    distance: np.ndarray
    n_forward: np.ndarray
    n_backward: np.ndarray
    seconds: np.ndarray
    check: list[str]


def attack_group(
    attack: LoadedAttack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: Sequence[float] | None,
    restarts: int,
) -> list[Result]:
    """One result per eps, ascending; one result with eps None for a min-norm attack.

    Misclassified samples are broken at distance 0. What a smaller eps breaks, a larger one breaks
    too, and is not attacked again.
    """
    state = _State(model, images, labels)
    if eps is None:
        state.start_round()
        todo = ~state.broken
        for _ in range(restarts):
            state.attack(attack, todo, None)
        return [state.result(None)]
    results = []
    for radius in sorted(set(map(float, eps))):
        state.start_round()
        for _ in range(restarts):
            state.attack(attack, ~state.broken, radius)
        results.append(state.result(radius))
    return results


class _State:
    """The best adversarial of each sample so far, and what the present eps has cost."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.adversarials = images.clone()
        self.logits = logits_of(model, images)
        self.broken = margin(self.logits, labels) <= 0
        self.distance = torch.where(self.broken, 0.0, torch.nan).double()
        self.broken_at = np.full(len(labels), np.nan)

    def start_round(self) -> None:
        n = len(self.labels)
        self.inferred_from_eps = self.broken_at.copy()
        self.n_forward, self.n_backward = np.zeros(n, np.int64), np.zeros(n, np.int64)
        self.seconds = np.zeros(n)
        self.check = ["ok"] * n

    def attack(self, attack: LoadedAttack, todo: Tensor, eps: float | None) -> None:
        """Attacks the samples of the mask `todo` once, and keeps what is better than before."""
        where = todo.nonzero().flatten()
        if not len(where):
            return
        tally = Tally(len(self.labels))
        started = time.perf_counter()
        candidates, failures = self._candidates(attack, tally, where, eps)
        positions = where.cpu().numpy()
        self.seconds[positions] += (time.perf_counter() - started) / len(where)
        self.n_forward += tally.n_forward.numpy()
        self.n_backward += tally.n_backward.numpy()
        self._keep(candidates, failures, where, attack.norm, eps)

    def _candidates(
        self, attack: LoadedAttack, tally: Tally, where: Tensor, eps: float | None
    ) -> tuple[Tensor, dict[int, str]]:
        """What the attack gives for the group's samples `where`, and position -> why it failed."""
        candidates, failures, starts = self.images.clone(), {}, None
        if "starting_points" in attack.wants:
            found = starting_points(
                self._counted(tally, where),
                self.images[where],
                self.labels[where],
                self.images,
                self.labels,
            )
            failures = dict.fromkeys(where[~found.found].tolist(), NO_START)
            where, starts = where[found.found], found.images[found.found]
            if not len(where):
                return candidates, failures
        model = self._counted(tally, where)
        given = attempt(
            attack, model, self.images[where], self.labels[where], eps=eps, starts=starts
        )
        candidates[where] = given.adversarials
        failures |= {int(where[i]): why for i, why in given.failures.items()}
        return candidates, failures

    def _counted(self, tally: Tally, where: Tensor) -> Counted:
        return Counted(self.model, tally, where)

    def _keep(
        self,
        candidates: Tensor,
        failures: dict[int, str],
        where: Tensor,
        norm: str,
        eps: float | None,
    ) -> None:
        finite = torch.isfinite(candidates).flatten(1).all(dim=1)
        shape = (-1, *[1] * (candidates.ndim - 1))
        candidates = torch.where(finite.reshape(shape), candidates, self.images)
        if eps is None:
            candidates = candidates.clamp(0, 1)
        else:
            candidates = ball.pull_inside(self.images, candidates, norm, eps)
        attacked = torch.zeros_like(finite)
        attacked[where] = True
        # the whole group in one batch, as it is stored: a model's logits depend on the neighbours
        stored = torch.where(attacked.reshape(shape), candidates, self.adversarials)
        logits = raw_logits(self.model, stored)
        distance = ball.distance(self.images, stored, norm)
        checks = self._checks(stored, logits, finite, norm, eps)
        for i in where.tolist():
            self.check[i] = failures.get(i, checks[i])
        passed = torch.tensor([check == "ok" for check in self.check], device=logits.device)
        success = attacked & passed & (margin(logits, self.labels) <= 0)
        closer = ~self.broken | (distance < self.distance)
        # a failed try replaces only another failed one
        kept = attacked & torch.where(success, closer, ~self.broken)
        self.adversarials = torch.where(kept.reshape(shape), stored, self.adversarials)
        self.logits = torch.where(kept[:, None], logits, self.logits)
        self.distance = torch.where(kept & success, distance, self.distance)
        self.broken = self.broken | success
        for i in (attacked & self.broken).nonzero().flatten().tolist():
            self.check[i] = "ok"
            self.broken_at[i] = np.nan if eps is None else eps

    def _checks(
        self, stored: Tensor, logits: Tensor, finite: Tensor, norm: str, eps: float | None
    ) -> list[str]:
        in_range = ball.in_range(stored)
        inside = in_range if eps is None else ball.inside(self.images, stored, norm, eps)
        answered = torch.isfinite(logits).all(dim=1)
        reasons = {
            "not finite": finite,
            "outside [0, 1]": in_range,
            "outside the ball": inside,
            "logits not finite": answered,
        }
        checks = ["ok"] * len(stored)
        for reason, passed in reversed(reasons.items()):
            for i in (~passed).nonzero().flatten().tolist():
                checks[i] = reason
        return checks

    def result(self, eps: float | None) -> Result:
        return Result(
            eps,
            self.adversarials.cpu().clone(),
            self.logits.cpu().clone(),
            self.broken.cpu().numpy().copy(),
            self.inferred_from_eps,
            self.distance.cpu().numpy().copy(),
            self.n_forward,
            self.n_backward,
            self.seconds,
            list(self.check),
        )
