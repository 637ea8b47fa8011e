"""From an attack's name and parameters to a function that runs it on one batch."""

import inspect
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import Tally, on
from robsweep.tasks.attacks.foolbox_attacks import adapt
from robsweep.tasks.attacks.limits import limited
from robsweep.tasks.catalogue import ATTACKS
from robsweep.tasks.catalogue.entries import Attack
from robsweep.tasks.catalogue.values import NORMS
from robsweep.tasks.errors import InputError
from robsweep.tasks.own_functions import function_of

_PATIENCE = 3  # times the limit of a batch, for all attempts on parts of it
_ENOUGH = 3  # samples that failed alone, before any worked, and as many elsewhere: it always fails
GIVEN = frozenset({"starting_points", "targets", "detector"})  # by us, to functions that take them


class LoadedAttack(NamedTuple):
    norm: str
    wants: frozenset[str]  # of starting_points, targets and detector
    function: Callable[..., Tensor]  # (model, images, labels[, eps], *, what it wants)


class Attempt(NamedTuple):
    """Adversarials (N, ...), and position -> why for samples on which the attack raised."""

    adversarials: Tensor
    failures: dict[int, str]
    error: Exception | None = None  # what it raised first
    hopeless: bool = False  # it would raise on any sample


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
        function = partial(
            function_of(attack.path, "attack"), **several, **parameters, **attack.fixed
        )
    wants = GIVEN & inspect.signature(function).parameters.keys()
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
    """Runs an attack on a batch; if it raises or takes too long, on halves of it, and so on.

    An attack that raises on the batch, its first half, the first samples and some elsewhere is not
    asked about the rest: they fail for the same reason.

    Args:
        given: What the attack wants beside these, (N, ...) each.
        tally: Of the passes of `model`.
        limit: Seconds for the batch. Halves have half of it, but never less than a sixteenth, and
            all that comes after the batch three times as much together.

    Raises:
        torch.OutOfMemoryError: As the attack did.
    """
    end = None if limit is None else time.monotonic() + (1 + _PATIENCE) * limit
    alone, worked = dict[int, str](), False  # samples that failed alone; whether any part worked
    failed = 0  # parts of several samples
    hopeless: str | None = None

    def on_part(part: slice, seconds: float | None) -> Attempt:
        nonlocal worked, failed, hopeless
        x, y = images[part], labels[part]
        if hopeless is not None:
            return Attempt(x, dict.fromkeys(range(part.start, part.stop), hopeless))
        which = torch.arange(len(labels), device=labels.device)[part]
        try:
            if end is not None and seconds is not None:
                seconds = min(seconds, end - time.monotonic())
                if seconds <= 0:
                    raise TimeoutError("no time is left for what the attack did not get done")
            with limited(tally, seconds):
                theirs = {name: tensor[part] for name, tensor in given.items()}
                part_model = model if len(y) == len(labels) else on(model, which)
                done = Attempt(_call(attack, part_model, x, y, eps=eps, given=theirs), {})
            worked = True
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # noqa: BLE001  any kind: a user's attack, or compiled code
            if len(y) == 1:
                reason = str(error).partition("\n")[0]
                alone[part.start] = f"error: {type(error).__name__}: {reason}"
                if not worked and len(alone) == _ENOUGH and not isinstance(error, TimeoutError):
                    for i in _elsewhere(part.stop, len(labels)):
                        on_part(slice(i, i + 1), seconds)
                    if not worked and len(alone) > _ENOUGH:
                        hopeless = alone[part.start]
                return Attempt(x, {part.start: alone[part.start]}, error)
            first = error
        else:
            return done
        less = None if seconds is None or limit is None else max(seconds / 2, limit / 16)
        failed += 1
        if failed == 2 and not worked and not isinstance(first, TimeoutError):
            for i in range(min(_ENOUGH, len(labels))):
                if not worked:
                    on_part(slice(i, i + 1), less)
        middle = (part.start + part.stop) // 2
        left = on_part(slice(part.start, middle), less)
        right = on_part(slice(middle, part.stop), less)
        both = torch.cat([left.adversarials, right.adversarials])
        return Attempt(both, left.failures | right.failures, first)

    result = on_part(slice(0, len(labels)), limit)
    return result._replace(hopeless=hopeless is not None)


def _elsewhere(start: int, stop: int) -> list[int]:
    """Some positions from `start` on, the last one among them."""
    step = max(1, (stop - start) // _ENOUGH)
    return list(range(stop - 1, start - 1, -step))[:_ENOUGH]


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
