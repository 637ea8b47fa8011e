"""`curve`: verdicts at many radii of one sample, from the few solves of a bisection."""

from collections.abc import Sequence

from torch import Tensor

from robsweep.tasks.ball import distance
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.screen import Screened, by_groups, effort_of, screen_group
from robsweep.tasks.verification.search.counterexamples import Subject
from robsweep.tasks.verification.solve import Question, Solved, method_of, one_by_one, solve_one
from robsweep.tasks.verification.verdicts import Row


class Ladder:
    """The rungs of one sample, which are rising radii, and what is known of each.

    Balls are nested: what is proved at one radius is proved at all smaller ones, and an adversarial
    at some distance breaks all radii from there on.
    """

    def __init__(self, eps: Sequence[float]) -> None:
        self.eps = tuple(eps)
        self.rows: dict[int, Row] = {}  # asked at this very rung
        self.nearest: Tensor | None = None  # counterexample, float32
        self.distance = float("inf")
        self._verified, self._broken = -1, len(eps)  # the highest proved, the lowest broken rung

    def next(self) -> int | None:
        """The rung in the middle of the longest piece that is open; None: there is none left."""
        pieces: list[list[int]] = [[]]
        for i in range(self._verified + 1, self._broken):
            pieces[-1].append(i)
            if i in self.rows:
                pieces[-1].pop()
                pieces.append([])
        longest = max(pieces, key=len)
        return longest[len(longest) // 2] if longest else None

    def tell(self, rung: int, row: Row, found: tuple[Tensor, float] | None) -> None:
        """What was found out at a rung, and the counterexample with its distance."""
        self.rows[rung] = row
        if row.verdict == "misclassified":
            self._broken = 0
        elif row.verdict == "verified":
            self._verified = max(self._verified, rung)
        elif row.verdict == "falsified":
            self._broken = min(self._broken, rung)
        if found is not None and found[1] < self.distance:
            self.nearest, self.distance = found
            beyond = [i for i, eps in enumerate(self.eps) if eps >= self.distance]
            self._broken = min([self._broken, *beyond])

    def all_rows(self) -> list[Row]:
        """One per rung; the carried ones name the radius that they are carried from."""
        return [self._row(i) for i in range(len(self.eps))]

    def _row(self, rung: int) -> Row:
        own = self.rows.get(rung)
        if own is not None and own.verdict in ("verified", "falsified", "misclassified"):
            return self._with_distance(own)
        if rung <= self._verified:
            return self._carried(self._verified)
        if rung >= self._broken:
            at = min(i for i, row in self.rows.items() if _breaks(row) and self._reaches(i, rung))
            return self._with_distance(self._carried(at))
        return own or Row("unknown")

    def _reaches(self, at: int, rung: int) -> bool:
        """Whether what broke a rung breaks another: a lower one only by the distance."""
        wrong = self.rows[at].verdict == "misclassified"
        return wrong or at <= rung or self.eps[rung] >= self.distance

    def _carried(self, at: int) -> Row:
        row = self.rows[at]
        return Row(
            row.verdict,
            row.decided_by,
            counterexample_check=row.counterexample_check,
            arithmetic=row.arithmetic,
            seconds=0.0,
            carried_from_eps=self.eps[at],
        )

    def _with_distance(self, row: Row) -> Row:
        if row.verdict != "falsified" or self.nearest is None:
            return row
        return row._replace(distance_upper=self.distance)


def _breaks(row: Row) -> bool:
    return row.verdict in ("falsified", "misclassified")


def screen(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample and eps, by the stages of `screen.screen`."""
    params = job.measurement.params
    eps, effort = params["eps"], effort_of(params)

    def group(subject: Subject, images: Tensor, labels: Tensor, asked: Robustness) -> Screened:
        ladders = [Ladder(eps) for _ in labels]
        while open_ := _by_rung(ladders):
            rung, which = open_
            here = asked._replace(eps=eps[rung])
            found = screen_group(subject, images[which], labels[which], here, *effort)
            for k, i in enumerate(which):
                point = found.counterexamples.get(k)
                ladders[i].tell(rung, found.rows[k], _measured(images[i], point))
        rows = [row for ladder in ladders for row in ladder.all_rows()]
        points = {i: x.nearest for i, x in enumerate(ladders) if x.nearest is not None}
        return Screened(rows, points)

    return by_groups(job, inputs, group)


def solve(job: Job, inputs: Inputs) -> Output:
    """The same by `solve.solve_one`, whose time limit is that of one sample at one eps."""
    params = job.measurement.params
    eps, method = params["eps"], method_of(params)
    return one_by_one(job, inputs, lambda one, limit: curve_one(eps, one, method, limit))


def curve_one(
    eps: Sequence[float], question: Question, method: Method, limit: float | None
) -> Solved:
    """A row per radius of one sample, and its nearest counterexample (...)."""
    ladder = Ladder(eps)
    while (rung := ladder.next()) is not None:
        asked = question.asked._replace(eps=ladder.eps[rung])
        row, point = solve_one(question._replace(asked=asked), method, limit)
        ladder.tell(rung, row, _measured(question.image[0], point))
    return ladder.all_rows(), ladder.nearest


def _by_rung(ladders: Sequence[Ladder]) -> tuple[int, list[int]] | None:
    """The rung that most samples ask for next, and these samples."""
    asking: dict[int, list[int]] = {}
    for i, ladder in enumerate(ladders):
        if (rung := ladder.next()) is not None:
            asking.setdefault(rung, []).append(i)
    return max(asking.items(), key=lambda one: (len(one[1]), -one[0])) if asking else None


def _measured(image: Tensor, point: Tensor | None) -> tuple[Tensor, float] | None:
    if point is None:
        return None
    return point, float(distance(image[None], point[None].to(image.device), "linf"))
