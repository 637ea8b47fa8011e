"""The one training loop."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.logits import raw_logits
from robsweep.tasks.training import workers
from robsweep.tasks.training.augmentations import Augmentation
from robsweep.tasks.training.checkpoints import Checkpoints
from robsweep.tasks.training.progress import Average, Totals
from robsweep.tasks.training.recipe import Recipe, lr_at, optimizer_of

_EVALUATE = 1000  # images in a batch of the validation accuracy
_LOOK_SECONDS = 5.0  # between looks at whether the loss is still finite


class Epoch(NamedTuple):
    """What one epoch gave; `epoch` counts from 1, accuracies lie in [0, 1]."""

    epoch: int
    loss: float
    train_accuracy: float  # on the batches that were trained on, before each step; NaN: no logits
    val_accuracy: float  # NaN without validation samples
    seconds: float
    loss_terms: dict[str, float]


class Batch(NamedTuple):
    """What one step trains on."""

    images: Tensor  # (N, *shape) in [0, 1], augmented
    labels: Tensor  # (N,)
    targets: Tensor  # for cross entropy: the labels, or probabilities (N, K) of mixed images
    epoch: int  # from 1
    progress: float  # share of all steps that lie behind, in [0, 1)


class Loss(NamedTuple):
    """Of one batch: the scalar to descend, logits (N, K), and named parts to report."""

    value: Tensor
    logits: Tensor | None
    terms: dict[str, Tensor]


LossFunction = Callable[[nn.Module, Batch], Loss]


class Setup(NamedTuple):
    """What a training may know when it makes its loss."""

    model: nn.Module
    train: Labelled
    epochs: int
    outliers: Callable[[str, str], Labelled]  # (data set, split) -> images of the model's shape


def fit(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    loss: LossFunction,
    recipe: Recipe,
    *,
    seed: int = 0,
    classes: int | None = None,
    checkpoints: Checkpoints | None = None,
) -> list[Epoch]:
    """Trains in place; goes on where the last checkpoint was taken.

    Batches and augmentations depend on seed, epoch and step alone, so that all workers draw the
    same; whatever a loss draws comes from torch's global generator.

    Args:
        loss: Of (model, batch); called with the model in train mode.
        classes: How many there are; None: as many as the labels show.

    Raises:
        FloatingPointError: The loss is not finite; the last checkpoint is from before.
        InputError: The recipe does not fit the data or the device.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    here = Labelled(train.images.to(device), train.labels.to(device))
    known = classes or int(train.labels.max()) + 1
    augmentation = Augmentation.of(recipe, here, known, seed)
    run = _Run(model, augmentation, validation, loss, recipe, checkpoints or Checkpoints())
    while not run.finished:
        run.train_epoch()
    return run.result()


