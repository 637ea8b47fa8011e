"""Complete verification of one sample: bounds, branching, then a MILP for each disjunct left."""

import math
import time

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.alpha import Ascent, Relaxed, optimised_margins
from robsweep.tasks.verification.bounds.chains import chain_of
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import (
    Margins,
    best_margins,
    by_crown,
    by_intervals,
    unstable_relus,
)
from robsweep.tasks.verification.optimise.milp import encode
from robsweep.tasks.verification.optimise.race import End, raced
from robsweep.tasks.verification.optimise.solver import Deadline, Race, can_ask
from robsweep.tasks.verification.optimise.tightening import tightened
from robsweep.tasks.verification.problem import Confirm, Method, Problem
from robsweep.tasks.verification.reading.layers import is_exact
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED
from robsweep.tasks.verification.reading.within import Ball
from robsweep.tasks.verification.search.branching import Limit, Search
from robsweep.tasks.verification.search.counterexamples import Checked
from robsweep.tasks.verification.search.halving import Halving
from robsweep.tasks.verification.search.pieces import Pieces
from robsweep.tasks.verification.search.refining import can_refine, refined
from robsweep.tasks.verification.search.splitting import Splitting
from robsweep.tasks.verification.verdicts import DISAGREE, Row, rounding_error

ASCENT = Ascent(20, 0.3)
_TIGHTENING = 0.5  # of the time that is left then
# Of the time that is left then, for branching and for the MILP: what one of them cannot decide at
# all is often easy for the other.
_ROUNDS = ((0.1, 0.1), (0.9, 1.0))
_FIRST = 0.02  # likewise, for a first try of branching
_REFINING = 0.4  # likewise, for refining
_SWEEPS = (6, 24, 96)  # how often each tree is split in it, one sweep after the other
_RISE = 0.05  # of the lowest bound, without which there is no further sweep
_SPLITTING = 0.05  # likewise, for a first try; it goes on while it is expected to end in time
_LEFT, _LEFT_FEW = 0.4, 0.1  # of all the time, for the stages after it; with few inputs
_FEW, _MANY = 12, 64  # inputs that are not fixed
_FEW_RELUS = 24  # undecided ones, which branching is done with sooner
_BOXES = 200_000  # if branching can follow, and there is no time limit
_BRANCHES = 20_000  # if a MILP can follow, and there is no time limit
_STUCK = 64  # if a MILP can follow: what is left of such a subproblem is a linear program
_SHORTEST = 2.0  # seconds: a solver's process needs one to begin
_FURTHER = (1e-3, 1e-2)  # on the margin's scale


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
        self.reals: list[float] = []  # the same over the reals, where rounding takes nothing off
        # whether what is proved holds as the network runs; if not, it is over the reals
        self.deployed = problem.network.steps is not None
        self.disagree = False  # whether the precisions do, at a point of the search
        self.given_up: float | None = None  # the lower bound in float32 until then
        self.branches = 0  # of a search that was given up
        self.relaxed: Relaxed | None = None
        self.search: Search | Pieces | None = None
        self.boxes = 0  # of a splitting that was given up
        self.splitting: Splitting | Halving | None = None

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
        return self.finished(), self.found

    def finished(self) -> Row:
        """The row, in which only what holds as the network runs is verified."""
        row = self.row
        if not self.deployed:
            row = row._replace(lower_bound=self.given_up)
        if row.verdict == "verified" and self.disagree:
            # a point contradicts it, in one precision at least
            return row._replace(
                verdict="unknown", decided_by=None, boundary=True, solver_status=DISAGREE
            )
        if row.verdict == "verified":
            if self.deployed:
                return row._replace(arithmetic="float32")
            return row._replace(verdict="unknown", decided_by=None).proved_over_reals()
        if row.verdict in ("unknown", "error") and self.disagree:
            row = row._replace(verdict="unknown", boundary=True, solver_status=DISAGREE)
        elif row.verdict in ("unknown", "timeout") and self._proved_over_reals():
            row = row.proved_over_reals()
        return row

    def _proved_over_reals(self) -> bool:
        both = zip(self.least, self.reals, strict=True)
        return bool(self.least) and all(max(pair) > BOUNDARY for pair in both)

    def bound(self) -> None:
        """Intervals, CROWN, alpha-CROWN, and with few inputs a first try of splitting."""
        stages = self.method.stages
        for name, bounds_of in (("interval", by_intervals), ("crown", by_crown)):
            # without either, the later stages still start from intervals
            if name in stages or (name == "interval" and "crown" not in stages):
                bounded = bounds_of(*self.problem)
                if not all(bool(b.lower.isfinite().all()) for b in bounded.bounds):
                    self._give_up_float32()
                    bounded = bounds_of(*self.problem)
                self.bounds = bounded.bounds
                self.least, self.reals = (part[0].tolist() for part in bounded.margins)
                self._noted(name)
                if self.row.verdict != "unknown":
                    return
        # splitting is the cheaper one
        if self._few() and self._goes_on("splitting"):
            self._splitting(self.deadline.share(_SPLITTING))
        if self._goes_on("alpha"):
            self._alpha()
            self._noted("alpha")

    def _few(self) -> bool:
        return int((self.problem.box.lower < self.problem.box.upper).sum()) <= _FEW

    def complete(self) -> None:
        """What may take the rest of the time: a short try of each search, then a long one."""
        network, tightening = self.problem.network, self.method.tightening.tightening
        exact = is_exact(network) and can_ask(self.method.solver, network.within)
        if exact and tightening != "none" and self.row.verdict == "unknown":
            self._tightening()
        if self._few():
            self._split_on()
        if exact and self._goes_on("branching"):
            self._branching(self.deadline.share(_FIRST), alone=False)
        if can_refine(self.problem.network) and self._goes_on("branching"):
            self._refining(self.deadline.share(_REFINING))
        if not self._few() and self._goes_on("splitting"):
            self._splitting(self.deadline.share(_SPLITTING))
            self._split_on()
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
        lower = min(self.least)
        self.row = self.row._replace(lower_bound=lower, unstable_relus=unstable)
        if stage not in ("splitting", "branching"):  # which know no bounds over the reals
            error = rounding_error(lower, min(self.reals)) if self.deployed else math.inf
            before = self.row.rounding_error
            known = before is not None and not self.deployed
            self.row = self.row._replace(rounding_error=before if known else error)
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
        adversarial, checked = self._confirmed(point)
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

    def _confirmed(self, point: Tensor) -> tuple[Tensor, Checked]:
        adversarial, checked = self.confirm(point)
        self.disagree = self.disagree or checked.disagree
        return adversarial, checked

    def _alpha(self) -> None:
        self.relaxed = Relaxed.of(self.problem.network, self.bounds)
        device = self.bounds[0].lower.device
        rows = torch.tensor([self.least, self.reals], dtype=torch.float64, device=device)
        known = Margins(*rows[:, None])
        found = optimised_margins(self.relaxed, self.problem.unsafe, known, ASCENT)
        self.least, self.reals = (part[0].tolist() for part in found.margins)
        self.row = self.row._replace(alpha_bounds=int(found.asked))
        if self._left():
            self._judged("alpha", found.corners)

    def _splitting(self, deadline: Deadline) -> None:
        if self.splitting is None:
            network, box, unsafe = self.problem
            free = int((box.lower < box.upper).sum())
            if "branching" in self.method.stages and (self.row.unstable_relus or 0) <= _FEW_RELUS:
                return
            chain, within = chain_of(network), network.within
            many = chain is not None or within is not None
            if not 0 < free <= (_MANY if many else _FEW) or isinstance(within, Ball):
                return
            known = {d: self.least[d] for d in self._left()}
            if chain is None:
                self.splitting = Halving(network, box, unsafe, known)
            else:
                self.splitting = Splitting(chain, box, unsafe, known)
        search = self.splitting
        search.forget({d for d, low in enumerate(self.least) if low > BOUNDARY})
        most = math.inf if deadline.limit is not None else _BOXES
        search.run(deadline.at(), most, lambda point: self._judged("splitting", point))
        for d, lower in search.lower().items():
            self.least[d] = max(self.least[d], lower)
        self.row = self.row._replace(boxes=self.boxes + search.boxes)
        self._noted("splitting")

    def _split_on(self) -> None:
        """Splits for as long as that is expected to end in time; with few inputs to the end."""
        search = self.splitting
        limit = self.deadline.limit
        if search is None or limit is None:
            return
        few = len(search.free) <= _FEW
        share = _LEFT_FEW if few and isinstance(search, Splitting) else _LEFT
        others = bool({"branching", "milp"} & self.method.stages)
        while self._goes_on("splitting") and self.splitting is search and search.heap:
            left = self.deadline.at() - time.monotonic()
            left -= share * limit if others else 0.0
            expected = search.seconds * (1 - search.closed) / max(search.closed, 1e-9)
            if left <= 0 or search.stuck or not (few or expected < left):
                break
            self._splitting(Deadline(time.monotonic(), min(left, max(1.0, search.seconds))))

    def _branching(self, deadline: Deadline, *, alone: bool) -> None:
        # curves could be split for ever
        ends = alone and is_exact(self.problem.network)
        unlimited = ends or deadline.limit is not None
        limit = Limit(
            deadline.at(), math.inf if unlimited else _BRANCHES, math.inf if alone else _STUCK
        )
        if self.search is None:
            relaxed = self.relaxed or Relaxed.of(self.problem.network, self.bounds)
            known = {d: self.least[d] for d in self._left()}
            kind = Search if is_exact(self.problem.network) else Pieces
            self.search = kind(relaxed, self.problem.unsafe, known)
        self.search.forget({d for d, low in enumerate(self.least) if low > BOUNDARY})
        self.search.run(limit, lambda point: self._judged("branching", point))
        for d, lower in self.search.lower().items():
            self.least[d] = max(self.least[d], lower)
        self.row = self.row._replace(branches=self.branches + self.search.branches)
        self._noted("branching")

    def _tightening(self) -> None:
        network = self.problem.network
        effort, deadline = self.method.tightening, self.deadline.share(_TIGHTENING)
        bounds = tightened(network, self.bounds, self.method.solver, effort, deadline)
        self._rebounded(bounds)
        self._noted(effort.tightening)

    def _refining(self, deadline: Deadline) -> None:
        """Bounds what enters ReLUs by branching, for as long as the lowest margin rises by that."""
        for rounds in _SWEEPS:
            if not self._goes_on("branching") or deadline.passed():
                break
            before = min(self.least)
            found = refined(self.problem.network, self.bounds, rounds, deadline.at())
            self.branches += found.branches
            self.row = self.row._replace(branches=self.branches)
            self._rebounded(found.bounds)
            self._noted("branching")
            if self._goes_on("alpha"):
                self._alpha()
                self._noted("branching")
            if min(self.least) < before + _RISE * abs(before):
                break

    def _rebounded(self, bounds: list[Bounds]) -> None:
        """Goes on with tighter bounds on all values."""
        found = best_margins(self.problem.network, bounds, self.problem.unsafe)
        self.bounds = bounds
        self.least = list(map(max, self.least, found.lower[0].tolist()))
        self.reals = list(map(max, self.reals, found.reals[0].tolist()))
        if self.search is not None:
            self.branches += self.search.branches
        self.relaxed = self.search = None

    def _give_up_float32(self) -> None:
        """From here on, what is proved is over the reals only."""
        self.problem, self.deployed = self.problem.over_reals(), False
        self.given_up = min(self.least, default=None)
        self.least = list(map(max, self.least, self.reals))
        if self.search is not None:
            self.branches += self.search.branches
        if self.splitting is not None:
            self.boxes += self.splitting.boxes
        self.relaxed = self.search = self.splitting = None

    def _milp(self, deadline: Deadline, *, last: bool) -> None:
        method, unsafe = self.method, self.problem.unsafe
        left = tuple(self._left())
        if not left:  # proved, but for float32
            return
        race = Race(method.solver, unsafe, left, deadline, method.tightening.parameters)
        shape = self.problem.box.lower.shape

        def confirm(pixels: list[float]) -> tuple[Tensor, Checked]:
            return self._confirmed(torch.tensor(pixels, dtype=torch.float64).reshape(shape))

        milp = encode(self.problem.network, self.bounds)
        end = raced(milp, race, confirm)
        if self.deployed and end.verdict == "unknown" and end.checked is not None:
            # the point may be one that only rounding reaches, so nothing is proved in float32
            self._give_up_float32()
            milp = encode(self.problem.network, self.bounds)
            again = raced(milp, race._replace(disjuncts=_open(left, end)), confirm)
            end = _after(end, again)
        for further in _FURTHER:
            if end.verdict != "unknown" or end.checked is None:
                break
            # a point on the border of the region, which rounding took out of it: ask further in
            inner = unsafe._replace(bias=unsafe.bias + further)
            asked = race._replace(unsafe=inner, disjuncts=_open(left, end))
            again = raced(milp, asked, confirm)
            if again.verdict == "falsified":
                end = _after(end, again)
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


def _open(asked: tuple[int, ...], end: End) -> tuple[int, ...]:
    return tuple(d for d in asked if d not in end.proved)


def _after(first: End, second: End) -> End:
    nodes, proved = first.nodes + second.nodes, [*first.proved, *second.proved]
    return second._replace(nodes=nodes, proved=proved)
