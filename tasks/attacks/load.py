"""From an attack's name and parameters to a function that runs it on one batch."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tasks.attacks.count import Tally, on
from tasks.attacks.foolbox_attacks import adapt
from tasks.attacks.limits import limited
from tasks.catalogue import ATTACKS
from tasks.entries import Attack
from tasks.errors import InputError
from tasks.resolve import resolve
from tasks.values import NORMS

_GIVEN = frozenset({"starting_points", "targets", "detector"})  # by us, to functions that take them


class LoadedAttack(NamedTuple):
    norm: str
    wants: frozenset[str]  # of starting_points, targets and detector
    function: Callable[..., Tensor]  # (model, images, labels[, eps], *, what it wants)


class Attempt(NamedTuple):
    """Adversarials (N, ...), and position -> why for samples on which the attack raised."""

    adversarials: Tensor
    failures: dict[int, str]
    error: Exception | None = None  # what it raised first


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
    given: Mapping[str, Tensor],
    tally: Tally,
    limit: float | None,
) -> Attempt:
    """Runs an attack on a batch; if it raises or takes too long, on one sample after the other.

    Args:
        given: What the attack wants beside these, (N, ...) each.
        tally: Of the passes of `model`.
        limit: Seconds for the batch; single samples have their share of it each.

    Raises:
        torch.OutOfMemoryError: As the attack did.
    """
    try:
        with limited(tally, limit):
            return Attempt(_call(attack, model, images, labels, eps=eps, given=given), {})
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  any kind: a user's attack, or compiled code
        if len(labels) == 1:
            reason = str(error).partition("\n")[0]
            return Attempt(images, {0: f"error: {type(error).__name__}: {reason}"}, error)
        parts = []
        for i in range(len(labels)):
            one = slice(i, i + 1)
            alone = {name: tensor[one] for name, tensor in given.items()}
            parts.append(
                attempt(
                    attack,
                    on(model, torch.tensor([i])),
                    images[one],
                    labels[one],
                    eps=eps,
                    given=alone,
                    tally=tally,
                    limit=None if limit is None else limit / len(labels),
                )
            )
        failures = {i: part.failures[0] for i, part in enumerate(parts) if part.failures}
        return Attempt(torch.cat([part.adversarials for part in parts]), failures, error)


def _call(
    attack: LoadedAttack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    eps: float | None,
    given: Mapping[str, Any],
) -> Tensor:
    radius = () if eps is None else (eps,)
    adversarials = attack.function(model, images, labels, *radius, **given)
    if adversarials.shape != images.shape:
        raise InputError(
            f"the attack gave shape {tuple(adversarials.shape)} for images {tuple(images.shape)}"
        )
    return adversarials.detach().float()
