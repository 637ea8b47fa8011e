"""From an attack's name and parameters to a function that runs it on one batch."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tasks.attacks.count import on
from tasks.attacks.foolbox_attacks import adapt
from tasks.catalogue import ATTACKS
from tasks.entries import Attack
from tasks.errors import InputError
from tasks.resolve import resolve
from tasks.values import NORMS

_GIVEN = frozenset({"starting_points", "targets"})  # by us, to functions that take them


class LoadedAttack(NamedTuple):
    norm: str
    wants: frozenset[str]  # of starting_points and targets
    function: Callable[..., Tensor]  # (model, images, labels[, eps][, starting_points=])


class Attempt(NamedTuple):
    """Adversarials (N, ...), and position -> why for samples on which the attack raised."""

    adversarials: Tensor
    failures: dict[int, str]


def load(params: Mapping[str, Any]) -> LoadedAttack:
    """The attack of a measurement's params: a catalogue entry or a user's function.

    Raises:
        InputError: It cannot be found, or eps does not fit the kind of attack.
    """
    name, eps, parameters = params["attack"], params["eps"], params["parameters"]
    gives: Literal["min_norm", "fixed_eps"] = "min_norm" if eps is None else "fixed_eps"
    attack = ATTACKS.get(name) or Attack(
        name, (params["norm"],), gives, {}, "a user's own", "white_box"
    )
    if attack.gives != gives:
        raise InputError(
            f"attack {name!r} " + ("needs eps" if eps is None else "finds its own distance: no eps")
        )
    norm = params["norm"]
    if norm not in NORMS or norm not in attack.norms:
        raise InputError(f"attack {name!r} has norm {' or '.join(attack.norms)}, not {norm!r}")
    function: Callable[..., Tensor]
    if attack.path.startswith("foolbox."):
        function = adapt(attack, parameters)
    else:
        several = {"norm": norm} if len(attack.norms) > 1 else {}
        function = partial(resolve(attack.path, "attack"), **several, **parameters, **attack.fixed)
    wants = _GIVEN & inspect.signature(function).parameters.keys()
    return LoadedAttack(norm, wants, function)


def attempt(
    attack: LoadedAttack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | None,
    starts: Tensor | None,
) -> Attempt:
    """Runs an attack on a batch; if it raises, on one sample after the other.

    Raises:
        Exception: What the attack raised, where it raised on every single sample too.
    """
    try:
        return Attempt(_call(attack, model, images, labels, eps=eps, starts=starts), {})
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, ValueError) as error:
        if len(labels) == 1:
            reason = str(error).partition("\n")[0]
            return Attempt(images, {0: f"error: {type(error).__name__}: {reason}"})
        parts = [
            attempt(
                attack,
                on(model, torch.tensor([i])),
                images[i : i + 1],
                labels[i : i + 1],
                eps=eps,
                starts=None if starts is None else starts[i : i + 1],
            )
            for i in range(len(labels))
        ]
        failures = {i: part.failures[0] for i, part in enumerate(parts) if part.failures}
        if len(failures) == len(labels):
            raise
        return Attempt(torch.cat([part.adversarials for part in parts]), failures)


def _call(
    attack: LoadedAttack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | None,
    starts: Tensor | None,
) -> Tensor:
    radius = () if eps is None else (eps,)
    extra = {} if starts is None else {"starting_points": starts}
    adversarials = attack.function(model, images, labels, *radius, **extra)
    if adversarials.shape != images.shape:
        raise InputError(
            f"the attack gave shape {tuple(adversarials.shape)} for images {tuple(images.shape)}"
        )
    return adversarials.detach().float()
