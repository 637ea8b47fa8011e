"""The solve: one sample at a time, to the end or to its time limit."""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.attacks.ball import box, pull_inside
from tasks.job import Inputs, Job, Output
from tasks.load import device_of, labelled_data_for, model_of
from tasks.models.logits import raw_logits
from tasks.models.weights import to_bytes
from tasks.verification.bounds import best_margins, crown, unstable_relus
from tasks.verification.child import SolverDiedError, SolverLateError
from tasks.verification.counterexamples import (
    Checked,
    Subject,
    around,
    at_boundary,
    checked,
    descend,
    subject_of,
)
from tasks.verification.intervals import Bounds
from tasks.verification.layers import is_exact
from tasks.verification.milp import Milp, encode
from tasks.verification.properties import Property, margin, untargeted
from tasks.verification.solver import Deadline, Race, answers, meaning, solver_named
from tasks.verification.tightening import PLAIN, Effort, effort_of, tightened
from tasks.verification.verdicts import BOUNDARY, Row, Verdict, as_table, eps_of

_POLISH_STEPS = 10
_TIGHTENING = 0.5  # of the time that CROWN leaves


def solve(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample, by CROWN bounds and then one MILP per surviving class.

    Params: verifier, property, norm, eps, parameters (solver, tightening, solver_parameters).
    `job.setting.time_limit_seconds` is each sample's, from its first to its last step.
    """
    m = job.measurement
    eps, solver = eps_of(m.params), solver_named(m.params["parameters"]["solver"])
    effort = effort_of(m.params["parameters"])
    loaded, device = model_of(job, inputs), device_of(job.setting)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting)
    subject = subject_of(loaded.model, m.model.shape)
    rows: list[Row] = []
    counterexamples: dict[str, Tensor] = {}
    for sample in range(job.start, job.stop):
        image, label = (part[sample : sample + 1].to(device) for part in data)
        question = Question(subject, image, label, eps)
        row, found = solve_one(question, solver, job.setting.time_limit_seconds, effort)
        rows.append(row)
        if found is not None:
            counterexamples[str(sample)] = found
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)}, artifacts)


class Question(NamedTuple):
    """One sample: whether any image within eps of it is misclassified."""

    subject: Subject
    image: Tensor  # float32 (1, ...)
    label: Tensor  # int64 (1,)
    eps: float

    def unsafe(self) -> Property:
        return untargeted(self.label, self.subject.network.shapes[-1][0])


def solve_one(
    question: Question, solver: str, limit: float | None, effort: Effort = PLAIN
) -> tuple[Row, Tensor | None]:
    """Decides one sample, unless its time runs out.

    Args:
        solver: As `solver_named` gives it.
        limit: Seconds for everything together.

    Returns:
        Its row, and its counterexample (...) where it is falsified.
    """
    started = time.monotonic()
    subject, image, unsafe = question.subject, question.image, question.unsafe()
    clean = margin(unsafe, raw_logits(subject.exact, image.double())).item()
    deployed = margin(unsafe, raw_logits(subject.model, image)).item()
    if clean <= 0 or deployed <= 0:
        row, found = Row("misclassified", "clean", boundary=at_boundary(clean, deployed)), None
    else:
        row, found = _bounded(question, solver, Deadline(started, limit), effort)
    upper = clean if row.upper_bound is None else min(clean, row.upper_bound)
    return row._replace(upper_bound=upper, seconds=time.monotonic() - started), found


def _bounded(
    question: Question, solver: str, deadline: Deadline, effort: Effort
) -> tuple[Row, Tensor | None]:
    """CROWN, then the solver for the classes that it leaves."""
    network, unsafe = question.subject.network, question.unsafe()
    bounds = crown(network, Bounds(*box(question.image, question.eps)))
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
    if effort.tightening != "none":
        bounds = tightened(network, bounds, solver, effort, deadline.share(_TIGHTENING))
        least = torch.tensor(least).maximum(best_margins(network, bounds, unsafe)[0].cpu()).tolist()
        unstable = int(unstable_relus(network, bounds))
        row = row._replace(lower_bound=min(least), unstable_relus=unstable)
        others = [c for c in others if least[c] <= BOUNDARY]
        if not others:
            return row._replace(verdict="verified", decided_by=effort.tightening), None
    race = Race(solver, unsafe, tuple(others), deadline, effort.parameters)
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
    subject, image, _, eps = question
    unsafe, region = question.unsafe(), around(image, eps)
    point = torch.tensor(pixels, dtype=torch.float32, device=image.device).reshape(image.shape)
    point = pull_inside(image, point, "linf", eps)
    near = region._replace(start=point, reach=region.reach / 10)
    moved = descend(subject.model, near, unsafe, _POLISH_STEPS).adversarials
    both = torch.cat([point, moved])
    results = checked(subject, image.expand_as(both), both, unsafe.rows([0, 0]), eps)
    best = min((0, 1), key=lambda i: (results[i].check != "ok", results[i].margin))
    return both[best], results[best]
