"""Attacks one group of samples, and believes nothing that an attack says about itself."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.averaged import Averaged
from robsweep.tasks.attacks.count import Tally
from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.judge import Answers, Judge
from robsweep.tasks.attacks.load import LoadedAttack, attempt
from robsweep.tasks.attacks.refine import across_one_half, closest_on_the_way
from robsweep.tasks.attacks.starts import starting_points
from robsweep.tasks.groups import seeded
from robsweep.tasks.logits import margin, raw_logits

NO_START = "no starting point"
WRONG_SOURCE = "wrong at the source"
_AGAIN = 0.1  # of the samples whose success is carried over, attacked all the same
_AS_IT_IS = How()


@dataclass(frozen=True)
class Result:
    """What is known of a group's N samples at one eps, or from one min-norm attack.

    Where no adversarial was found, `distance` is NaN and `adversarials` holds, of what was tried at
    this eps, that with the lowest margin.
    """

    eps: float | None
    adversarials: Tensor  # (N, ...) float32, on the CPU
    logits: Tensor  # (N, K) float32 on the CPU, of the adversarials
    success: np.ndarray
    inferred_from_eps: np.ndarray  # NaN: attacked at this eps itself
    broken_again: np.ndarray  # 1 or 0 of those inferred that were attacked at this eps too, or NaN
    distance: np.ndarray
    n_forward: np.ndarray
    n_backward: np.ndarray
    bad_gradients: np.ndarray
    seconds: np.ndarray
    check: list[str]
    error: Exception | None = None  # what the attack raised, if it raised on all of the samples
    hopeless: bool = False  # and would have on any other


class _Tried(NamedTuple):
    """A candidate per sample of the whole group, as the job itself sees them."""

    stored: Tensor
    logits: Tensor
    distance: Tensor
    checks: list[str]
    success: Tensor  # (N,) bool


def attack_group(
    attack: LoadedAttack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: Sequence[float] | None,
    how: How = _AS_IT_IS,
    first: int = 0,
    group_size: int | None = None,
    deployed: nn.Module | None = None,
) -> list[Result]:
    """One result per eps, ascending; one result with eps None for a min-norm attack.

    Misclassified samples are broken at distance 0. What a smaller eps breaks, a larger one breaks
    too, and is not attacked again, but for a random tenth: an attack that fails on these at the
    larger eps is no good.

    Args:
        first: Index of the first sample in its split.
        group_size: Of the groups that these samples are; None: all are one.
        deployed: The model that decides; None: the attacked one.
    """
    size = group_size or len(labels)
    judged = model if deployed is None else deployed
    judge = Judge(
        # of a model that answers at random, the mean of `eot` passes
        judged if how.eot == 1 else Averaged(judged, how.eot),
        images, labels, first // size, size, how.seed, how.detector,
    )  # fmt: skip
    state = _State(attack, model, judge, how)
    if eps is None:
        state.start_round()
        todo = ~state.broken
        for _ in range(how.restarts):
            state.attack(todo, None)
        state.settle(None)
        return [state.result(None)]
    results = []
    for radius in sorted(set(map(float, eps))):
        state.start_round()
        for _ in range(how.restarts):
            state.attack(~state.broken, radius)
        state.settle(radius)
        results.append(state.result(radius))
    for result in results[1:]:  # behind all else, so that it changes no other number
        state.attack_again(result, first)
    return results


class _State:
    """The best adversarial of each sample so far, and what the present eps has cost."""

    def __init__(self, attack: LoadedAttack, model: nn.Module, judge: Judge, how: How) -> None:
        self.how, self.loaded, self.judge = how, attack, judge
        self.images, self.labels = images, labels = judge.images, judge.labels
        self.attacked = model
        self.shape = (-1, *[1] * (images.ndim - 1))
        self.adversarials = images.clone()
        self.logits = judge.clean()
        # the last batch that was asked about in passes that decide, and the answers
        self.decided = images, Answers(self.logits, torch.zeros_like(labels, dtype=torch.bool))
        self.targets = how.targets(self.logits, labels)
        # what is wrong without an attack is broken, also where a detector would say so
        self.wrong = self.broken = margin(self.logits, labels) <= 0
        self.distance = torch.where(self.broken, 0.0, torch.nan).double()
        self.broken_at = np.full(len(labels), np.nan)
        self.misled = torch.zeros_like(self.broken)  # samples that a transfer's source has wrong
        if how.source is not None:
            self.misled = margin(raw_logits(how.source, images), labels) <= 0
        self.error: Exception | None = None  # what the attack has raised first
        self.works = False  # whether it has ever given anything
        self.hopeless = False  # whether it will not, in this round or, if it never has, ever

    def start_round(self) -> None:
        n = len(self.labels)
        self.inferred_from_eps = self.broken_at.copy()
        given_up = self.hopeless and not self.works  # all that can fail has, for the same reason
        self.hopeless = given_up
        self.tally = Tally(n)
        self.seconds = np.zeros(n)
        misled = self.misled & ~self.broken
        if not given_up:
            self.check = [WRONG_SOURCE if wrong else "ok" for wrong in misled.tolist()]
        self.done = torch.zeros_like(self.broken)  # samples with a whole attempt in this round

    def attack(self, todo: Tensor, eps: float | None) -> None:
        """Attacks the samples of the mask `todo` once, and keeps what is better than before."""
        where = (todo & ~self.misled).nonzero().flatten()
        if not len(where) or self.hopeless:
            return
        started = time.perf_counter()
        tried = self._tried(where, eps, self.tally)
        self.seconds[where.cpu().numpy()] += (time.perf_counter() - started) / len(where)
        self._keep(tried, where, eps)

    def attack_again(self, result: Result, first: int) -> None:
        """Attacks a random tenth of what a smaller eps has broken, as if it had not."""
        samples = range(first, first + len(self.labels))
        drawn = [np.random.default_rng([self.how.seed, s]).random() < _AGAIN for s in samples]
        chosen = torch.from_numpy(np.array(drawn) & ~np.isnan(result.inferred_from_eps))
        where = chosen.nonzero().flatten().to(self.labels.device)
        if not len(where):
            return
        for _ in range(self.how.restarts):
            tried = self._tried(where, result.eps, Tally(len(self.labels)))
            for i in where.tolist():
                if tried.checks[i] in {"ok", NO_START}:
                    result.broken_again[i] = bool(tried.success[i])
            where = where[~tried.success[where]]
            if not len(where):
                return

    def _tried(self, where: Tensor, eps: float | None, tally: Tally) -> _Tried:
        """Runs the attack on the group's samples `where`, and looks at what it gives."""
        candidates, failures, given = self.images.clone(), dict[int, str](), dict[str, Any]()
        attack, here = self.loaded, where
        if "starting_points" in attack.wants:
            found = starting_points(
                self.how.shown(self.how.source or self.attacked, tally, where),
                self.images[where],
                self.labels[where],
                self.images,
                self.labels,
                targets=None if self.targets is None else self.targets[where],
            )
            failures = dict.fromkeys(where[~found.found].tolist(), NO_START)
            here, given["starting_points"] = where[found.found], found.images[found.found]
        if self.targets is not None:
            given["targets"] = self.targets[here]
        if len(here):
            tried = attempt(
                attack,
                self.how.seen(self.attacked, tally, here),
                self.images[here],
                self.labels[here],
                eps=eps,
                given=given,
                tally=tally,
                limit=self.how.time_limit_seconds,
            )
            candidates[here] = tried.adversarials
            self.works = self.works or len(tried.failures) < len(here)
            self.error = self.error or tried.error
            self.hopeless = tried.hopeless
            failures |= {int(here[i]): why for i, why in tried.failures.items()}
        for module in (self.attacked, self.how.source):
            if module is not None:
                module.eval()  # whatever the attack has done to it
        given_back = candidates.clone()
        if eps is None:
            shown = self.how.shown(self.attacked, tally, where)
            candidates[where] = self._refined(shown, where, candidates[where])
        return self._seen(candidates, given_back, where, eps, failures)

    def _refined(self, model: nn.Module, where: Tensor, candidates: Tensor) -> Tensor:
        images, labels, norm = self.images[where], self.labels[where], self.loaded.norm
        targets = None if self.targets is None else self.targets[where]

        def fooled(x: Tensor) -> Tensor:
            with seeded(self.how.seed, "refine", self.judge.group):  # each time the same draws
                logits = raw_logits(model, x)
            return margin(logits, labels) <= 0 if targets is None else logits.argmax(1) == targets

        if norm != "l0":
            beyond = self.how.source is not None
            candidates = closest_on_the_way(fooled, images, candidates, beyond=beyond)
        return across_one_half(fooled, images, candidates, norm)

    def _seen(
        self,
        candidates: Tensor,
        found: Tensor,
        where: Tensor,
        eps: float | None,
        failures: dict[int, str],
    ) -> _Tried:
        norm = self.loaded.norm
        finite = torch.isfinite(candidates).flatten(1).all(dim=1)
        candidates = torch.where(finite.reshape(self.shape), candidates, self.images)
        if eps is None:
            candidates = candidates.clamp(0, 1)
        else:
            candidates = ball.pull_inside(self.images, candidates, norm, eps)
        attacked = torch.zeros_like(finite)
        attacked[where] = True
        # the whole group in one batch, as it is stored: a model's logits depend on the neighbours
        stored = torch.where(attacked.reshape(self.shape), candidates, self.adversarials)
        movable = attacked & finite if eps is None else torch.zeros_like(finite)
        stored, answers = self._judged(stored, movable, found)
        checks = self._checks(stored, answers.logits, finite, eps)
        checks = [failures.get(i, check) for i, check in enumerate(checks)]
        passed = torch.tensor([check == "ok" for check in checks], device=finite.device)
        success = attacked & passed & answers.fooled
        distance = ball.distance(self.images, stored, norm)
        return _Tried(stored, answers.logits, distance, checks, success)

    def _judged(self, stored: Tensor, movable: Tensor, found: Tensor) -> tuple[Tensor, Answers]:
        last = self.how.restarts == 1  # nothing will be chosen
        beyond = torch.where(torch.isfinite(found), found, self.images).clamp(0, 1)
        stored, answers = self.judge.held(stored, movable, beyond, last=last)
        if last:
            self.decided = stored, answers
        return stored, answers

    def settle(self, eps: float | None) -> None:
        """Decides on what will be stored, in the batch in which it is stored."""
        stored, answers = self.decided
        if not torch.equal(stored, self.adversarials):
            stored, answers = self.adversarials, self.judge.of(self.adversarials, last=True)
        # a ball that is larger than the one it was found in has room
        movable = self.broken & ~self.wrong
        if eps is not None:
            carried = torch.from_numpy(~np.isnan(self.inferred_from_eps)).to(movable.device)
            movable = movable & carried
        if (movable & ~answers.fooled).any():
            stored, answers = self.judge.held(stored, movable, last=True)
        checks = self._checks(stored, answers.logits, torch.ones_like(movable), eps)
        passed = torch.tensor([check == "ok" for check in checks], device=movable.device)
        broken = self.wrong | (passed & answers.fooled)
        for i in (broken != self.broken).nonzero().flatten().tolist():
            self.broken_at[i] = np.nan if eps is None or not broken[i] else eps
            self.inferred_from_eps[i] = np.nan
        distance = ball.distance(self.images, stored, self.loaded.norm)
        self.distance = torch.where(self.wrong, 0.0, torch.where(broken, distance, torch.nan))
        self.adversarials, self.logits, self.broken = stored, answers.logits, broken
        self.decided = stored, answers

    def _keep(self, tried: _Tried, where: Tensor, eps: float | None) -> None:
        attacked = torch.zeros_like(self.broken)
        attacked[where] = True
        closer = ~self.broken | (tried.distance < self.distance)
        # a failed try replaces only another failed one, in this round a worse one
        sound = torch.tensor([check == "ok" for check in tried.checks], device=closer.device)
        further = sound & (self._short_of(tried.logits) < self._short_of(self.logits))
        kept = attacked & torch.where(tried.success, closer, ~self.broken & (~self.done | further))
        self.adversarials = torch.where(kept.reshape(self.shape), tried.stored, self.adversarials)
        self.logits = torch.where(kept[:, None], tried.logits, self.logits)
        self.distance = torch.where(kept & tried.success, tried.distance, self.distance)
        self.broken = self.broken | tried.success
        for i in where.tolist():
            # a restart that fails takes nothing from one that did not
            whole = bool(self.broken[i] | self.done[i])
            self.check[i] = "ok" if whole else tried.checks[i]
            self.done[i] |= tried.checks[i] == "ok"
            if self.broken[i]:
                self.broken_at[i] = np.nan if eps is None else eps

    def _short_of(self, logits: Tensor) -> Tensor:
        """How far logits are from what the attack is after, (N,)."""
        if self.targets is None:
            return margin(logits, self.labels)
        return -margin(logits, self.targets)

    def _checks(
        self, stored: Tensor, logits: Tensor, finite: Tensor, eps: float | None
    ) -> list[str]:
        in_range = ball.in_range(stored)
        norm = self.loaded.norm
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
            np.full(len(self.labels), np.nan),
            self.distance.cpu().numpy().copy(),
            self.tally.n_forward.numpy(),
            self.tally.n_backward.numpy(),
            self.tally.bad_gradients.numpy(),
            self.seconds,
            list(self.check),
            None if self.works else self.error,
            self.hopeless and not self.works,
        )
