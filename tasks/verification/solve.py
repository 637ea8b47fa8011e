"""The solve: one sample at a time, to the end or to its time limit."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.catalogue.values import stages_of_ids
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import device_of, labelled_data_for, model_of
from robsweep.tasks.models.weights import to_bytes
from robsweep.tasks.verification.cascade import Cascade
from robsweep.tasks.verification.optimise.solver import Deadline, solver_named
from robsweep.tasks.verification.optimise.tightening import effort_of
from robsweep.tasks.verification.problem import Method, Problem
from robsweep.tasks.verification.proofs.stored import Certifier
from robsweep.tasks.verification.question import Posed, Robustness, by_the_image, robustness_of
from robsweep.tasks.verification.regions.posing import Asked, asked_of, by_likelihood, united
from robsweep.tasks.verification.search.counterexamples import Checked, Subject, descend, subject_of
from robsweep.tasks.verification.verdicts import Row, as_table

_POLISH_STEPS = 10


class Question(NamedTuple):
    """One sample, and what must hold of it."""

    subject: Subject
    image: Tensor  # float32 (1, ...)
    label: Tensor  # int64 (1,)
    asked: Robustness

    def posed(self) -> Posed:
        return self.asked.of(self.image, self.label, self.subject.network.shapes[-1][0])


Solved = tuple[list[Row], Tensor | None]  # a sample's rows, and its counterexample (...)
Solve = Callable[[Question, float | None], Solved]  # within a limit of seconds
# The row and counterexample of a question about one box, which its image does not decide.
Decide = Callable[[Subject, Posed, Deadline], tuple[Row, Tensor | None]]


def solve(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample, by bounds, branching, and one MILP per class that is left.

    Params: verifier, property, norm, eps, parameters (stages, solver, tightening,
    solver_parameters); and margin, targets, radius, box, region, certificates where they are not
    the default.
    `job.setting.time_limit_seconds` is each sample's, from its first to its last step.
    """
    method = method_of(job.measurement.params)
    return one_by_one(job, inputs, lambda one, limit: alone(solve_one(one, method, limit)))


def method_of(params: Mapping[str, Any]) -> Method:
    """How a solve's measurement says that samples are to be decided."""
    given = params["parameters"]
    solver = solver_named(given["solver"])
    return Method(stages_of_ids(given["stages"]), solver, effort_of(given))


def alone(found: tuple[Row, Tensor | None]) -> Solved:
    """Of a sample that has one row."""
    return [found[0]], found[1]


def one_by_one(job: Job, inputs: Inputs, solved: Solve) -> Output:
    """The rows of a job's samples, each by a function of its own question and time."""
    m = job.measurement
    asked = robustness_of(m, job.setting)
    loaded, device = model_of(job, inputs), device_of(job.setting)
    samples = range(job.start, job.stop)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting, samples)
    subject = subject_of(loaded.model, m.model.shape)
    rows: list[Row] = []
    counterexamples: dict[str, Tensor] = {}
    certifier = Certifier(job, loaded.model)
    for sample in range(job.start, job.stop):
        image, label = (part[sample : sample + 1].to(device) for part in data)
        question = Question(subject, image, label, asked.part(sample, sample + 1))
        own, found = solved(question, job.setting.time_limit_seconds)
        rows += own
        if certifier.wanted:
            rows[-1] = certifier.certified(sample, question.posed(), 0, rows[-1])
        if found is not None:
            counterexamples[str(sample)] = found
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    artifacts |= certifier.artifacts()
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)}, artifacts)


def solve_one(question: Question, method: Method, limit: float | None) -> tuple[Row, Tensor | None]:
    """Decides one sample, unless its time runs out.

    Args:
        limit: Seconds for everything together.

    Returns:
        Its row, and its counterexample (...) where it is falsified.
    """
    return decided(question, limit, partial(_decide, method), method.stages)


def decided(
    question: Question, limit: float | None, decide: Decide, stages: frozenset[str] = frozenset()
) -> tuple[Row, Tensor | None]:
    """Decides one sample by a function of its ball, its box, or of each part of its region.

    Args:
        stages: Those that may prove a part beforehand.
    """
    started = time.monotonic()
    deadline = Deadline(started, limit)
    if question.asked.regions is None:
        row, found = _judged(decide, question.subject, question.posed(), deadline)
    else:
        here = asked_of(*question)
        row, found = _in_parts(here, decide, deadline, stages)
        found = None if found is None else here.posed.image_of(found)
    return row._replace(seconds=time.monotonic() - started), found


def _in_parts(
    asked: Asked, decide: Decide, deadline: Deadline, stages: frozenset[str]
) -> tuple[Row, Tensor | None]:
    """Part by part of the sample's region, the likeliest to be broken first, until one is."""
    subject, posed = asked
    order, rows = by_likelihood(asked, stages)
    for i in order:
        if deadline.passed():
            rows.append(Row("timeout"))
            break
        row, found = _judged(decide, subject, posed.rows([i]), deadline)
        rows.append(row)
        if row.verdict in ("misclassified", "falsified"):
            return united(rows), found
    return united(rows), None


def _judged(
    decide: Decide, subject: Subject, posed: Posed, deadline: Deadline
) -> tuple[Row, Tensor | None]:
    """By the image itself, if that decides; its margin is an upper bound in any case."""
    first = by_the_image(subject, posed)
    row, found = first.rows.get(0), first.counterexamples.get(0)
    if row is None:
        row, found = decide(subject, posed, deadline)
        clean = first.margins[0]
        upper = clean if row.upper_bound is None else min(clean, row.upper_bound)
        row = row._replace(upper_bound=upper)
    return row, found


def _decide(
    method: Method, subject: Subject, posed: Posed, deadline: Deadline
) -> tuple[Row, Tensor | None]:
    problem = Problem(subject.network, posed.box, posed.unsafe)
    cascade = Cascade(problem, method, deadline, partial(confirmed, subject, posed))
    return cascade.run(posed.region.start)


def confirmed(subject: Subject, posed: Posed, point: Tensor) -> tuple[Tensor, Checked]:
    """A point (1, ...) as a float32 image in the region, run through the network again.

    Rounding moves it by more than the solver's tolerance allows for, so gradient steps are tried
    from it, short ones and long ones; the best of the three counts.
    """
    start = posed.pull_inside(point.to(posed.images.device))
    points = [start]
    for part in (10, 1):
        near = posed.region._replace(start=start, reach=posed.region.reach / part)
        points.append(descend(subject.model, near, posed.unsafe, _POLISH_STEPS).adversarials)
    results = posed.checked(subject, torch.cat(points))
    best = min(range(3), key=lambda i: (results[i].check != "ok", results[i].margin))
    return points[best][0], results[best]
