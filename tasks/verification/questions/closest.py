"""`closest`: how far away the nearest adversarial is, from both sides."""

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.attacks.methods.fab import fab
from robsweep.tasks.ball import distance
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_crown, by_intervals
from robsweep.tasks.verification.optimise.milp import encode
from robsweep.tasks.verification.optimise.minimum import SOLVED, Known, Sides, least_distance
from robsweep.tasks.verification.optimise.solver import LATE, Deadline, Race
from robsweep.tasks.verification.optimise.tightening import tightened
from robsweep.tasks.verification.problem import Method
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
from robsweep.tasks.verification.screen import Screened, by_groups, effort_of
from robsweep.tasks.verification.search.counterexamples import Subject
from robsweep.tasks.verification.solve import (
    Question,
    alone,
    confirmed,
    method_of,
    one_by_one,
    solve_one,
)
from robsweep.tasks.verification.verdicts import OVER_REALS, Row

CUBE = 1.0  # the linf radius within which all images lie
_FAB_STEPS = 50
_GRID, _ROUNDS = 16, 4  # how finely the way to an adversarial is searched
_COARSE = 0.05  # a gap that bounds alone may leave, as a part of the upper side
_SHORT = 0.9e-3  # likewise: how far below the upper side it is tried to be the answer
_FURTHER = (0.0, 1e-6, 1e-5, 1e-4, 1e-3)  # parts of the way by which a solver's point may be short
_TRIES = 4  # of proofs in float32, once both sides have met over the reals
_ROUNDING = 1e-12  # of a distance in float64, taken off


class Found(NamedTuple):
    """An adversarial that both precisions confirm."""

    distance: float
    point: Tensor  # float32 (*shape)


def closest_one(
    question: Question, norm: str, method: Method, limit: float | None
) -> tuple[Row, Tensor | None]:
    """The distance of one sample's nearest adversarial: `distance_lower <= it <= distance_upper`.

    In linf: attacks, the cascade for ball after ball between both sides, and a MILP that minimises
    the distance. In l1 and l2 proofs are of linf balls, whose radius no distance falls short of,
    and of the MILP. The upper side is an adversarial that the network itself has confirmed.
    `distance_lower` is about the network as it runs, `distance_lower_reals` about its weights over
    the reals, where both sides can meet whatever rounding may do.

    Args:
        question: Whose `eps` means nothing.
        norm: linf, l1 or l2.
        limit: Seconds for everything together.

    Returns:
        Its row, `exact` where both sides meet, and the adversarial (...).
    """
    started = time.monotonic()
    first = by_the_image(question.subject, _posed(question, CUBE))
    row = first.rows.get(0)
    if row is not None:
        done = row._replace(seconds=time.monotonic() - started, upper_bound=None)
        return at_once(done), first.counterexamples.get(0)
    deadline = Deadline(started, limit)
    search = _Search(question, norm, method, deadline, first.margins[0])
    search.run()
    row, found = search.row()
    return row._replace(seconds=time.monotonic() - started), found


def screen(job: Job, inputs: Inputs) -> Output:
    """Both sides by an attack and by bounds alone: every right sample is left to a solve."""
    norm, stages = job.measurement.params["norm"], effort_of(job.measurement.params)[1]

    def group(subject: Subject, images: Tensor, labels: Tensor, asked: Robustness) -> Screened:
        return screened(subject, images, labels, asked._replace(eps=CUBE), norm, stages)

    return by_groups(job, inputs, group)


def solve(job: Job, inputs: Inputs) -> Output:
    """One row per sample, by `closest_one`."""
    params = job.measurement.params
    norm, method = params["norm"], method_of(params)
    return one_by_one(job, inputs, lambda one, limit: alone(closest_one(one, norm, method, limit)))


