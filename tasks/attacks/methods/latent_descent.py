"""The attack on analysis by synthesis that asks the model what another class looks like."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import Counted, on
from robsweep.tasks.errors import InputError
from robsweep.tasks.logits import margin, raw_logits
from robsweep.tasks.models.architectures.abs import ABS, BinaryABS, Explanations

_HALVINGS = 10
_BELOW = 0.5 - 2**-25  # the largest float32 number that is set to 0


def latent_descent(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: str,
    steps: int = 50,
    rel_step_size: float = 0.05,
) -> Tensor:
    """Towards the best explanation by another class until the label flips, then back.

    That is for l2 and linf; two searches by halving, in the last step and between image and
    adversarial, make it close. For l0, and for binary models in every norm, it is decided pixel by
    pixel instead: those where the other class gains most on the label's, for what they cost in
    the norm, are changed, as few as will do. Then the explanations of that adversarial replace
    the image's, and so on. Pixels of binary models move just across 0.5.

    A step is a pass that infers the explanations by every class, as the model itself does: up to
    `steps`, and 20 for the halvings; for pixels, in rounds of 12 passes, at least one round.

    Args:
        model: Analysis by synthesis, behind any number of tallies.
        images: (N, 1, 28, 28) in [0, 1].
        labels: (N,).
        norm: linf, l2 or l0.
        steps: Passes.
        rel_step_size: Share of the way to the explanation that a step goes.

    Raises:
        InputError: The model is no analysis by synthesis.
    Source: Schott et al. 2019, section 5, latent descent attack; 0.01 there, with more steps.
    """
    explained = _Explained.of(model)
    binary = isinstance(explained.kept.model, BinaryABS)
    if norm == "l0" or binary:
        return _by_pixels(explained, images, labels, norm, rounds=max(1, steps // (_HALVINGS + 2)))
    before, after = _walked(explained, images, labels, steps, rel_step_size)
    closer = _halved(model, labels, before, after)
    return _halved(model, labels, images, closer)


class _Kept(nn.Module):
    """Analysis by synthesis that keeps the explanations which its logits come from."""

    explanations: Explanations

    def __init__(self, model: ABS) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        inner = self.model
        if isinstance(inner, BinaryABS):
            images = inner.threshold(images)
        self.explanations = inner.explain(images)
        return -inner.inference.alpha * self.weights() * self.explanations.loss

    def weights(self) -> Tensor:
        """Factors (K,) on the classes' losses."""
        if isinstance(self.model, BinaryABS):
            return self.model.class_weights
        return self.explanations.loss.new_ones(self.model.classes)


class _Explained(NamedTuple):
    """One pass gives logits and explanations, and is tallied once."""

    model: nn.Module  # tallied as the given one
    kept: _Kept  # at its end

    @classmethod
    def of(cls, model: nn.Module) -> "_Explained":
        if isinstance(model, ABS):
            kept = _Kept(model)
            return cls(kept, kept)
        if isinstance(model, Counted):
            inner = cls.of(model.model)
            return cls(Counted(inner.model, model.tally, model.samples), inner.kept)
        raise InputError(
            f"latent descent is for analysis by synthesis, not for {type(model).__name__}"
        )


def _walked(
    explained: _Explained, images: Tensor, labels: Tensor, steps: int, share: float
) -> tuple[Tensor, Tensor]:
    """The last image before the label flips and the first one after; both (N, ...).

    Where it does not flip, the image twice.
    """
    before, after = images.clone(), images.clone()
    still = torch.ones_like(labels, dtype=torch.bool)
    for _ in range(steps):
        which = still.nonzero().flatten()
        if not len(which):
            break
        x = after[which]
        logits = raw_logits(on(explained.model, which), x)
        other = _best_other(logits, labels[which])
        pixels = explained.kept.explanations.pixels[
            torch.arange(len(which), device=x.device), other
        ]
        flipped = margin(logits, labels[which]) <= 0
        still[which] = ~flipped
        walking = which[~flipped]
        before[walking] = x[~flipped]
        after[walking] += share * (pixels.reshape(x.shape) - x)[~flipped]
    before[still] = after[still] = images[still]
    return before, after


