"""Auto-PGD: gradient ascent on a loss, whose step sizes follow from how it goes.

A sample costs at most `steps + 1` forward passes, two more for l1, and `steps` backward passes, all
times `eot`, and no more once it is broken.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robsweep.tasks.attacks.count import on
from robsweep.tasks.attacks.methods.losses import dlr, targeted_dlr
from robsweep.tasks.attacks.methods.projections import project
from robsweep.tasks.logits import margin, raw_logits

_MOMENTUM = 0.75  # share of the new step; the rest is that of the step before
_RISING = 0.75  # share of the steps that must raise the loss
_L1_SHARES = (30, 30)  # % of the steps at 3 eps and at 2 eps


def apgd_ce(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    norm: str,
    steps: int = 100,
    eot: int = 1,
) -> Tensor:
    """Auto-PGD on the cross entropy.

    Args:
        eot: Passes over which loss and gradient are averaged, for models that are random.

    Source: Croce & Hein 2020, section 3; for l1 Croce & Hein 2021, section 4.
    """
    loss = partial(F.cross_entropy, reduction="none")
    return _Problem(model, images, (labels,), loss, norm, eot).solve(eps, steps).points


def apgd_dlr(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    norm: str,
    steps: int = 100,
    eot: int = 1,
) -> Tensor:
    """Auto-PGD on the difference of logits ratio, which no scale of the logits makes vanish.

    Source: Croce & Hein 2020, section 4; for l1 Croce & Hein 2021, section 4.
    """
    return _Problem(model, images, (labels,), dlr, norm, eot).solve(eps, steps).points


def apgd_targeted(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    eps: float,
    *,
    norm: str,
    steps: int = 100,
    classes: int = 9,
    eot: int = 1,
) -> Tensor:
    """Auto-PGD towards one wrong class after the other, on the targeted difference of logits ratio.

    Args:
        classes: How many of the most likely wrong classes, each with a run of its own on the
            samples that are left.

    Returns:
        Adversarials (N, ...); where no run finds one, of what the runs end at the point at which
        the label wins by least.

    Source: Croce & Hein 2020, section 4.2; for l1 Croce & Hein 2021, section 4.
    """
    logits = raw_logits(model, images)
    others = logits.scatter(1, labels[:, None], -torch.inf)
    order = others.topk(min(classes, logits.shape[1] - 1), dim=1).indices
    result = images.clone()
    lowest = torch.full_like(logits[:, 0], torch.inf)
    left = torch.arange(len(labels), device=labels.device)
    for targets in order.T:
        goal = labels[left], targets[left]
        problem = _Problem(on(model, left), images[left], goal, targeted_dlr, norm, eot)
        end = problem.solve(eps, steps)
        # unlikely classes come last, and leave a sample where it is classified all the better
        better = end.broken | (end.margins < lowest[left])
        result[left[better]], lowest[left[better]] = end.points[better], end.margins[better]
        left = left[~end.broken]
        if not len(left):
            break
    return result


class _End(NamedTuple):
    """What comes of N samples: adversarials, else the points of the highest loss."""

    points: Tensor  # (N, ...)
    broken: Tensor  # (N,) bool
    margins: Tensor  # (N,) at these points


class _Ascent:
    """The n samples of a batch that are not broken yet, as (n, F) pixels."""

    def __init__(self, images: Tensor, start: Tensor, step: float) -> None:
        n = len(images)
        self.which = torch.arange(n, device=start.device)  # positions in the batch
        self.images, self.x, self.best = images, start, start
        self.gradient = self.best_gradient = start
        self.loss = self.best_loss = start.new_full((n,), -torch.inf)
        self.best_margin = start.new_full((n,), torch.inf)
        self.step = start.new_full((n, 1), step)

    def keep(self, mask: Tensor) -> None:
        for name, values in vars(self).items():
            setattr(self, name, values[mask])

    def move(self, eps: float, norm: str, *, first: bool) -> None:
        """Takes the next step."""
        raise NotImplementedError

    def arrive(self, loss: Tensor, margins: Tensor, gradient: Tensor) -> None:
        """Takes what `x` has turned out to be."""
        better = loss > self.best_loss
        self.loss, self.gradient = loss, gradient
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best = torch.where(better[:, None], self.x, self.best)
        self.best_margin = torch.where(better, margins, self.best_margin)
        self.best_gradient = torch.where(better[:, None], gradient, self.best_gradient)

    def restart(self, where: Tensor) -> None:
        """Goes on from the best point, for the samples of the mask."""
        self.x = torch.where(where[:, None], self.best, self.x)
        self.loss = torch.where(where, self.best_loss, self.loss)
        self.gradient = torch.where(where[:, None], self.best_gradient, self.gradient)

    def adapt(self, done: int, steps: int, eps: float) -> None:
        """Chooses the next step size, after `done` of the steps."""
        raise NotImplementedError


class _Dense(_Ascent):
    """Steps of all pixels with momentum, halved where the loss does not rise."""

    def __init__(self, images: Tensor, start: Tensor, eps: float) -> None:
        super().__init__(images, start, 2 * eps)
        self.previous = start  # x before this one
        self.rises = torch.zeros_like(self.loss)  # steps since the last checkpoint that raised it
        self.loss_then = self.loss  # best one at the last checkpoint
        self.kept_then = torch.ones_like(self.loss, dtype=torch.bool)  # the step, there

    def move(self, eps: float, norm: str, *, first: bool) -> None:
        direction = _unit(self.gradient) if norm == "l2" else self.gradient.sign()
        moved = project(self.images, torch.addcmul(self.x, self.step, direction), eps, norm)
        if not first:
            momentum = (1 - _MOMENTUM) * (self.x - self.previous)
            moved = moved.sub_(self.x).mul_(_MOMENTUM).add_(self.x).add_(momentum)
            moved = project(self.images, moved, eps, norm)
        self.previous, self.x = self.x, moved

    def arrive(self, loss: Tensor, margins: Tensor, gradient: Tensor) -> None:
        self.rises += loss > self.loss
        super().arrive(loss, margins, gradient)

    def adapt(self, done: int, steps: int, eps: float) -> None:
        window = _windows(steps).get(done)
        if window is None:
            return
        slow = self.rises < _RISING * window
        stuck = self.kept_then & (self.best_loss <= self.loss_then)
        halve = slow | stuck
        self.step = torch.where(halve[:, None], self.step / 2, self.step)
        self.restart(halve)
        self.kept_then, self.loss_then = ~halve, self.best_loss
        self.rises = torch.zeros_like(self.rises)


class _Sparse(_Ascent):
    """Steps of the pixels with the largest gradients: fewer, the sparser the best point is."""

    def __init__(self, images: Tensor, start: Tensor, eps: float) -> None:
        super().__init__(images, start, eps)
        self.changed_then = (start != images).sum(dim=1)  # pixels, at the best point
        self.pixels = _two_thirds(self.changed_then)  # (n, 1) how many a step changes

    def move(self, eps: float, norm: str, *, first: bool) -> None:
        size = self.gradient.abs()
        least = size.sort(dim=1, descending=True).values.gather(1, self.pixels - 1)
        direction = torch.where(size >= least, self.gradient.sign(), 0)
        direction /= direction.abs().sum(dim=1, keepdim=True).clamp_(min=1)
        self.x = project(self.images, torch.addcmul(self.x, self.step, direction), eps, norm)

    def adapt(self, done: int, steps: int, eps: float) -> None:
        if not done or done % max(1, steps // 25):
            return
        changed = (self.best != self.images).sum(dim=1)
        sparser = changed < 0.95 * self.changed_then
        smaller = (self.step / 1.5).clamp_(min=eps / 10)
        self.step = torch.where(sparser[:, None], eps, smaller)
        self.restart(sparser)
        self.pixels, self.changed_then = _two_thirds(changed), changed


@dataclass(frozen=True)
class _Problem:
    """A loss to be raised for N samples, in some norm."""

    model: nn.Module
    images: Tensor
    classes: tuple[Tensor, ...]  # the labels (N,); the targets (N,), if the loss has these
    loss: Callable[..., Tensor]  # of logits (n, K) and these classes, to (n,)
    norm: str
    eot: int

    def solve(self, eps: float, steps: int) -> _End:
        images = self.images.flatten(1)
        if self.norm != "l1":
            start = project(images, images + _noise(images, eps, self.norm), eps, self.norm)
            end = self._climb(_Dense(images, start, eps), eps, steps)
            return end._replace(points=end.points.view_as(self.images))
        wide, less = (steps * share // 100 for share in _L1_SHARES)
        start = project(images, images + torch.randn_like(images), 3 * eps, "l1")
        ascent = _Sparse(images, start, 3 * eps)
        # what is adversarial out there need not be in the ball: on with all of them
        start = self._climb(ascent, 3 * eps, wide, stop=False).points
        ascent = _Sparse(images, project(images, start, 2 * eps, "l1"), 2 * eps)
        start = self._climb(ascent, 2 * eps, less, stop=False).points
        ascent = _Sparse(images, project(images, start, eps, "l1"), eps)
        end = self._climb(ascent, eps, steps - wide - less)
        return end._replace(points=end.points.view_as(self.images))

    def _climb(self, ascent: _Ascent, eps: float, steps: int, *, stop: bool = True) -> _End:
        """The end as pixels (N, F); nothing is broken unless samples `stop` where they are."""
        model, result = self.model, ascent.x
        broken = torch.zeros_like(self.classes[0], dtype=torch.bool)
        margins = torch.zeros_like(ascent.best_margin)
        for done in range(steps + 1):
            if done:
                ascent.move(eps, self.norm, first=done == 1)
            loss, found, gradient = self._look(model, ascent, last=done == steps)
            ascent.arrive(loss, found, gradient)
            hit = found <= 0
            if stop and hit.any():
                where = ascent.which[hit]
                broken[where] = True
                margins[where] = found[hit]
                result = result.index_copy(0, where, ascent.x[hit])
                ascent.keep(~hit)
                if not len(ascent.which):
                    return _End(result, broken, margins)
                model = on(self.model, ascent.which)
            ascent.adapt(done, steps, eps)
        margins[ascent.which] = ascent.best_margin
        return _End(result.index_copy(0, ascent.which, ascent.best), broken, margins)

    def _look(
        self, model: nn.Module, ascent: _Ascent, *, last: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (n,), margins (n,), and the gradient (n, F), until the last step."""
        x = ascent.x.view(-1, *self.images.shape[1:]).detach().requires_grad_(not last)
        classes = [of[ascent.which] for of in self.classes]
        losses, logits = [], []
        gradients: list[Tensor] = []
        for _ in range(self.eot):
            with torch.set_grad_enabled(not last):
                logits.append(model(x))
                losses.append(self.loss(logits[-1], *classes))
            if not last:
                gradients += torch.autograd.grad(losses[-1].sum(), x)
        margins = margin(_mean(logits), classes[0])
        gradient = _mean(gradients).flatten(1).nan_to_num(0, 0, 0) if gradients else ascent.gradient
        return _mean(losses), margins, gradient


def _mean(parts: list[Tensor]) -> Tensor:
    return parts[0].detach() if len(parts) == 1 else torch.stack(parts).detach().mean(dim=0)


def _unit(vectors: Tensor) -> Tensor:
    """Of length 1, also those whose squares are too small for float32; 0 stays 0."""
    tiny = torch.finfo(vectors.dtype).tiny
    scaled = vectors / vectors.abs().amax(dim=1, keepdim=True).clamp_(min=tiny)
    return F.normalize(scaled, dim=1)


def _noise(images: Tensor, eps: float, norm: str) -> Tensor:
    if norm == "linf":
        return torch.empty_like(images).uniform_(-eps, eps)
    return eps * _unit(torch.randn_like(images))


def _two_thirds(counts: Tensor) -> Tensor:
    return (counts[:, None] * 2 // 3).clamp_(min=1)


@cache
def _windows(steps: int) -> dict[int, int]:
    """Checkpoint, a number of steps -> steps since the one before."""
    share, width, last, windows = 22, 22, 0, {0: 0}  # %
    while (point := -(-share * steps // 100)) < steps:
        if point > last:
            windows[point] = point - last
        last, width = point, max(width - 3, 6)
        share += width
    return windows
