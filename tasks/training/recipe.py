"""What all trainings share: the optimiser, its schedule, and what is done to the data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from robsweep.tasks.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """Parameters that every training takes beside its own; 0 switches a part off."""

    epochs: int = 10
    batch_size: int = 128
    optimizer: str = "adam"  # adam | adamw | sgd
    lr: float = 1e-3
    lr_decay: float = 1.0  # factor after each epoch, in schedule `exponential`
    schedule: str = "exponential"  # exponential | cosine (to 0)
    warmup_epochs: int = 0  # the learning rate rises linearly to what the schedule says
    momentum: float = 0.9  # of sgd
    weight_decay: float = 0.0
    clip_norm: float = 0.0  # largest l2 norm of the whole gradient
    ema: float = 0.0  # decay of the moving average of the weights, which is the result
    label_smoothing: float = 0.0
    patience: int = 0  # epochs without a better validation accuracy; the best epoch is the result
    train_samples: int = 0  # of the training split, the first ones; 0: all
    validation_samples: int = 0  # of the validation split, the first ones; 0: all
    rotation: float = 0.0  # largest angle, degrees
    shift: float = 0.0  # largest shift, as a share of height and width
    mixup: float = 0.0  # alpha of the Beta distribution
    cutmix: float = 0.0
    pixmix: int = 0  # largest number of mixing rounds
    added: float = 0.0  # copies beside the originals, as a share of the training split
    added_noise: float = 0.0  # std of the noise on those copies; 0: duplicates, the control
    precision: str = "float32"  # float32 | bfloat16 (mixed)
    compile: bool = False  # torch.compile, on a GPU


COMMON = frozenset(field.name for field in fields(Recipe))


def split(parameters: dict[str, Any]) -> tuple[Recipe, dict[str, Any]]:
    """The common part of a training's parameters, and its own."""
    common = {name: value for name, value in parameters.items() if name in COMMON}
    own = {name: value for name, value in parameters.items() if name not in COMMON}
    return Recipe(**common), own


def optimizer_of(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise InputError("this model has no parameters to train: give it as it is, `train: false`")
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(
                parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
            )
        case "adamw":
            return torch.optim.AdamW(
                parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
            )
        case "sgd":
            return torch.optim.SGD(
                parameters,
                lr=recipe.lr,
                momentum=recipe.momentum,
                weight_decay=recipe.weight_decay,
                nesterov=recipe.momentum > 0,
                fused=True,
            )
    raise InputError(f"unknown optimizer {recipe.optimizer!r}: adam, adamw or sgd")


def lr_at(recipe: Recipe, done: float, step: float = 0.0) -> float:
    """The learning rate of a step when `done` epochs (a real number) lie behind.

    Args:
        step: Its length in epochs; a warm-up counts it, so that the first step is not at 0.
    """
    if recipe.schedule == "cosine":
        lr = recipe.lr * 0.5 * (1 + math.cos(math.pi * done / recipe.epochs))
    else:
        lr = recipe.lr * recipe.lr_decay ** int(done)
    return lr * min(1.0, (done + step) / recipe.warmup_epochs) if recipe.warmup_epochs else lr


def by_epoch(values: Sequence[float], epoch: int) -> float:
    """A schedule's value in an epoch (from 1): one value per epoch, the last one stays."""
    return values[min(epoch, len(values)) - 1]
