"""What is to be found out of one sample, and how."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.optimise.tightening import PLAIN, Effort
from robsweep.tasks.verification.reading.layers import Network
from robsweep.tasks.verification.reading.properties import Property
from robsweep.tasks.verification.search.counterexamples import Checked


class Problem(NamedTuple):
    """Whether a sample's unsafe region is reached from its box."""

    network: Network
    box: Bounds  # (1, *shape)
    unsafe: Property

    def over_reals(self) -> "Problem":
        return self._replace(network=self.network.over_reals())


class Method(NamedTuple):
    """How it is to be found out."""

    stages: frozenset[str] = frozenset(STAGES)
    solver: str = "gscip"  # MathOpt's name
    tightening: Effort = PLAIN


# Takes a point (1, *shape) and looks near it, in the box, for a counterexample: the best (*shape).
Confirm = Callable[[Tensor], tuple[Tensor, Checked]]
