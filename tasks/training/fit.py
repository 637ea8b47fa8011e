"""The one training loop."""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tasks.data.load import Labelled
from tasks.models.logits import raw_logits

_EVALUATE = 1000  # images in a batch of the validation accuracy


class Epoch(NamedTuple):
    """What one epoch gave; `epoch` counts from 1, accuracies lie in [0, 1]."""

    epoch: int
    loss: float
    train_accuracy: float  # on the batches that were trained on, before each step
    val_accuracy: float  # NaN without validation samples
    seconds: float
    loss_terms: dict[str, float]


class Loss(NamedTuple):
    """Of one batch: the scalar to descend, logits (N, K), and named parts to report."""

    value: Tensor
    logits: Tensor
    terms: dict[str, Tensor]


LossFunction = Callable[[nn.Module, Tensor, Tensor], Loss]


def fit(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    loss: LossFunction,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    lr_decay: float,
    weight_decay: float,
) -> list[Epoch]:
    """Trains in place with Adam; shuffles with torch's global generator.

    Args:
        loss: Of (model, images, labels); called with the model in train mode.
        lr_decay: Factor on the learning rate after each epoch.

    Raises:
        FloatingPointError: The loss is not finite.
    """
    device = next(model.parameters()).device
    images, labels = train.images.to(device), train.labels.to(device)
    checks = Labelled(validation.images.to(device), validation.labels.to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, lr_decay)
    history = []
    for epoch in range(1, epochs + 1):
        started = time.perf_counter()
        model.train()
        losses, correct, sizes = [], torch.zeros((), device=device), []
        terms: dict[str, list[Tensor]] = defaultdict(list)
        for batch in torch.randperm(len(labels)).to(device).split(batch_size):  # type: ignore[no-untyped-call]
            result = loss(model, images[batch], labels[batch])
            optimizer.zero_grad()
            result.value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            # kept as tensors: reading a number here would wait for the GPU in every step
            losses.append(result.value.detach())
            correct += (result.logits.detach().argmax(dim=1) == labels[batch]).sum()
            sizes.append(len(batch))
            for name, term in result.terms.items():
                terms[name].append(term.detach())
        schedule.step()
        weights = torch.tensor(sizes, dtype=torch.float64) / len(labels)
        history.append(
            Epoch(
                epoch,
                float(weights @ _finite(losses, epoch)),
                float(correct) / len(labels),
                accuracy(model, checks),
                time.perf_counter() - started,
                {name: float(weights @ _on_cpu(values)) for name, values in terms.items()},
            )
        )
    model.eval()
    return history


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


def _finite(losses: list[Tensor], epoch: int) -> Tensor:
    values = _on_cpu(losses)
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        step = int(bad[0]) + 1
        raise FloatingPointError(
            f"training loss is {float(values[bad[0]])} in epoch {epoch}, step {step} "
            f"of {len(losses)}; try a smaller lr"
        )
    return values


def _on_cpu(values: list[Tensor]) -> Tensor:
    return torch.stack(values).double().cpu()
