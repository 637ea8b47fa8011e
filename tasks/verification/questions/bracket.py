"""Two sides that close in on a number, and what that took."""

import math
from dataclasses import dataclass, field

from torch import Tensor

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.reading.layers import Network
from robsweep.tasks.verification.verdicts import Row

MET = 1e-3  # of the number: how near the two sides of an exact answer are
# Of what is left of the time, for one try of a search; for a solver; at first, for bounds.
TRY, SOLVER = 0.2, 0.7
BOUNDS = frozenset({"interval", "crown", "alpha"})
# Of the clean margin: what rounding may take off bounds without being in the way.
_ROUNDING = 0.5 * MET
_COUNTERS = ("attack_steps", "branches", "boxes", "nodes", "alpha_bounds")


@dataclass
class Bracket:
    """A number's lower sides, and what the network gives at `point`: its upper one.

    What rounding in float32 may take away can be more than what is left between both sides, so they
    are to meet over the reals.
    """

    lower: float  # proved of the network as it runs, in every order of its sums
    reals: float  # proved over the reals; never below `lower`
    upper: float
    scale: float  # what `MET` is a part of, if `upper` is smaller
    point: Tensor | None = None  # float32 (*shape), at which it takes `upper`
    lower_by: str | None = None  # the stages that moved the sides last
    upper_by: str | None = None
    spent: Row = field(default_factory=lambda: Row("unknown"))

    def met(self) -> bool:
        finite = math.isfinite(self.upper)
        return finite and self.gap() <= MET * max(self.scale, abs(self.upper))

    def gap(self) -> float:
        return self.upper - self.reals

    @property
    def arithmetic(self) -> str:
        """What an exact answer is about."""
        as_it_runs = self.upper - self.lower <= MET * max(self.scale, abs(self.upper))
        return "float32" if as_it_runs else "reals"

    def raised(self, lower: float, by: str | None, *, over_reals: bool) -> None:
        if not over_reals:
            self.lower = max(self.lower, lower)
        if lower > self.reals:
            self.reals, self.lower_by = lower, by

    def lowered(self, upper: float, point: Tensor, by: str | None) -> None:
        if upper < self.upper:
            self.upper, self.point, self.upper_by = upper, point, by

    def spend(self, row: Row) -> None:
        """Adds up the counters of a step."""
        for name in _COUNTERS:
            if (count := getattr(row, name)) is not None:
                total = count + (getattr(self.spent, name) or 0)
                self.spent = self.spent._replace(**{name: total})
        if self.spent.unstable_relus is None:
            self.spent = self.spent._replace(unstable_relus=row.unstable_relus)
        if self.spent.rounding_error is None:
            self.spent = self.spent._replace(rounding_error=row.rounding_error)
        if row.solver is not None:
            self.spent = self.spent._replace(solver=row.solver, solver_status=row.solver_status)

    @property
    def decided_by(self) -> str | None:
        """The later one of the stages that moved the two sides last."""
        return max(
            (by for by in (self.lower_by, self.upper_by) if by is not None),
            key=lambda by: STAGES.index(by) if by in STAGES else -1,
            default=None,
        )


def only(method: Method, stages: frozenset[str]) -> Method:
    """The same without the other stages."""
    return method._replace(stages=method.stages & stages)


def without(method: Method, *stages: str) -> Method:
    return method._replace(stages=method.stages - {*stages})


def searched(network: Network, bounded: Row, margin: float) -> Network:
    """What is searched: the network as it runs, or over the reals where rounding is in the way.

    Args:
        bounded: What bounds have shown.
        margin: At the image.
    """
    error = math.inf if bounded.rounding_error is None else bounded.rounding_error
    return network if error <= _ROUNDING * abs(margin) else network.over_reals()


def last_of(method: Method) -> str | None:
    """The stage that comes last."""
    return max(method.stages, key=STAGES.index, default=None)


CONTRADICTION = "a proof and a point of the network contradict each other"
