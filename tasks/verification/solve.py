"""The solve: one sample at a time, to the end or to its time limit."""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.job import Inputs, Job, Output
from tasks.load import device_of, labelled_data_for, model_of
from tasks.models.weights import to_bytes
from tasks.verification.bounds import best_margins, crown, unstable_relus
from tasks.verification.counterexamples import Checked, Subject, descend, subject_of
from tasks.verification.layers import is_exact
from tasks.verification.milp import Milp, encode
from tasks.verification.question import Posed, Robustness, by_the_image, robustness_of
from tasks.verification.solver import (
    Deadline,
    Race,
    SolverDiedError,
    SolverLateError,
    answers,
    meaning,
    solver_named,
)
from tasks.verification.verdicts import BOUNDARY, Row, Verdict, as_table

_POLISH_STEPS = 10


def solve(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample, by CROWN bounds and then one MILP per surviving class.

    Params: verifier, property, norm, eps, parameters (solver); and margin, targets, radius, box
    where they are not the default.
    `job.setting.time_limit_seconds` is each sample's, from its first to its last step.
    """
    m = job.measurement
    asked, solver = robustness_of(m, job.setting), solver_named(m.params["parameters"]["solver"])
    loaded, device = model_of(job, inputs), device_of(job.setting)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting)
    subject = subject_of(loaded.model, m.model.shape)
    rows: list[Row] = []
    counterexamples: dict[str, Tensor] = {}
    for sample in range(job.start, job.stop):
        image, label = (part[sample : sample + 1].to(device) for part in data)
        question = Question(subject, image, label, asked.part(sample, sample + 1))
        row, found = solve_one(question, solver, job.setting.time_limit_seconds)
        rows.append(row)
        if found is not None:
            counterexamples[str(sample)] = found
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)}, artifacts)


class Question(NamedTuple):
    """One sample, and what must hold of it."""

    subject: Subject
    image: Tensor  # float32 (1, ...)
    label: Tensor  # int64 (1,)
    asked: Robustness

    def posed(self) -> Posed:
        return self.asked.of(self.image, self.label, self.subject.network.shapes[-1][0])


def solve_one(question: Question, solver: str, limit: float | None) -> tuple[Row, Tensor | None]:
    """Decides one sample, unless its time runs out.

    Args:
        solver: As `solver_named` gives it.
        limit: Seconds for everything together.

    Returns:
        Its row, and its counterexample (...) where it is falsified.
    """
    started = time.monotonic()
    first = by_the_image(question.subject, question.posed())
    row, found = first.rows.get(0), first.counterexamples.get(0)
    if row is not None:
        return row._replace(seconds=time.monotonic() - started), found
    row, found = _bounded(question, solver, Deadline(started, limit))
    clean = first.margins[0]
    upper = clean if row.upper_bound is None else min(clean, row.upper_bound)
    return row._replace(upper_bound=upper, seconds=time.monotonic() - started), found


def _bounded(question: Question, solver: str, deadline: Deadline) -> tuple[Row, Tensor | None]:
    """CROWN, then the solver for the classes that it leaves."""
    network, posed = question.subject.network, question.posed()
    unsafe = posed.unsafe
    bounds = crown(network, posed.box)
    least = best_margins(network, bounds, unsafe)[0].tolist()
    unstable = int(unstable_relus(network, bounds))
    row = Row("unknown", lower_bound=min(least), unstable_relus=unstable)
    others = sorted((c for c, low in enumerate(least) if low <= BOUNDARY), key=least.__getitem__)
    if not others:
        return row._replace(verdict="verified", decided_by="crown"), None
    if not is_exact(network):
        return row._replace(decided_by="bounds", solver_status="bounds only"), None
    if deadline.passed():
        return row._replace(verdict="timeout"), None
    race = Race(solver, unsafe, tuple(others), deadline)
    end = raced(encode(network, bounds), race, partial(_confirmed, question))
    for other in end.proved:
        least[other] = BOUNDARY
    row = row._replace(
        verdict=end.verdict,
        decided_by="milp" if end.verdict in ("verified", "falsified") else None,
        lower_bound=min(least),
        solver=solver,
        solver_status=end.status,
        nodes=end.nodes,
    )
    if end.checked is None:
        return row, None
    row = row._replace(
        upper_bound=end.checked.margin,
        counterexample_check=end.checked.check,
        boundary=end.checked.boundary,
    )
    return row, end.adversarial if end.verdict == "falsified" else None


class End(NamedTuple):
    """How the solver's run over a sample's disjuncts ended."""

    verdict: Verdict
    status: str  # of the disjunct that decided
    nodes: int
    proved: list[int]  # disjuncts that cannot be reached
    adversarial: Tensor | None = None  # the last candidate, confirmed or not
    checked: Checked | None = None


def raced(milp: Milp, race: Race, confirm: Callable[[list[float]], tuple[Tensor, Checked]]) -> End:
    """Asks the solver disjunct by disjunct, until one is reached or none is left.

    Args:
        confirm: Runs a solver's point through the network again.
    """
    end = End("verified", "infeasible", 0, [])
    try:
        with closing(answers(milp, race)) as replies:
            for answer in replies:
                end = end._replace(nodes=end.nodes + answer.nodes)
                match meaning(answer):
                    case "proof":
                        end.proved.append(answer.disjunct)
                    case "candidate":
                        adversarial, result = confirm(answer.pixels or [])
                        end = end._replace(adversarial=adversarial, checked=result)
                        if result.check == "ok":
                            return end._replace(verdict="falsified", status=answer.status)
                        # within the solver's tolerance, not in the network: it proves nothing
                        end = end._replace(
                            status=f"{answer.status}, not confirmed",
                            verdict="unknown",
                            checked=result._replace(boundary=True),
                        )
                    case "timeout":
                        return end._replace(verdict="timeout", status="time limit")
                    case "open":
                        end = end._replace(verdict="unknown", status=answer.status)
    except SolverLateError as late:
        return end._replace(verdict="timeout", status=str(late))
    except SolverDiedError as died:
        return end._replace(verdict="error", status=str(died))
    return end


def _confirmed(question: Question, pixels: list[float]) -> tuple[Tensor, Checked]:
    """A solver's point as a float32 image in the ball, run through the network again.

    Rounding moves it by more than the solver's tolerance allows for, so a few gradient steps are
    tried from it; the better of the two counts.
    """
    subject, image, posed = question.subject, question.image, question.posed()
    point = torch.tensor(pixels, dtype=torch.float32, device=image.device).reshape(image.shape)
    point = posed.pull_inside(point)
    near = posed.region._replace(start=point, reach=posed.region.reach / 10)
    moved = descend(subject.model, near, posed.unsafe, _POLISH_STEPS).adversarials
    both = torch.cat([point, moved])
    results = posed.checked(subject, both)
    best = min((0, 1), key=lambda i: (results[i].check != "ok", results[i].margin))
    return both[best], results[best]
