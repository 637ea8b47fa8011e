"""`worst`: the smallest margin in a region, from both sides."""

import math
import time
from functools import partial

import torch
from torch import Tensor

from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.cascade import Cascade
from robsweep.tasks.verification.optimise.milp import encode
from robsweep.tasks.verification.optimise.minimum import Known, Sides, least_margin
from robsweep.tasks.verification.optimise.solver import LATE, Deadline, Race
from robsweep.tasks.verification.optimise.tightening import tightened
from robsweep.tasks.verification.problem import Method, Problem
from robsweep.tasks.verification.question import Posed, Robustness, by_the_image
from robsweep.tasks.verification.questions.bracket import (
    BOUNDS,
    CONTRADICTION,
    SOLVER,
    TRY,
    Bracket,
    last_of,
    only,
    searched,
    without,
)
from robsweep.tasks.verification.reading.layers import Network, is_exact
from robsweep.tasks.verification.reading.properties import BOUNDARY
from robsweep.tasks.verification.screen import (
    Screened,
    by_groups,
    effort_of,
    expected_seconds,
    screen_group,
)
from robsweep.tasks.verification.search.counterexamples import OUTSIDE, Subject, descend
from robsweep.tasks.verification.solve import Question, alone, confirmed, method_of, one_by_one
from robsweep.tasks.verification.verdicts import DISAGREE, Row

_STEPS, _STARTS = 50, 8  # of the attack
_NEAR = 0.05  # of the scale: a gap in which the upper side is likely to be the answer
_SHORT = 0.9e-3  # of the scale: how far below it that is tried


def worst_one(question: Question, method: Method, limit: float | None) -> tuple[Row, Tensor | None]:
    """The smallest margin of one sample: `lower_bound <= it <= upper_bound`.

    The cascade is asked whether the margin can be at most some level: a proof raises the lower side
    to it, a point lowers the upper side. A MILP minimises. The two sides close in over the reals;
    `lower_bound` is lower by `rounding_error`, and of the network as it runs.

    Args:
        limit: Seconds for everything together.

    Returns:
        Its row, `exact` where both sides meet, and the counterexample (...) of a falsified one.
    """
    started = time.monotonic()
    posed = question.posed()
    first = by_the_image(question.subject, posed)
    row = first.rows.get(0)
    if row is not None and row.verdict != "falsified":  # wrong already, or nothing to reach
        return row._replace(exact=True, seconds=time.monotonic() - started), None
    search = _Search(question.subject, posed, method, Deadline(started, limit), first.margins[0])
    search.run()
    row, found = search.row()
    return row._replace(seconds=time.monotonic() - started), found


def screen(job: Job, inputs: Inputs) -> Output:
    """As `screen.screen`, whose bounds are the two sides: every right sample is left to a solve."""
    effort = effort_of(job.measurement.params)

    def group(subject: Subject, images: Tensor, labels: Tensor, asked: Robustness) -> Screened:
        found = screen_group(subject, images, labels, asked, *effort)
        rows = [
            row._replace(
                exact=row.verdict == "misclassified" or row.decided_by == "no target",
                expected_seconds=row.expected_seconds or expected_seconds(row),
            )
            for row in found.rows
        ]
        return found._replace(rows=rows)

    return by_groups(job, inputs, group)


def solve(job: Job, inputs: Inputs) -> Output:
    """One row per sample, by `worst_one`."""
    method = method_of(job.measurement.params)
    return one_by_one(job, inputs, lambda one, limit: alone(worst_one(one, method, limit)))


