"""Foolbox's attacks behind our own seam."""

import inspect
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from tasks.attacks.count import RefusesNonFinite
from tasks.entries import Attack
from tasks.resolve import optional, resolve

_RENAMED = {"rel_step_size": "rel_stepsize"}


def adapt(attack: Attack, parameters: Mapping[str, Any]) -> Callable[..., Tensor]:
    """A function with the seam of our own attacks.

    Fixed-eps: (model, images, labels, eps) -> adversarials; min-norm: (model, images, labels);
    decision attacks take `starting_points=` too. Images must be classified correctly: foolbox's
    decision attacks never return otherwise.
    """
    kind = foolbox_class(attack.path)
    arguments = {_RENAMED.get(name, name): value for name, value in parameters.items()}
    instance = kind(**arguments, **attack.fixed)

    def run(model: nn.Module, images: Tensor, labels: Tensor, **extra: Any) -> Tensor:
        foolbox = optional("foolbox", "attacks")
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        with warnings.catch_warnings():  # numpy warns of empty means in foolbox's statistics
            warnings.simplefilter("ignore", RuntimeWarning)
            # run, not __call__: that clips and calls the model again, which our job does itself
            adversarials: Tensor = instance.run(
                wrapped, images, foolbox.criteria.Misclassification(labels), **extra
            )
        return adversarials.detach()

    def fixed_eps(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
        return run(model, images, labels, epsilon=eps)

    def min_norm(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return run(model, images, labels)

    def from_starts(
        model: nn.Module, images: Tensor, labels: Tensor, *, starting_points: Tensor
    ) -> Tensor:
        return run(RefusesNonFinite(model), images, labels, starting_points=starting_points)

    if attack.gives == "fixed_eps":
        return fixed_eps
    return from_starts if "starting_points" in inspect.signature(kind.run).parameters else min_norm


def foolbox_class(path: str) -> type[Any]:
    """The class behind a catalogue path such as "foolbox.attacks:L2DeepFoolAttack"."""
    # foolbox imports GitPython, which complains where git is not installed
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optional("foolbox", "attacks")
    return resolve(path, "attack")  # type: ignore[return-value]
