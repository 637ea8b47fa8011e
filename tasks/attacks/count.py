"""What an attack costs and sees: passes and gradients, sample by sample."""

import inspect
import time

import torch
from torch import Tensor, nn


class Tally:
    """Per sample of a group (N,): passes, and backward passes whose gradient said nothing."""

    def __init__(self, n: int, deadline: float | None = None) -> None:
        self.n_forward = torch.zeros(n, dtype=torch.int64)
        self.n_backward = torch.zeros(n, dtype=torch.int64)
        self.bad_gradients = torch.zeros(n, dtype=torch.int64)  # all zero, or not finite
        self.deadline = deadline  # of time.monotonic


class Counted(nn.Module):
    """A model in eval mode that tallies the passes of each sample.

    It is called on its samples in their order, or on several copies of them: (C * N, ...), each
    block of N in that order. An attack that goes on with some of them alone says so by `on`.

    Raises:
        TimeoutError: From a call after the tally's deadline.
    """

    def __init__(self, model: nn.Module, tally: Tally, samples: Tensor) -> None:
        super().__init__()
        self.model, self.tally, self.samples = model, tally, samples.cpu()
        keep_confidence(self, model)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if self.tally.deadline is not None and time.monotonic() > self.tally.deadline:
            raise TimeoutError("the attack's time limit is over")
        rows = self._rows(len(images))
        self.tally.n_forward += rows
        logits: Tensor = self.model(self.watched(images))
        return logits

    def watched(self, images: Tensor) -> Tensor:
        """The same images, whose gradient is tallied when there is one."""
        if images.requires_grad:
            images = images.view_as(images)  # a hook of this pass only
            images.register_hook(self._backward)  # type: ignore[no-untyped-call]
        return images

    def on(self, which: Tensor) -> "Counted":
        """The same model for some of its samples: a mask (N,), or positions in any order."""
        return Counted(self.model, self.tally, self.samples[which.cpu()])

    def _rows(self, calls: int) -> Tensor:
        """How often each sample of the group is in a batch of that size."""
        rows = torch.zeros_like(self.tally.n_forward)
        n = len(self.samples)
        copies = calls // n
        rows.index_add_(0, self.samples, torch.full((n,), copies))
        if rest := calls - copies * n:  # some of the samples, and nobody said which: the first
            rows.index_add_(0, self.samples[:rest], torch.ones(rest, dtype=torch.int64))
        return rows

    def _backward(self, gradient: Tensor) -> None:
        self.tally.n_backward += self._rows(len(gradient))
        flat = gradient.detach().flatten(1)
        bad = (~torch.isfinite(flat).all(dim=1) | (flat == 0).all(dim=1)).cpu()
        n = len(self.samples)
        if bad.any():
            whole = torch.zeros(-(-len(bad) // n) * n, dtype=torch.int64)
            whole[: len(bad)] = bad
            self.tally.bad_gradients.index_add_(0, self.samples, whole.reshape(-1, n).sum(dim=0))


def tallied(model: nn.Module) -> Counted | None:
    """The one that tallies, at the end of wrappers that keep what they wrap as `model`."""
    while not isinstance(model, Counted):
        inner = getattr(model, "model", None)
        if not isinstance(inner, nn.Module):
            return None
        model = inner
    return model


def keep_confidence(wrapper: nn.Module, model: nn.Module) -> None:
    """Gives a wrapper the model's own `confidence`, which some detectors look at."""
    if inspect.ismethod(own := getattr(model, "confidence", None)):
        vars(wrapper)["confidence"] = own


def on(model: nn.Module, which: Tensor) -> nn.Module:
    """The model for some of a batch's samples, so that their passes are counted as theirs."""
    narrowed = getattr(model, "on", None)
    result: nn.Module = narrowed(which) if callable(narrowed) else model
    return result


class RefusesNonFinite(nn.Module):
    """A model that raises on inputs that are not finite.

    Decision attacks whose walk has left the numbers would otherwise loop for ever.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        if not torch.isfinite(images).all():
            raise FloatingPointError("the attack tried images that are not finite")
        logits: Tensor = self.model(images)
        return logits
