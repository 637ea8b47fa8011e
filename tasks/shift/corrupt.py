"""A corruption by name, sample by sample."""

import hashlib
import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.catalogue import CORRUPTIONS
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seeded
from robsweep.tasks.own_functions import function_of


def corrupt(
    name: str,
    images: Tensor,
    severity: int,
    parameters: Mapping[str, Any],
    seed: int,
    samples: Sequence[int],
) -> Tensor:
    """Images (N, ...) in [0, 1], each a function of itself and (name, severity, seed, sample).

    Args:
        name: Of the catalogue, or a user's `package.module:function`.
        samples: (N,), what each image's draws are seeded by.

    Raises:
        InputError: There is no such function, or it gives no images in [0, 1] of that shape.
    """
    path = CORRUPTIONS[name].path if name in CORRUPTIONS else name
    function = function_of(path, "corruption")
    found = images.clone()
    with seeded(seed, "corruption", 0):
        for i, sample in enumerate(samples):
            _seed(seed, name, severity, sample)
            one = function(images[i : i + 1], severity, **parameters)
            if tuple(one.shape) != (1, *images.shape[1:]):
                raise InputError(
                    f"corruption {name!r} gave shape {tuple(one.shape)} for an image of shape "
                    f"{(1, *images.shape[1:])}"
                )
            if not (one.min() >= 0 and one.max() <= 1):
                raise InputError(f"corruption {name!r} gave pixels outside [0, 1]")
            found[i] = one[0]
    return found


def _seed(seed: int, name: str, severity: int, sample: int) -> None:
    """The generators of the CPU alone, as images lie there: once per sample, this must be quick."""
    digest = hashlib.sha256(repr((seed, name, severity, sample)).encode()).digest()
    value = int.from_bytes(digest[:8], "little")
    torch.default_generator.manual_seed(value)
    np.random.seed(value % 2**32)
    random.seed(value)
