"""Complete verification of one sample: bounds, branching, then a MILP for each disjunct left."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.bounds.alpha import Ascent, Relaxed, optimised_margins
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import (
    best_margins,
    by_crown,
    by_intervals,
    unstable_relus,
)
from robsweep.tasks.verification.optimise.milp import encode
from robsweep.tasks.verification.optimise.race import raced
from robsweep.tasks.verification.optimise.solver import Deadline, Race
from robsweep.tasks.verification.optimise.tightening import PLAIN, Effort, tightened
from robsweep.tasks.verification.reading.layers import Network, is_exact
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED, Property
from robsweep.tasks.verification.search.branching import Limit, Search
from robsweep.tasks.verification.search.counterexamples import Checked
from robsweep.tasks.verification.verdicts import Row

ASCENT = Ascent(20, 0.3)
_TIGHTENING = 0.5  # of the time that is left then
# Of the time that is left then, for branching and for the MILP: what one of them cannot decide at
# all is often easy for the other.
_ROUNDS = ((0.1, 0.1), (0.9, 1.0))
_BRANCHES = 20_000  # if a MILP can follow, and there is no time limit
_STUCK = 64  # if a MILP can follow: what is left of such a subproblem is a linear program
_SHORTEST = 2.0  # seconds: a solver's process needs one to begin
_FURTHER = 1e-3  # on the margin's scale


class Problem(NamedTuple):
    """Whether a sample's unsafe region is reached from its box."""

    network: Network
    box: Bounds  # (1, *shape)
    unsafe: Property


class Method(NamedTuple):
    """How it is to be found out."""

    stages: frozenset[str] = frozenset(STAGES)
    solver: str = "gscip"  # MathOpt's name
    tightening: Effort = PLAIN


# Takes a point (1, *shape) and looks near it, in the box, for a counterexample: the best (*shape).
Confirm = Callable[[Tensor], tuple[Tensor, Checked]]


