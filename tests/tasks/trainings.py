"""Trains small models without a job."""

from collections.abc import Callable
from typing import Any

from torch import nn

from robsweep.tasks.data.load import Labelled, empty_like
from robsweep.tasks.training.fit import Epoch, LossFunction, Setup, cross_entropy, fit
from robsweep.tasks.training.recipe import Recipe


def trained_with(
    model: nn.Module,
    data: Labelled,
    loss: LossFunction = cross_entropy,
    *,
    validation: Labelled | None = None,
    seed: int = 0,
    **recipe: Any,
) -> list[Epoch]:
    checks = empty_like(data) if validation is None else validation
    return fit(model, data, checks, loss, Recipe(**recipe), seed=seed)


def setup_of(
    model: nn.Module, data: Labelled, outliers: Callable[[str, str], Labelled] | None = None
) -> Setup:
    return Setup(model, data, 2, outliers or (lambda _name, _split: data))
