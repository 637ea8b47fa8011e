"""Foolbox's attacks behind our own seam."""

import inspect
import math
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import RefusesNonFinite
from robsweep.tasks.attacks.sparing import OnlyCloser, Settled
from robsweep.tasks.catalogue.code.resolve import optional, resolve
from robsweep.tasks.catalogue.entries import Attack
from robsweep.tasks.errors import InputError

_RENAMED = {"contrast_target": "target", "source_step_convergence": "source_step_convergance"}
# 0 or () is foolbox's None
_UNSET = frozenset({"abs_step_size", "min_step_size", "max_sigma", "reduced_dims"})
# what each of these does not use of a model's answers; the results are the same without
_SPARED: Mapping[str, Callable[..., nn.Module]] = {
    "SaltAndPepperNoiseAttack": OnlyCloser,
    "L2DeepFoolAttack": Settled,
    "LinfDeepFoolAttack": Settled,
}
_BLACK_WHERE_FAILED = frozenset({"L2CarliniWagnerAttack", "EADAttack"})


def adapt(attack: Attack, parameters: Mapping[str, Any]) -> Callable[..., Tensor]:
    """A function with the seam of our own attacks.

    Fixed-eps: (model, images, labels, eps) -> adversarials; min-norm: (model, images, labels). It
    takes `targets=`, classes (N,), where the attack can aim, and `starting_points=`, adversarials
    of any size, where it cannot begin without. Images must be classified correctly: foolbox's
    decision attacks never return otherwise. Results of one sample can depend on the others.

    Raises:
        ValueError: Foolbox refuses a parameter's value.
    """
    kind = foolbox_class(attack.path)
    arguments = {foolbox_name(name): _value(name, value) for name, value in parameters.items()}
    if kind.__name__ == "L0FMNAttack":
        kind = _within_range(kind)

    def build() -> Any:
        with warnings.catch_warnings():  # Brendel-Bethge announces that it compiles
            warnings.simplefilter("ignore")
            return kind(**arguments, **attack.fixed)

    def run(
        model: nn.Module, images: Tensor, labels: Tensor, targets: Tensor | None, **extra: Any
    ) -> Tensor:
        foolbox = optional("foolbox", "attacks")
        if targets is None and kind.__name__ in _SPARED:
            model = _SPARED[kind.__name__](model, images, labels)
        wrapped = foolbox.PyTorchModel(model, bounds=(0, 1), device=images.device)
        instance = build()
        with warnings.catch_warnings():  # of failed searches, empty means, old torch functions
            warnings.simplefilter("ignore")
            if hasattr(instance, "feed"):
                instance.feed(wrapped, images)
            # run, not __call__: that clips and calls the model again, which our job does itself,
            # and at an eps it would cut a closest adversarial down to that size
            adversarials: Tensor = instance.run(
                wrapped, images, _criterion(foolbox.criteria, labels, targets), **extra
            )
        if kind.__name__ in _BLACK_WHERE_FAILED:
            black = (adversarials == 0).flatten(1).all(dim=1)
            shape = (-1, *[1] * (images.ndim - 1))
            adversarials = torch.where(black.reshape(shape), images, adversarials)
        return adversarials.detach()

    def fixed_eps(model: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
        return run(model, images, labels, None, epsilon=eps)

    def aimed_fixed_eps(
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        eps: float,
        *,
        targets: Tensor | None = None,
    ) -> Tensor:
        if targets is None and attack.targets == "required":
            raise InputError(f"{kind.__name__} aims at a class: it needs targets")
        return run(model, images, labels, targets, epsilon=eps)

    def min_norm(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return run(model, images, labels, None)

    def aimed_min_norm(
        model: nn.Module, images: Tensor, labels: Tensor, *, targets: Tensor | None = None
    ) -> Tensor:
        return run(model, images, labels, targets)

    def from_starts(
        model: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        starting_points: Tensor,
        targets: Tensor | None = None,
    ) -> Tensor:
        finite = RefusesNonFinite(model)
        return run(finite, images, labels, targets, starting_points=starting_points)

    build()
    if _begins_at_an_adversarial(kind):
        return from_starts
    if attack.gives == "fixed_eps":
        return fixed_eps if attack.targets == "none" else aimed_fixed_eps
    return min_norm if attack.targets == "none" else aimed_min_norm


def foolbox_class(path: str) -> type[Any]:
    """The class behind a catalogue path such as "foolbox.attacks:L2DeepFoolAttack"."""
    # foolbox imports GitPython, which complains where git is not installed
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optional("foolbox", "attacks")
    return resolve(path, "attack")  # type: ignore[return-value]


def foolbox_name(parameter: str) -> str:
    """What foolbox calls a parameter of ours."""
    return _RENAMED.get(parameter, parameter.replace("step_size", "stepsize"))


def _value(name: str, value: Any) -> Any:
    return None if name in _UNSET and not value else value


def _criterion(criteria: Any, labels: Tensor, targets: Tensor | None) -> Any:
    if targets is None:
        return criteria.Misclassification(labels)
    return criteria.TargetedMisclassification(targets)


def _begins_at_an_adversarial(kind: type[Any]) -> bool:
    known = inspect.signature(kind.run).parameters
    return "starting_points" in known and "FMN" not in kind.__name__  # FMN can begin anywhere


def _within_range(kind: type[Any]) -> type[Any]:
    """L0 FMN that does not read past the end of an image once it may change all of it."""

    def project(self: Any, x: Any, x0: Any, epsilon: Any) -> Any:
        return kind.project(self, x, x0, epsilon.minimum(math.prod(x.shape[1:]) - 1))

    return type(kind.__name__, (kind,), {"project": project})
