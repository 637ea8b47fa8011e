"""What else than bounds is known of the input of a network."""

from typing import NamedTuple

from torch import Tensor


class Simplex(NamedTuple):
    """The inputs are weights: their sum is 1. Their bounds say that none is below 0."""


class Ball(NamedTuple):
    """The inputs are within a distance of one image."""

    norm: str  # l1 or l2
    centre: Tensor  # float32 (1, *shape)
    radius: float


Within = Simplex | Ball