class _Run:
    def __init__(
        self,
        model: nn.Module,
        augmentation: Augmentation,
        validation: Labelled,
        loss: LossFunction,
        recipe: Recipe,
        checkpoints: Checkpoints,
    ) -> None:
        self.model, self.loss, self.recipe, self.checkpoints = model, loss, recipe, checkpoints
        self.augmentation = augmentation
        self.device = device = augmentation.data.images.device
        checks = slice(recipe.validation_samples or None)
        self.checks = Labelled(
            validation.images[checks].to(device), validation.labels[checks].to(device)
        )
        if recipe.patience and not len(self.checks.labels):
            raise InputError("`patience` needs a validation split, which this data set has not")
        self.optimizer = optimizer_of(recipe, model)
        self.average = Average(model, recipe.ema) if recipe.ema else None
        self.called = _compiled(model, device) if recipe.compile else model
        self.totals = Totals(device)
        self.history: list[Epoch] = []
        self.best: tuple[float, dict[str, Tensor]] = (-1.0, {})
        self.epoch, self.step, self.seconds = 1, 0, 0.0
        self._resume()

    @property
    def finished(self) -> bool:
        if self.recipe.patience and self.history:
            values = [epoch.val_accuracy for epoch in self.history]
            best = max(range(len(values)), key=values.__getitem__)
            if len(values) - 1 - best >= self.recipe.patience:
                return True
        return self.epoch > self.recipe.epochs

    def train_epoch(self) -> None:
        started = looked = time.perf_counter()
        self.model.train()
        batches = _batches(self.augmentation.order(self.epoch), self.recipe.batch_size)
        while self.step < len(batches):
            self._step(batches[self.step], len(batches))
            self.step += 1
            now = time.perf_counter()
            if self.checkpoints.due or now - looked > _LOOK_SECONDS:
                looked = now
                self.totals.check(self.epoch, len(batches))
                if self.checkpoints.due and self.step < len(batches) and workers.count() == 1:
                    self._save(self.seconds + now - started)
        self.totals.check(self.epoch, len(batches))
        workers.average_buffers(self.model)
        if self.average is not None:
            self.average.swap()
        # one worker's, as rounding must not let some stop early and others go on
        accuracy_now = workers.from_first(accuracy(self.model, self.checks))
        if self.recipe.patience and accuracy_now > self.best[0]:
            state = {key: value.clone() for key, value in self.model.state_dict().items()}
            self.best = (accuracy_now, state)
        if self.average is not None:
            self.average.swap()
        seconds = self.seconds + time.perf_counter() - started
        means = self.totals.means()
        self.history.append(
            Epoch(
                self.epoch,
                means.pop("loss"),
                means.pop("correct", float("nan")),
                accuracy_now,
                seconds,
                means,
            )
        )
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.totals = Totals(self.device)
        if self.checkpoints.due and not self.finished:
            self._save(0.0)

    def result(self) -> list[Epoch]:
        if self.average is not None:
            self.average.swap()
        if self.recipe.patience:
            self.model.load_state_dict(self.best[1])
        self.model.eval()
        return self.history

    def _step(self, index: Tensor, steps: int) -> None:
        done = self.epoch - 1 + self.step / steps
        for group in self.optimizer.param_groups:
            group["lr"] = lr_at(self.recipe, done, 1 / steps)
        images, labels, targets = self.augmentation.batch(index, self.epoch, self.step)
        mine = workers.share(len(index))
        right = labels[mine].clone()  # a loss may write into its batch
        batch = Batch(
            images[mine], labels[mine], targets[mine], self.epoch, done / self.recipe.epochs
        )
        half = self.recipe.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            result = self.loss(self.called, batch)
        self.optimizer.zero_grad()
        result.value.backward()  # type: ignore[no-untyped-call]
        workers.average_gradients(self.model, len(batch.labels), len(index))
        if self.recipe.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        # kept as tensors: reading a number here would wait for the GPU in every step
        self.totals.add(self.step, len(batch.labels), "loss", result.value.detach())
        if result.logits is not None:
            correct = (result.logits.detach().argmax(dim=1) == right).float().mean()
            self.totals.add(self.step, len(batch.labels), "correct", correct)
        for name, term in result.terms.items():
            self.totals.add(self.step, len(batch.labels), name, term.detach())

    def _save(self, seconds: float) -> None:
        if workers.rank():
            return
        if not all(bool(p.isfinite().all()) for p in self.model.parameters()):
            raise FloatingPointError(
                f"weights are not finite after epoch {self.epoch}, step {self.step}; "
                "try a smaller lr"
            )
        self.checkpoints.save(
            {
                "model": self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": None if self.average is None else self.average.state(),
                "best": self.best,
                "history": [tuple(epoch) for epoch in self.history],
                "epoch": self.epoch,
                "step": self.step,
                "seconds": seconds,
                "totals": self.totals.state(),
            }
        )

    def _resume(self) -> None:
        state: dict[str, Any] | None = workers.from_first(self.checkpoints.load())
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.restore(state["average"])
        self.best = state["best"]
        self.history = [Epoch(*epoch) for epoch in state["history"]]
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]
        if workers.rank() == 0:  # whose part of the sums it was
            self.totals.restore(state["totals"])


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """Of so many samples each; a last one of a single sample, of which batch normalisation knows
    no variance, joins the one before it.
    """
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def cross_entropy(model: nn.Module, batch: Batch) -> Loss:
    logits = model(batch.images)
    return Loss(F.cross_entropy(logits, batch.targets), logits, {})


def accuracy(model: nn.Module, data: Labelled) -> float:
    """Share of samples classified as their label, in eval mode; NaN without samples."""
    if not len(data.labels):
        return float("nan")
    model.eval()
    correct = 0
    for start in range(0, len(data.labels), _EVALUATE):
        part = slice(start, start + _EVALUATE)
        predicted = raw_logits(model, data.images[part]).argmax(dim=1)
        correct += int((predicted == data.labels[part]).sum())
    return correct / len(data.labels)


def _compiled(model: nn.Module, device: torch.device) -> nn.Module:
    if device.type != "cuda":
        raise InputError("`compile: true` is for GPUs, and this job has none: leave it out")
    compiled: Any = torch.compile(model)
    return compiled  # type: ignore[no-any-return]