class _Search:
    def __init__(
        self, subject: Subject, posed: Posed, method: Method, deadline: Deadline, margin: float
    ) -> None:
        self.subject, self.posed, self.method, self.deadline = subject, posed, method, deadline
        self.sides = Bracket(-math.inf, -math.inf, math.inf, abs(margin))
        self.boundary = False
        self.network = subject.network
        self._tried(posed.region.start, "clean")

    def run(self) -> None:
        network, sides = self.subject.network, self.sides
        if "attack" in self.method.stages:
            self._attack()
        level = sides.upper - _SHORT * sides.scale
        bounded = self._asked(network, level, only(self.method, BOUNDS), self.deadline)
        above = [level + least for least in bounded.least]  # of each disjunct
        self.network = searched(network, sides.spent, sides.scale)
        searches = without(self.method, "milp", "attack")
        while self._goes_on() and self._halved(searches, self.deadline.share(TRY)):
            pass
        if self._goes_on() and is_exact(network) and "milp" in self.method.stages:
            self._minimised(bounded.bounds, above)
        while self._goes_on() and self._halved(searches, self.deadline):
            pass
        undecided = sides.lower <= BOUNDARY and sides.upper > 0
        if undecided and sides.reals > BOUNDARY and not self.deadline.passed():
            self._asked(network, 0.0, without(self.method, "attack"), self.deadline)

    def row(self) -> tuple[Row, Tensor | None]:
        sides = self.sides
        known = math.isfinite(sides.lower)
        row = sides.spent._replace(
            decided_by=sides.decided_by,
            lower_bound=sides.lower if known else None,
            rounding_error=sides.reals - sides.lower if known else math.inf,
            upper_bound=sides.upper,
            exact=sides.met(),
            boundary=self.boundary,
        )
        if sides.gap() < 0:
            return row._replace(verdict="error", exact=False, solver_status=CONTRADICTION), None
        if sides.lower > BOUNDARY and self.boundary:
            return row._replace(boundary=True, solver_status=DISAGREE), None
        if sides.lower > BOUNDARY:
            return row._replace(verdict="verified", arithmetic="float32"), None
        if sides.upper <= 0 and sides.point is not None:
            (result,) = self.posed.checked(self.subject, sides.point[None])
            if result.check == "ok":
                row = row._replace(
                    verdict="falsified", counterexample_check="ok", boundary=result.boundary
                )
                return row, sides.point
        if self.deadline.passed():
            row = row._replace(verdict="timeout")
        if sides.reals > BOUNDARY:
            return row.proved_over_reals(), None
        return row._replace(boundary=row.boundary or sides.met()), None

    def _goes_on(self) -> bool:
        return not self.sides.met() and self.sides.gap() > 0 and not self.deadline.passed()

    def _tried(self, points: Tensor, by: str) -> None:
        """Takes note of float32 points of the region (N, ...)."""
        for point, found in zip(points, self.posed.checked(self.subject, points), strict=True):
            if found.check != OUTSIDE:
                self.boundary |= found.disagree
                self.sides.lowered(found.margin, point, by)

    def _attack(self) -> None:
        region = self.posed.region.rows(torch.zeros(_STARTS, dtype=torch.int64))
        noise = torch.rand_like(region.start) * 2 - 1
        noise[0] = 0
        starts = region._replace(start=region.start + region.reach * noise)
        unsafe = self.posed.unsafe.rows([0] * _STARTS)
        found = descend(self.subject.model, starts, unsafe, _STEPS)
        self._tried(found.adversarials, "attack")
        self.sides.spend(Row("unknown", attack_steps=_STEPS * _STARTS))

    def _asked(self, network: Network, level: float, method: Method, deadline: Deadline) -> Cascade:
        """Whether the margin can be at most `level`: both sides move with what is found out."""
        unsafe = self.posed.unsafe
        shifted = self.posed._replace(unsafe=unsafe._replace(bias=unsafe.bias - level))
        problem = Problem(network, self.posed.box, shifted.unsafe)
        cascade = Cascade(problem, method, deadline, partial(confirmed, self.subject, shifted))
        row, found = cascade.run(self.posed.region.start)
        self.sides.spend(row)
        by = row.decided_by or last_of(method)
        self.boundary |= cascade.disagree and level == 0
        if cascade.least:
            least = min(map(max, cascade.least, cascade.reals))
            self.sides.raised(least + level, by, over_reals=True)
            if row.lower_bound is not None:
                self.sides.raised(row.lower_bound + level, by, over_reals=False)
        if found is not None:
            self._tried(found[None], row.decided_by or "attack")
        return cascade

    def _halved(self, method: Method, deadline: Deadline) -> bool:
        """One level between the sides; whether both are nearer to each other by a fair part."""
        sides, before = self.sides, self.sides.gap()
        scale = max(sides.scale, abs(sides.upper))
        near = before <= _NEAR * scale or not math.isfinite(before)
        level = sides.upper - _SHORT * scale if near else sides.upper - before / 2
        self._asked(self.network, level, method, deadline)
        return sides.gap() < 0.9 * before

    def _minimised(self, bounds: list[Bounds], above: list[float]) -> None:
        """By a MILP, over the disjuncts that may be below the point that is known.

        Args:
            above: Lower bounds on the margin of each disjunct.
        """
        method, sides, as_it_runs = self.method, self.sides, self.network.steps is not None
        deadline = self.deadline.share(SOLVER)
        if method.tightening.tightening != "none":
            part = deadline.share(0.5)
            bounds = tightened(self.network, bounds, method.solver, method.tightening, part)
        left = [d for d, least in enumerate(above) if least <= sides.upper]
        left.sort(key=above.__getitem__)
        race = Race(
            method.solver, self.posed.unsafe, tuple(left), deadline, method.tightening.parameters
        )

        def found(pixels: Tensor) -> None:
            point = pixels.reshape(self.posed.box.lower.shape)
            self._tried(confirmed(self.subject, self.posed, point)[0][None], "milp")

        told = Known(
            Sides(sides.lower if as_it_runs else sides.reals, sides.upper),
            found,
            self.deadline.at(LATE),
        )
        end = least_margin(encode(self.network, bounds), race, told)
        sides.raised(min(end.lower, sides.upper), "milp", over_reals=not as_it_runs)
        sides.spend(Row("unknown", nodes=end.nodes, solver=method.solver, solver_status=end.status))
