"""Corrupted images, each a function of its own sample alone."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.catalogue import CORRUPTIONS
from robsweep.tasks.catalogue.corruptions import misfit
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seed_everything, seeded
from robsweep.tasks.own_functions import function_of

_CHUNK = 50  # images at a time, so that clouds and the like fit into a cache
_ROUNDING = 1e-6  # by which a user's function may leave [0, 1]


def per_sample(name: str) -> bool:
    """Whether a corruption takes one generator per image, and none for a group."""
    return name in CORRUPTIONS and "per_sample" in CORRUPTIONS[name].traits


def corrupt(
    name: str,
    images: Tensor,
    severity: int,
    parameters: Mapping[str, Any],
    seed: int,
    samples: Sequence[int],
) -> Tensor:
    """Images (N, *shape) in [0, 1], corrupted by a name of the catalogue or a user's function.

    Each depends on (name, severity, parameters, seed, its sample) and itself, and on no other
    image of the call. Of all severities of a corruption, a sample's random numbers are the same.
    Functions that draw from the global generators are called on one image at a time.

    Args:
        samples: (N,), the index of each image in its split.

    Raises:
        InputError: No such corruption or severity, or what it gave is no image.
    """
    if len(samples) != len(images):
        raise ValueError(f"{len(images)} images, but {len(samples)} samples")
    if (why := misfit(name, images.shape[1:])) is not None:
        raise InputError(why)
    if needed := [key for key, value in parameters.items() if isinstance(value, type)]:
        raise InputError(f"{name} needs {' and '.join(needed)}: it is an entry of `shift:`")
    if not per_sample(name):
        corrupted = torch.empty_like(images)
        with seeded(seed, name, 0):  # the generators are afterwards as they were
            for i, sample in enumerate(samples):
                seed_everything(seed, f"corruption {name}", sample)
                corrupted[i : i + 1] = called(name, images[i : i + 1], severity, parameters)
        return corrupted.clamp_(0, 1)
    function = function_of(CORRUPTIONS[name].path, "corruption")
    pixels = images.detach().cpu().numpy()
    made = np.empty_like(pixels)
    for start in range(0, len(samples), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        randoms = _generators(name, seed, samples[chunk])
        made[chunk] = function(pixels[chunk], severity, randoms, **parameters)
    return _checked(name, images, torch.from_numpy(made).to(images.device))


def called(name: str, images: Tensor, severity: int, parameters: Mapping[str, Any]) -> Tensor:
    """All images at once by a function that draws from the global generators, which are seeded.

    Raises:
        InputError: As `corrupt`.
    """
    path = CORRUPTIONS[name].path if name in CORRUPTIONS else name
    return _checked(name, images, function_of(path, "corruption")(images, severity, **parameters))


def _generators(name: str, seed: int, samples: Sequence[int]) -> list[np.random.Generator]:
    digest = hashlib.sha256(repr((seed, "corruption", name)).encode()).digest()
    words = np.frombuffer(digest[:16], dtype="<u4").tolist()
    return [np.random.default_rng([*words, int(sample)]) for sample in samples]


def _checked(name: str, images: Tensor, corrupted: Any) -> Tensor:
    """What a corruption gave, if it is images like those that it was given."""
    if not isinstance(corrupted, Tensor):
        raise InputError(
            f"corruption {name!r} gave a {type(corrupted).__name__}, not a tensor of images"
        )
    if corrupted.shape != images.shape or not corrupted.is_floating_point():
        raise InputError(
            f"corruption {name!r} gave {corrupted.dtype} of shape {tuple(corrupted.shape)}, not "
            f"images of shape {tuple(images.shape)}"
        )
    if not corrupted.isfinite().all():
        raise InputError(f"corruption {name!r} gave pixels that are not finite")
    if len(images) and not (corrupted.min() >= -_ROUNDING and corrupted.max() <= 1 + _ROUNDING):
        raise InputError(
            f"corruption {name!r} gave pixels from {float(corrupted.min()):.4g} to "
            f"{float(corrupted.max()):.4g}: images are in [0, 1], e.g. `images.clamp(0, 1)`"
        )
    return corrupted.to(images.dtype)