class Cascade:
    """The stages in their order; what each finds out is there for the next."""

    def __init__(
        self, problem: Problem, method: Method, deadline: Deadline, confirm: Confirm
    ) -> None:
        self.problem, self.method = problem, method
        self.deadline, self.confirm = deadline, confirm
        self.row = Row("unknown")
        self.found: Tensor | None = None  # the counterexample, (*shape)
        self.bounds: list[Bounds] = []
        self.least: list[float] = []  # lower bounds on the margin of each disjunct
        self.relaxed: Relaxed | None = None
        self.search: Search | None = None

    def run(self, start: Tensor) -> tuple[Row, Tensor | None]:
        """The row, and the counterexample of a falsified sample.

        Args:
            start: (1, *shape), where a short attack begins: it also finds out whether float32 and
                float64 disagree near there, in which case nothing is proved of what is deployed.
        """
        if "attack" in self.method.stages:
            self._judged("attack", start)
        if self.row.verdict == "unknown":
            self.bound()
        if self.row.verdict == "unknown":
            self.complete()
        return self.row, self.found

    def bound(self) -> None:
        """Intervals, CROWN and alpha-CROWN."""
        stages = self.method.stages
        for name, bounds_of in (("interval", by_intervals), ("crown", by_crown)):
            # without either, the later stages still start from intervals
            if name in stages or (name == "interval" and "crown" not in stages):
                bounded = bounds_of(*self.problem)
                self.bounds, self.least = bounded.bounds, bounded.margins[0].tolist()
                self._noted(name)
                if self.row.verdict != "unknown":
                    return
        if self._goes_on("alpha"):
            self._alpha()
            self._noted("alpha")

    def complete(self) -> None:
        """What may take the rest of the time: a short try of each search, then a long one."""
        exact, tightening = is_exact(self.problem.network), self.method.tightening.tightening
        if exact and tightening != "none" and self.row.verdict == "unknown":
            self._tightening()
        both = exact and {"branching", "milp"} <= self.method.stages
        rounds = _ROUNDS if both and self.deadline.limit is not None else ((1.0, 1.0),)
        for branching, milp in rounds:
            if self._goes_on("branching"):
                self._branching(self.deadline.share(branching), alone=not both)
            last, share = (branching, milp) == rounds[-1], self.deadline.share(milp)
            if exact and self._goes_on("milp") and (last or share.at() - share.started > _SHORTEST):
                self._milp(share, last=last)
        if self.row.verdict == "unknown" and self.deadline.passed():
            self.row = self.row._replace(verdict="timeout")
        if self.row.verdict == "unknown" and not exact:
            self.row = self.row._replace(solver_status="bounds only")

    def _goes_on(self, stage: str) -> bool:
        """Whether the sample is still open, there is time, and the stage is wanted."""
        wanted = stage in self.method.stages and self.row.verdict == "unknown"
        return wanted and not self.deadline.passed()

    def _noted(self, stage: str) -> None:
        """Puts the bounds into the row, and the verdict if they decide and may."""
        unstable = int(unstable_relus(self.problem.network, self.bounds))
        self.row = self.row._replace(lower_bound=min(self.least), unstable_relus=unstable)
        may = stage in self.method.stages or stage == self.method.tightening.tightening
        # near 0, the two precisions may disagree: neither proof nor counterexample
        if self.row.verdict == "unknown" and may and not self.row.boundary and not self._left():
            self.row = self.row._replace(
                verdict="verified", decided_by=stage, solver=None, solver_status=None
            )

    def _left(self) -> list[int]:
        """The disjuncts that may be reached, the likeliest first."""
        some = (d for d, low in enumerate(self.least) if not low > BOUNDARY)
        return sorted(some, key=self.least.__getitem__)

    def _judged(self, stage: str, point: Tensor) -> bool:
        """Whether there is a counterexample near a point."""
        adversarial, checked = self.confirm(point)
        if checked.check != "ok":
            self.row = self.row._replace(boundary=self.row.boundary or checked.boundary)
            return False
        self.found = adversarial
        self.row = self.row._replace(
            verdict="falsified",
            decided_by=stage,
            upper_bound=checked.margin,
            counterexample_check="ok",
            boundary=checked.boundary,
            solver=None,
            solver_status=None,
        )
        return True

    def _alpha(self) -> None:
        self.relaxed = Relaxed.of(self.problem.network, self.bounds)
        known = torch.tensor([self.least], dtype=torch.float64, device=self.bounds[0].lower.device)
        margins = optimised_margins(self.relaxed, self.problem.unsafe, known, ASCENT)
        self.least = margins.lower[0].tolist()
        self.row = self.row._replace(alpha_bounds=int(margins.asked))
        if self._left():
            self._judged("alpha", margins.corners)

    def _branching(self, deadline: Deadline, *, alone: bool) -> None:
        unlimited = alone or deadline.limit is not None
        limit = Limit(
            deadline.at(), math.inf if unlimited else _BRANCHES, math.inf if alone else _STUCK
        )
        if self.search is None:
            relaxed = self.relaxed or Relaxed.of(self.problem.network, self.bounds)
            known = {d: self.least[d] for d in self._left()}
            self.search = Search(relaxed, self.problem.unsafe, known)
        self.search.forget({d for d, low in enumerate(self.least) if low > BOUNDARY})
        self.search.run(limit, lambda point: self._judged("branching", point))
        for d, lower in self.search.lower().items():
            self.least[d] = max(self.least[d], lower)
        self.row = self.row._replace(branches=self.search.branches)
        self._noted("branching")

    def _tightening(self) -> None:
        network, unsafe = self.problem.network, self.problem.unsafe
        effort, deadline = self.method.tightening, self.deadline.share(_TIGHTENING)
        self.bounds = tightened(network, self.bounds, self.method.solver, effort, deadline)
        margins = best_margins(network, self.bounds, unsafe)[0].tolist()
        self.least = list(map(max, self.least, margins))
        self.relaxed = None
        self._noted(effort.tightening)

    def _milp(self, deadline: Deadline, *, last: bool) -> None:
        method, unsafe = self.method, self.problem.unsafe
        left = tuple(self._left())
        if not left:  # proved, but for float32
            return
        race = Race(method.solver, unsafe, left, deadline, method.tightening.parameters)
        shape = self.problem.box.lower.shape

        def confirm(pixels: list[float]) -> tuple[Tensor, Checked]:
            return self.confirm(torch.tensor(pixels, dtype=torch.float64).reshape(shape))

        milp = encode(self.problem.network, self.bounds)
        end = raced(milp, race, confirm)
        if end.verdict == "unknown" and end.checked is not None:
            # a point on the border of the region, which rounding took out of it: ask further in
            further = unsafe._replace(bias=unsafe.bias + _FURTHER)
            open_ones = tuple(d for d in left if d not in end.proved)
            again = raced(milp, race._replace(unsafe=further, disjuncts=open_ones), confirm)
            if again.verdict == "falsified":
                end = again._replace(nodes=end.nodes + again.nodes, proved=end.proved)
        for disjunct in end.proved:
            self.least[disjunct] = PROVED
        if end.verdict == "verified" and self.row.boundary:
            end = end._replace(verdict="unknown", status="float32 disagrees with float64")
        decided = end.verdict in ("verified", "falsified")
        self.row = self.row._replace(
            verdict=end.verdict if decided or last else "unknown",
            decided_by="milp" if decided else None,
            lower_bound=min(self.least),
            solver=method.solver,
            solver_status=end.status,
            nodes=(self.row.nodes or 0) + end.nodes,
        )
        if end.checked is not None:
            self.row = self.row._replace(
                upper_bound=end.checked.margin,
                counterexample_check=end.checked.check,
                boundary=end.checked.boundary,
            )
        self.found = end.adversarial if end.verdict == "falsified" else None
