"""Whether a model has what a scorer takes, before anything is computed."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from robsweep.tasks.catalogue.scorers import scorer_named
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.ood.features import features_of
from robsweep.tasks.ood.fit_job import head_for
from robsweep.tasks.ood.scoring import NO_MEMBERS, on_images


def check_scorer(
    model: nn.Module,
    ref: ModelRef,
    images: torch.Tensor,
    name: str,
    parameters: Mapping[str, Any],
    *,
    by_member: bool,
) -> None:
    """Finds the features and the head that a scorer reads; calls one that is run on the model.

    Raises:
        InputError: They are not there, or it gives no finite scores; says which layers there are.
    """
    called, scorer = ref.name or ref.arch, scorer_named(name)
    if (by_member or scorer.reads == "members") and not isinstance(model, Ensemble):
        raise InputError(f"scorer {name!r} of model {called!r}: {NO_MEMBERS}")
    try:
        if scorer.reads == "features":
            place = {key: parameters[key] for key in ("layer", "pool")}
            found = features_of(model, ref.shape, **place)
            if scorer.head != "none":
                head_for(found.head, found.maps, scorer.head, called)
        elif scorer.reads == "model":
            function = on_images(name, parameters, ref.shape, by_member=by_member)
            _check_scores(function(model, images), len(images))
    except InputError as error:
        raise InputError(f"scorer {name!r} of model {called!r}: {error}") from error
    except Exception as error:
        raise InputError(
            f"scorer {name!r} of model {called!r}, called on {len(images)} images, raised "
            f"{type(error).__name__}: {error}; leave the model out of it with `exclude:`"
        ) from error


def _check_scores(scores: Any, images: int) -> None:
    if not isinstance(scores, torch.Tensor) or tuple(scores.shape) != (images,):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else type(scores).__name__
        raise InputError(f"called on {images} images it gave {got}, not ({images},) scores")
    if bad := int((~torch.isfinite(scores)).sum()):
        raise InputError(f"it gave scores that are not finite for {bad} of {images} images")