def _halved(model: nn.Module, labels: Tensor, near: Tensor, far: Tensor) -> Tensor:
    """The adversarial closest to `near` on the way from the adversarial `far`."""
    which = (far != near).flatten(1).any(dim=1).nonzero().flatten()
    best = far.clone()
    if not len(which):
        return best
    part, start, way = on(model, which), near[which], (far - near)[which]
    low, high = (way.new_full((len(way), 1, 1, 1), end) for end in (0.0, 1.0))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        x = start + middle * way
        adversarial = margin(raw_logits(part, x), labels[which]) <= 0
        best[which[adversarial]] = x[adversarial]
        flipped = adversarial.reshape(low.shape)
        low, high = torch.where(flipped, low, middle), torch.where(flipped, middle, high)
    return best


def _by_pixels(
    explained: _Explained, images: Tensor, labels: Tensor, norm: str, rounds: int
) -> Tensor:
    """Images of which the best pixels are changed, as few as will do; else the images."""
    best = images.clone()
    nearest = torch.full_like(labels, torch.inf, dtype=torch.float64)
    which = torch.arange(len(labels), device=labels.device)
    for _ in range(rounds):
        if not len(which):
            break
        part = on(explained.model, which)
        x, y = images[which], labels[which]
        logits = raw_logits(part, best[which])
        values, score = _moves(explained.kept, x.flatten(1), y, _best_other(logits, y), norm)
        found = _fewest(part, x, y, values.reshape(x.shape), score)
        distance = ball.distance(x, found, norm)
        closer = (distance > 0) & (distance < nearest[which])
        which = which[closer]
        best[which], nearest[which] = found[closer], distance[closer]
    return best


def _moves(
    kept: _Kept, x: Tensor, labels: Tensor, other: Tensor, norm: str
) -> tuple[Tensor, Tensor]:
    """What each pixel would be set to, and how good that is; -inf where it does harm.

    Args:
        kept: Explanations by all classes.
        x: Pixels of the images (N, P).
        labels: (N,).
        other: Classes (N,) that shall win.
        norm: Says what a change costs.
    """
    rows, explanations, weights = (
        torch.arange(len(x), device=x.device),
        kept.explanations,
        kept.weights(),
    )
    own, aim = explanations.pixels[rows, labels], explanations.pixels[rows, other]

    def ahead(seen: Tensor) -> Tensor:
        """By how much each pixel tells for the other class."""
        ours = weights[labels][:, None] * (seen - own).square()
        return ours - weights[other][:, None] * (seen - aim).square()

    if isinstance(kept.model, BinaryABS):
        seen = kept.model.threshold(x)
        values = torch.where(seen == 1, _BELOW, 0.5)
        gain = ahead(1 - seen) - ahead(seen)
    else:
        values = (ahead(torch.ones_like(x)) > ahead(torch.zeros_like(x))).to(x.dtype)
        gain = ahead(values) - ahead(x)
    change = (values - x).abs()
    score = {"l0": gain, "l2": gain / change.square(), "linf": -change}[norm]
    return values, torch.where((gain > 0) & (change > 0), score, -torch.inf)


def _fewest(
    model: nn.Module, images: Tensor, labels: Tensor, values: Tensor, score: Tensor
) -> Tensor:
    """Images whose best pixels are changed to `values`, as few as flip the label; else images."""
    rank = score.argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(images.shape)
    shape = (-1, 1, 1, 1)
    low, high = torch.zeros_like(labels), score.isfinite().sum(dim=1)
    best = images.clone()
    middle = high
    for _ in range(1 + _HALVINGS):
        x = torch.where(rank < middle.reshape(shape), values, images)
        flipped = margin(raw_logits(model, x), labels) <= 0
        best = torch.where(flipped.reshape(shape), x, best)
        low, high = torch.where(flipped, low, middle), torch.where(flipped, middle, high)
        middle = (low + high) // 2
    return best


def _best_other(logits: Tensor, labels: Tensor) -> Tensor:
    """The class (N,) with the largest logit that is not the label's."""
    rows = torch.arange(len(labels), device=logits.device)
    others = logits.clone()
    others[rows, labels] = -torch.inf
    return others.argmax(dim=1)
