"""One scorer, ready to be called: on stored rows, or on a model and images."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue.scorers import own_parameters, scorer_named
from robsweep.tasks.errors import InputError
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.ood.features import features_of, innermost, passed
from robsweep.tasks.ood.fits import Fitted
from robsweep.tasks.own_functions import function_of

OnImages = Callable[[nn.Module, Tensor], Tensor]  # (N, *shape) -> (N,)


class Stored(NamedTuple):
    """What rows hold of N samples, on the CPU."""

    logits: Tensor  # (N, K) float32
    confidence: Tensor | None = None  # (N,) float64, the model's own
    features: Tensor | None = None  # (N, D) float32
    members: Tensor | None = None  # (N, M, K) float32


class _Known(nn.Module):
    """Gives logits that are there already, and the confidences that belong to them."""

    def __init__(self, confidence: Tensor | None) -> None:
        super().__init__()
        self._confidence = confidence
        if confidence is not None:
            vars(self)["confidence"] = self._stated

    def forward(self, logits: Tensor) -> Tensor:
        return logits

    def _stated(self, logits: Tensor) -> Tensor:
        assert self._confidence is not None
        return self._confidence


def of_stored(
    name: str,
    parameters: Mapping[str, Any],
    stored: Stored,
    fit: Fitted | None,
    *,
    by_member: bool = False,
) -> Tensor:
    """Scores (N,) of rows; nothing is run.

    Args:
        name: Of the catalogue, of a scorer that reads no model.
        parameters: All of its entry's.
        stored: What it reads.
        fit: What it was fitted to.
        by_member: The mean of an ensemble's members' scores, in place of that of the ensemble.
    """
    if by_member:
        assert stored.members is not None
        each = [
            of_stored(name, parameters, Stored(one.contiguous()), fit)
            for one in stored.members.unbind(dim=1)
        ]
        return torch.stack([one.double() for one in each]).mean(dim=0)
    scorer, own = scorer_named(name), own_parameters(name, parameters)
    function = function_of(scorer.path, "scorer")
    if scorer.reads == "members":
        assert stored.members is not None
        return function(stored.members.double(), **own)  # type: ignore[no-any-return]
    if scorer.reads == "features":
        assert stored.features is not None
        return function(  # type: ignore[no-any-return]
            stored.features.double(), stored.logits.double(), fit, **own
        )
    if scorer.fit is not None:
        return function(stored.logits.double(), fit, **own)  # type: ignore[no-any-return]
    return function(_Known(stored.confidence), stored.logits, **own)  # type: ignore[no-any-return]


def on_images(
    name: str,
    parameters: Mapping[str, Any],
    shape: tuple[int, ...],
    fit: Fitted | None = None,
    *,
    by_member: bool = False,
) -> OnImages:
    """The scorer as `f(model, images)`, for what has no rows; its gradient is the score's.

    Args:
        name: Of the catalogue, or a user's function.
        parameters: All of its entry's.
        shape: Of one image.
        fit: What it was fitted to.
        by_member: As `of_stored`.
    """
    scorer, own = scorer_named(name), own_parameters(name, parameters)
    function = function_of(scorer.path, "scorer")
    if scorer.reads == "members" or by_member:
        return partial(_on_members, name, parameters, fit, by_member)
    if scorer.reads == "features":
        place = {key: parameters[key] for key in ("layer", "pool")}

        def on_features(model: nn.Module, images: Tensor) -> Tensor:
            found = features_of(model, shape, **place)
            with torch.set_grad_enabled(images.requires_grad):
                one = passed(model, found, images)
                given = one.features.double(), logits_for(one.logits, one.members, scorer.head)
                return function(*given, _there(fit, images), **own)  # type: ignore[no-any-return]

        return on_features
    if scorer.fit is not None and scorer.reads == "logits":

        def on_logits(model: nn.Module, images: Tensor) -> Tensor:
            with torch.set_grad_enabled(images.requires_grad):
                return function(  # type: ignore[no-any-return]
                    model(images).double(), _there(fit, images), **own
                )

        return on_logits
    return partial(function, **own)


def _on_members(
    name: str,
    parameters: Mapping[str, Any],
    fit: Fitted | None,
    by_member: bool,
    model: nn.Module,
    images: Tensor,
) -> Tensor:
    ensemble = innermost(model)
    if not isinstance(ensemble, Ensemble):
        raise InputError(NO_MEMBERS)
    scorer = scorer_named(name)
    if scorer.reads == "model":
        function = partial(function_of(scorer.path, "scorer"), **own_parameters(name, parameters))
        each = [function(member, images).double() for member in ensemble.members]
        return torch.stack(each).mean(dim=0)
    with torch.set_grad_enabled(images.requires_grad):
        members = torch.stack([member(images) for member in ensemble.members], dim=1)
        stored = Stored(ensemble.voted([*members.unbind(dim=1)]), members=members)
        fit = None if fit is None else _there(fit, images)
        return of_stored(name, parameters, stored, fit, by_member=by_member)


NO_MEMBERS = "the model is no ensemble, and has no members whose answers could differ"


def logits_for(logits: Tensor, members: Tensor | None, head: str) -> Tensor:
    """The logits (N, K) that a scorer of features takes, float64.

    Where it works with a head that may be of the mean of the members' logits, it takes that mean:
    other votes give logarithms of probabilities, which are none of a linear layer.
    """
    if head == "any" and members is not None:
        return members.double().mean(dim=1)
    return logits.double()


def _there(fit: Fitted | None, images: Tensor) -> Fitted | None:
    return None if fit is None else {name: one.to(images.device) for name, one in fit.items()}