def screened(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    asked: Robustness,
    norm: str,
    stages: frozenset[str],
) -> Screened:
    """Both sides of each sample's distance, as far as one attack and one bisection bring them."""
    started = time.perf_counter()
    posed = asked.of(images, labels, subject.network.shapes[-1][0])
    clean = by_the_image(subject, posed)
    left = [i for i in range(len(labels)) if i not in clean.rows]
    found: dict[int, Found | None] = dict.fromkeys(left)
    if left and "attack" in stages and not asked.targets:
        points = fab(subject.model, images[left], labels[left], norm=norm, steps=_FAB_STEPS)
        for k, i in enumerate(left):
            found[i] = drawn_near(subject, posed.rows([i]), points[k : k + 1], norm)
    far = [CUBE if (near := found[i]) is None else min(CUBE, near.distance) for i in left]
    lower = _bisected(subject, posed.rows(left), far, stages) if left else []
    share = (time.perf_counter() - started) / len(labels)
    rows = {i: at_once(row._replace(upper_bound=None)) for i, row in clean.rows.items()}
    counterexamples = dict(clean.counterexamples)
    for i, proved in zip(left, lower, strict=True):
        row = Row("unknown", distance_lower=proved, distance_lower_reals=proved, exact=False,
                  arithmetic="float32", expected_seconds=1.0)  # fmt: skip
        if (near := found[i]) is not None:
            row = row._replace(verdict="falsified", decided_by="attack",
                               distance_upper=near.distance, counterexample_check="ok")  # fmt: skip
            counterexamples[i] = near.point
        rows[i] = row
    return Screened([rows[i]._replace(seconds=share) for i in range(len(labels))], counterexamples)


def _bisected(
    subject: Subject, posed: Posed, far: list[float], stages: frozenset[str]
) -> list[float]:
    """The largest radii of linf balls for which bounds are a proof, up to those that are given."""
    bounds_of = next((b for s, b in _BOUNDS_OF if s in stages), None)
    x = posed.images.double()
    low, high = torch.zeros(len(x), dtype=torch.float64), torch.tensor(far, dtype=torch.float64)
    if bounds_of is None or subject.network.steps is None:
        return low.tolist()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        eps = middle.to(x.device).reshape(-1, *[1] * (x.ndim - 1))
        box = Bounds((x - eps).clamp(min=0), (x + eps).clamp(max=1))
        found = bounds_of(subject.network, box, posed.unsafe)
        proved = (found.margins.lower.amin(1) > BOUNDARY).cpu()
        low, high = torch.where(proved, middle, low), torch.where(proved, high, middle)
    return (low - _ROUNDING).clamp(min=0).tolist()


_BOUNDS_OF = (("crown", by_crown), ("interval", by_intervals))
_HALVINGS = 6


def at_once(row: Row) -> Row:
    """The row of a sample whose own image decides: it is adversarial, or nothing is to be found."""
    at = math.inf if row.verdict == "verified" else 0.0
    return row._replace(distance_lower=at, distance_lower_reals=at, distance_upper=at, exact=True)


def drawn_near(subject: Subject, posed: Posed, adversarial: Tensor, norm: str) -> Found | None:
    """The nearest adversarial that is found on the way from the image to one, (1, *shape)."""
    image, low, high = posed.images, 0.0, 1.0
    best: Found | None = None
    for _ in range(_ROUNDS):
        parts = torch.linspace(low, high, _GRID + 1, dtype=torch.float64, device=image.device)[1:]
        parts = parts.reshape(-1, *[1] * (image.ndim - 1))
        way = (image.double() + parts * (adversarial.double() - image.double())).float()
        found = _adversarials(subject, posed, way, norm)
        if found is None:
            break
        k, nearest = found
        if best is None or nearest.distance < best.distance:
            best = nearest
        low, high = (float(parts[k - 1]) if k else low), float(parts[k])
    return best


def _adversarials(
    subject: Subject, posed: Posed, points: Tensor, norm: str
) -> tuple[int, Found] | None:
    """The first of these images that is one, and its place."""
    points = points.clamp(0, 1)
    for k, result in enumerate(posed.checked(subject, points)):
        if result.check == "ok":
            size = distance(posed.images, points[k : k + 1], norm)
            return k, Found(float(size), points[k])
    return None


