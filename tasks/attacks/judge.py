"""What decides whether a sample is broken: the model as it is deployed."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.detector import Detector
from robsweep.tasks.groups import seeded
from robsweep.tasks.logits import margin, raw_logits

_FURTHER = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)  # of a perturbation, for what lies on the boundary


class Answers(NamedTuple):
    logits: Tensor  # (N, K)
    fooled: Tensor  # (N,) bool: another image than the sample's own, and the label has lost


@dataclass(frozen=True)
class Judge:
    """The model, asked about N samples as `predict` asks it: plainly loaded, group by group.

    A model that answers at random gets the same random numbers for images and adversarials, those
    of `predict`: doing nothing breaks nothing, and what is right there is right here. What chooses
    among restarts are other numbers, so that no restart is chosen for its luck with the last ones.
    """

    model: nn.Module  # of a model that answers at random, the mean of several passes
    images: Tensor  # (N, ...)
    labels: Tensor  # (N,)
    group: int  # index of the first sample's group
    group_size: int
    seed: int  # of the numbers that choose
    detector: Detector | None = None  # must accept what fools

    def clean(self) -> Tensor:
        """Logits (N, K) of the samples themselves.

        Raises:
            FloatingPointError: Some are not finite.
        """
        logits = self.of(self.images, last=True).logits
        bad = int((~torch.isfinite(logits)).any(dim=1).sum())
        if bad:
            of = len(logits)
            raise FloatingPointError(f"the model's logits are not finite for {bad} of {of}")
        return logits

    def of(self, images: Tensor, *, last: bool) -> Answers:
        """What becomes of images (N, ...), one for each sample.

        Args:
            last: Whether this decides, or only chooses.
        """
        parts = [slice(i, i + self.group_size) for i in range(0, len(images), self.group_size)]
        answers = [
            self._of_group(images[part], self.labels[part], self.group + i, last=last)
            for i, part in enumerate(parts)
        ]
        logits, fooled = (torch.cat(both) for both in zip(*answers, strict=True))
        return Answers(logits, fooled & (images != self.images).flatten(1).any(dim=1))

    def _of_group(self, images: Tensor, labels: Tensor, group: int, *, last: bool) -> Answers:
        with seeded(*((0, "predict") if last else (self.seed, "restarts")), group):
            logits = raw_logits(self.model, images)
            fooled = margin(logits, labels) <= 0
            if self.detector is not None:
                fooled &= self.detector.accepts(self.model, images)
        return Answers(logits, fooled)

    def held(
        self, images: Tensor, movable: Tensor, beyond: Tensor | None = None, *, last: bool
    ) -> tuple[Tensor, Answers]:
        """Images (N, ...) whose movable ones go on in their direction until they fool the model.

        They lie where an attack's own passes saw the boundary, and those differ in last bits: in
        their layout, and in what shares the batch.

        Args:
            movable: (N,) bool.
            beyond: The place to try last.
        """
        shape = (-1, *[1] * (images.ndim - 1))
        places = [((1 + f) * (images - self.images) + self.images).clamp(0, 1) for f in _FURTHER]
        if beyond is not None:
            places.append(beyond)
        here, answers = images, self.of(images, last=last)
        movable = movable & (images != self.images).flatten(1).any(dim=1)
        step = torch.zeros_like(self.labels)
        for _ in range(2 * len(places)):  # a step of one may turn another that held
            going = movable & ~answers.fooled & (step < len(places))
            if not going.any():
                break
            step = step + going
            for i, place in enumerate(places):
                here = torch.where((going & (step == i + 1)).reshape(shape), place, here)
            answers = self.of(here, last=last)
        return here, answers
