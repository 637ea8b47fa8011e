"""Gradients that are estimated from logits alone, for attacks that would take the true ones."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.attacks.count import keep_confidence, on, tallied
from robsweep.tasks.errors import InputError

_ELEMENTS = 2**22  # of the images in one query: 16 MiB, and what a model makes of them

Estimator = Literal["finite_difference", "nes"]


class ScoreBased(nn.Module):
    """A model with the same logits, whose backward pass asks for more logits instead.

    `finite_difference` moves one coordinate at a time by `step` to both sides, but not out of
    [0, 1]: all of them, or `samples` that are drawn for each image and pass, which leaves 0 for the
    others. `nes` moves along `samples` Gaussian directions and their opposites, of standard
    deviation `step`, also out of [0, 1].

    Queries are many copies of the batch at once, as many as a fixed number of pixels allows.

    Args:
        model: (N, ...) -> logits (N, K).
        how: The estimator.
        samples: Coordinates, 0 for all, or directions.
        step: Above 0, in units of pixels.

    Raises:
        InputError: An unknown estimator, or one without samples or step.
    Source: Ilyas et al. 2018, section 2 (NES); Chen et al. 2017, section 3.3 (coordinates).
    """

    def __init__(self, model: nn.Module, how: Estimator, samples: int, step: float) -> None:
        super().__init__()
        fewest = {"finite_difference": 0, "nes": 1}
        if how not in fewest:
            raise InputError(f"gradients are estimated by {' or '.join(fewest)}, not {how!r}")
        if samples < fewest[how] or step <= 0:
            raise InputError(
                f"{how} needs samples of at least {fewest[how]} and a step above 0, "
                f"got samples {samples} and step {step}"
            )
        self.model, self.how, self.samples, self.step = model, how, samples, step
        keep_confidence(self, model)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if (counted := tallied(self.model)) is not None:
            images = counted.watched(images)
        logits: Tensor = _Queried.apply(images, self)  # type: ignore[no-untyped-call]
        return logits

    def on(self, which: Tensor) -> "ScoreBased":
        """The same for some of the samples."""
        return ScoreBased(on(self.model, which), self.how, self.samples, self.step)

    def gradient(self, images: Tensor, weights: Tensor) -> Tensor:
        """Estimate of the gradient of `weights * logits`, (N, ...) and (N, K) -> (N, ...)."""
        x = images.flatten(1)
        result = torch.zeros_like(x)
        for directions in self._directions(x):
            plus, minus = x + self.step * directions, x - self.step * directions
            if self.how == "nes":
                width = torch.full_like(plus[..., 0], 2 * self.step * self.samples)
            else:
                low, high = x.clamp(max=0), x.clamp(min=1)
                plus, minus = plus.clamp(low, high), minus.clamp(low, high)
                width = (plus - minus).sum(-1)
            queries = torch.cat([plus, minus]).reshape(-1, *images.shape[1:])
            answers = self.model(queries).reshape(2, -1, *weights.shape)
            slopes = ((answers[0] - answers[1]) * weights).sum(-1) / width
            result += (slopes[..., None] * directions).sum(0)
        return result.reshape(images.shape)

    def _directions(self, x: Tensor) -> Iterator[Tensor]:
        """Directions (C, N, P) in images (N, P), C of them at a time."""
        n, pixels = x.shape
        copies = 2 * getattr(self.model, "eot", 1)
        at_once = max(1, _ELEMENTS // (copies * x.numel()))
        if self.how == "nes":
            for first in range(0, self.samples, at_once):
                here = range(min(at_once, self.samples - first))
                # one by one: the same numbers, however many are drawn at a time
                yield torch.stack([torch.randn(n, pixels) for _ in here]).to(x)
            return
        if 0 < self.samples < pixels:
            coordinates = torch.rand(n, pixels).argsort(dim=1)[:, : self.samples].T
        else:
            coordinates = torch.arange(pixels)[:, None].expand(-1, n)
        for part in coordinates.split(at_once):  # type: ignore[no-untyped-call]
            yield F.one_hot(part.to(x.device), pixels).to(x.dtype)


class _Queried(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, estimated: ScoreBased) -> Tensor:
        ctx.save_for_backward(images)
        ctx.estimated = estimated
        logits: Tensor = estimated.model(images.detach())
        return logits

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        with torch.no_grad():
            (images,) = ctx.saved_tensors
            return ctx.estimated.gradient(images, gradient), None