def _posed(question: Question, eps: float) -> Posed:
    return question._replace(asked=question.asked._replace(eps=eps)).posed()


class _Search:
    def __init__(
        self, question: Question, norm: str, method: Method, deadline: Deadline, margin: float
    ) -> None:
        self.question, self.norm, self.method = question, norm, method
        self.deadline, self.margin = deadline, margin
        self.network = question.subject.network
        self.cube = _posed(question, CUBE)
        self.sides = Bracket(0.0, 0.0, math.inf, 0.0)
        # what is known of linf balls, whatever the norm: proved up to, an adversarial from
        self.proved, self.broken = 0.0, CUBE

    def run(self) -> None:
        if "attack" in self.method.stages:
            self._attacked()
        network, bounds = self.question.subject.network, only(self.method, BOUNDS)
        for _ in range(8):
            if self._goes_on() and self.broken - self.proved > _COARSE * self.broken:
                self._probed(network, (self.proved + self.broken) / 2, bounds, self.deadline)
        self.network = searched(network, self.sides.spent, self.margin)
        searches = without(self.method, "milp")
        linf = self.norm == "linf"
        while linf and self._goes_on() and self._narrowed(searches, self.deadline.share(TRY)):
            pass
        if self._goes_on() and "milp" in self.method.stages:
            self._minimised()
        while linf and self._goes_on() and self._narrowed(self.method, self.deadline):
            pass
        if linf and self.sides.arithmetic == "reals":
            self._as_it_runs(searches)

    def row(self) -> tuple[Row, Tensor | None]:
        sides, found = self.sides, self.sides.point
        nowhere = math.isinf(sides.reals)
        row = sides.spent._replace(
            decided_by=sides.decided_by,
            distance_lower=sides.lower,
            distance_lower_reals=sides.reals,
            distance_upper=sides.upper if found is not None or nowhere else None,
            exact=sides.met() or nowhere,
            arithmetic=sides.arithmetic,
        )
        if sides.gap() < 0:
            return row._replace(verdict="error", exact=False, solver_status=CONTRADICTION), None
        if found is not None:
            return row._replace(verdict="falsified", counterexample_check="ok"), found
        if math.isinf(sides.lower):
            return row._replace(verdict="verified"), None
        return row._replace(verdict="timeout" if self.deadline.passed() else "unknown"), None

    def _goes_on(self) -> bool:
        sides = self.sides
        return not sides.met() and sides.reals < sides.upper and not self.deadline.passed()

    def _attacked(self) -> None:
        subject, image, label, asked = self.question
        if not asked.targets:
            point = fab(subject.model, image, label, norm=self.norm, steps=_FAB_STEPS)
            self._adversarial(point, "attack")
        elif self.norm != "linf":
            attack = only(self.method, frozenset({"attack"}))
            self._probed(subject.network, CUBE, attack, self.deadline)

    def _adversarial(self, point: Tensor, by: str) -> None:
        """Takes note of an adversarial (1, *shape), if it is one."""
        near = drawn_near(self.question.subject, self.cube, point, self.norm)
        if near is not None:
            self.sides.lowered(near.distance, near.point, by)
            size = float(distance(self.cube.images, near.point[None], "linf"))
            self.broken = min(self.broken, size)

    def _probed(self, network: Network, eps: float, method: Method, deadline: Deadline) -> bool:
        """Asks the cascade about a linf ball: whether that has decided it."""
        left = None if deadline.limit is None else max(0.0, deadline.at() - time.monotonic())
        subject = self.question.subject._replace(network=network)
        asked = self.question.asked._replace(eps=eps)
        row, found = solve_one(self.question._replace(subject=subject, asked=asked), method, left)
        self.sides.spend(row)
        if found is not None:
            self._adversarial(found[None], row.decided_by or "attack")
        proved = row.verdict == "verified"
        if proved or (row.arithmetic == "reals" and row.solver_status == OVER_REALS):
            self.proved = max(self.proved, eps)
            at = math.inf if eps >= CUBE else eps - _ROUNDING  # no image is further away
            by = row.decided_by or last_of(method)
            self.sides.raised(at, by, over_reals=not proved)
            return True
        return found is not None

    def _narrowed(self, method: Method, deadline: Deadline) -> bool:
        """A ball between both sides, over the reals; whether that has decided it."""
        if self.proved >= self.broken:
            return False
        near = self.broken - self.proved <= _COARSE * self.broken
        eps = (self.proved + self.broken) / 2
        if near:
            eps = (1 - _SHORT) * self.broken if self.sides.point is not None else CUBE
        return self._probed(self.network, eps, method, deadline)

    def _as_it_runs(self, method: Method) -> None:
        """Raises what is known of the network in float32, in a few balls, while there is time."""
        network, low, high = self.question.subject.network, self.sides.lower, self.sides.reals
        for _ in range(_TRIES):
            if self.deadline.passed() or not low < high <= CUBE:
                return
            middle = (low + high) / 2
            self._probed(network, middle, method, self.deadline.share(TRY))
            low, high = (self.sides.lower, high) if self.sides.lower > low else (low, middle)

    def _minimised(self) -> None:
        method = self.method
        network, known = self.network, self.sides
        solver = method.solver
        if not is_exact(network) or solver not in SOLVED[self.norm]:
            return
        deadline = self.deadline.share(SOLVER)
        # all that is nearer lies in this linf ball
        posed = _posed(self.question, min(CUBE, known.upper))
        if self.norm == "linf":
            bounded = by_crown(network, posed.box, posed.unsafe)
        else:
            bounded = by_intervals(network, posed.box, posed.unsafe)
            if known.upper < CUBE:
                bounded = by_crown(network, posed.box, posed.unsafe)
        least, bounds = bounded.margins.lower[0].tolist(), bounded.bounds
        if not all(bool(b.lower.isfinite().all()) for b in bounds):
            return
        if method.tightening.tightening != "none":
            part = deadline.share(0.5)
            bounds = tightened(network, bounds, solver, method.tightening, part)
        left = sorted((d for d, low in enumerate(least) if low <= 0), key=least.__getitem__)
        race = Race(solver, posed.unsafe, tuple(left), deadline, method.tightening.parameters)
        far = float(torch.maximum(posed.images, 1 - posed.images).double().norm(
            {"linf": torch.inf, "l1": 1, "l2": 2}[self.norm]
        ))  # fmt: skip
        as_it_runs = network.steps is not None
        sides = Sides(known.lower if as_it_runs else known.reals, min(known.upper, far))
        center = posed.images.double().flatten()
        told = Known(sides, self._near, self.deadline.at(LATE))
        end = least_distance(encode(network, bounds), race, center, self.norm, told)
        known.raised(min(end.lower, known.upper), "milp", over_reals=not as_it_runs)
        known.spend(Row("unknown", nodes=end.nodes, solver=solver, solver_status=end.status))
        if self.norm == "linf":
            self.proved = max(self.proved, known.reals)

    def _near(self, pixels: Tensor) -> None:
        """Tries a solver's point: as it is, a little further on its way, and polished."""
        image = self.cube.images
        point = pixels.reshape(image.shape).to(image.device)
        on = torch.tensor(_FURTHER, dtype=torch.float64, device=image.device) + 1
        on = on.reshape(-1, *[1] * (image.ndim - 1))
        way = (image.double() + on * (point - image.double())).float()
        found = _adversarials(self.question.subject, self.cube, way, self.norm)
        if found is not None:
            self._adversarial(found[1].point[None], "milp")
        if self.norm == "linf":
            size = float(distance(image, way[:1], "linf"))
            for further in _FURTHER[1:]:
                posed = _posed(self.question, min(CUBE, size * (1 + further)))
                near, result = confirmed(self.question.subject, posed, point)
                if result.check == "ok":
                    self._adversarial(near[None], "milp")
                    return
