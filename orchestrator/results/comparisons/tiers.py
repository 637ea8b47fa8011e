"""Tiers in place of ranks: models that cannot be told apart share one."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05


class Tier(NamedTuple):
    """Where a model stands."""

    tier: int  # from 1, the best
    apart_within: list[int]  # models of its tier that it differs from all the same
    alike_beyond: list[int]  # models of other tiers that it cannot be told apart from


def tiers(order: Sequence[int], p: NDArray[np.float64], level: float = LEVEL) -> dict[int, Tier]:
    """The tiers of models that stand in the order of their values, the best first.

    The best opens the first tier. Each of the next joins the tier that is open unless it is
    significantly worse than the best of that tier; then it opens the next one. "Cannot be told
    apart" is not transitive, so two members of a tier may differ (where their difference is better
    known than that from its best), and neighbours across a border need not: both are named.

    Args:
        order: Indices of models.
        p: (models, models), corrected for how many pairs there are; NaN says nothing, and no
            difference is taken from it.
    """
    numbers: dict[int, int] = {}
    best, number = None, 0
    for index in order:
        if best is None or p[best, index] < level:
            best, number = index, number + 1
        numbers[index] = number
    return {
        index: Tier(
            number,
            [o for o in order if numbers[o] == number and o != index and p[o, index] < level],
            [o for o in order if numbers[o] != number and not p[o, index] < level],
        )
        for index, number in numbers.items()
    }
