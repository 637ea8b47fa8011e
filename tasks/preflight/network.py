"""Whether a model is made of layers that can be verified, and exactly where that is asked for."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef


def check_network(model: nn.Module, ref: ModelRef, params: Mapping[str, Any]) -> None:
    """Params: engines, exact, boxes, estimates, as of the preflight.

    Raises:
        InputError: It cannot be read as what it is to be, and why.
    """
    if params.get("engines"):
        _check_readable(model, ref, "verification", "is to be verified and cannot be")
    if params.get("exact"):
        _check_exact(model, ref)
    for section in params.get("boxes", ()):
        _check_readable(model, ref, section, "is to be bounded and cannot be")
    if params.get("estimates"):
        from robsweep.tasks.verification.abs_bound import estimable

        estimable(model, ref)


def _check_readable(model: nn.Module, ref: ModelRef, section: str, what: str) -> None:
    """Whether a model is made of layers that can be verified."""
    from robsweep.tasks.verification.reading.torch.module import read

    try:
        read(model, ref.shape)
    except InputError as error:
        raise InputError(
            f"model {ref.name or ref.arch!r} {what}: {error}; leave it out of `{section}:` with "
            "`exclude:`"
        ) from error


def _check_exact(model: nn.Module, ref: ModelRef) -> None:
    """Whether questions for a number have an exact answer for a model that can be read."""
    from robsweep.tasks.verification.reading.layers import Smooth
    from robsweep.tasks.verification.reading.torch.module import read

    curves = [one.curve for one in read(model, ref.shape).layers if isinstance(one, Smooth)]
    if curves:
        raise InputError(
            f"model {ref.name or ref.arch!r} has bounds only ({curves[0]}), so questions `worst` "
            "and `closest` have no exact answer there: leave `milp` out of their `stages:` for "
            "what bounds and branching tell from both sides, or leave the model out of "
            "`verification:` with `exclude:`"
        )
