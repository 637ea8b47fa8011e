"""The solve: one sample at a time, to the end or to its time limit."""

import time
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.catalogue.values import stages_of_ids
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import device_of, labelled_data_for, model_of
from robsweep.tasks.models.weights import to_bytes
from robsweep.tasks.verification.cascade import Cascade, Method, Problem
from robsweep.tasks.verification.optimise.solver import Deadline, solver_named
from robsweep.tasks.verification.optimise.tightening import effort_of
from robsweep.tasks.verification.question import Posed, Robustness, by_the_image, robustness_of
from robsweep.tasks.verification.regions.posing import Asked, asked_of, by_likelihood, united
from robsweep.tasks.verification.search.counterexamples import Checked, Subject, descend, subject_of
from robsweep.tasks.verification.verdicts import Row, as_table

_POLISH_STEPS = 10


def solve(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample, by bounds, branching, and one MILP per class that is left.

    Params: verifier, property, norm, eps, parameters (stages, solver, tightening,
    solver_parameters); and margin, targets, radius, box, region where they are not the default.
    `job.setting.time_limit_seconds` is each sample's, from its first to its last step.
    """
    m = job.measurement
    given = m.params["parameters"]
    asked = robustness_of(m, job.setting)
    solver = solver_named(given["solver"])
    method = Method(stages_of_ids(given["stages"]), solver, effort_of(given))
    loaded, device = model_of(job, inputs), device_of(job.setting)
    samples = range(job.start, job.stop)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting, samples)
    subject = subject_of(loaded.model, m.model.shape)
    rows: list[Row] = []
    counterexamples: dict[str, Tensor] = {}
    for sample in range(job.start, job.stop):
        image, label = (part[sample : sample + 1].to(device) for part in data)
        question = Question(subject, image, label, asked.part(sample, sample + 1))
        row, found = solve_one(question, method, job.setting.time_limit_seconds)
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


def solve_one(question: Question, method: Method, limit: float | None) -> tuple[Row, Tensor | None]:
    """Decides one sample, unless its time runs out.

    Args:
        limit: Seconds for everything together.

    Returns:
        Its row, and its counterexample (...) where it is falsified.
    """
    started = time.monotonic()
    deadline = Deadline(started, limit)
    if question.asked.regions is None:
        row, found = _solved(question.subject, question.posed(), method, deadline)
    else:
        here = asked_of(*question)
        row, found = _solved_in_parts(here, method, deadline)
        found = None if found is None else here.posed.image_of(found)
    return row._replace(seconds=time.monotonic() - started), found


def _solved_in_parts(asked: Asked, method: Method, deadline: Deadline) -> tuple[Row, Tensor | None]:
    """Part by part of the sample's region, the likeliest to be broken first, until one is."""
    subject, posed = asked
    order, rows = by_likelihood(asked, method.stages)
    for i in order:
        if deadline.passed():
            rows.append(Row("timeout"))
            break
        row, found = _solved(subject, posed.rows([i]), method, deadline)
        rows.append(row)
        if row.verdict in ("misclassified", "falsified"):
            return united(rows), found
    return united(rows), None


def _solved(
    subject: Subject, posed: Posed, method: Method, deadline: Deadline
) -> tuple[Row, Tensor | None]:
    first = by_the_image(subject, posed)
    row, found = first.rows.get(0), first.counterexamples.get(0)
    if row is None:
        problem = Problem(subject.network, posed.box, posed.unsafe)
        confirm = partial(_confirmed, subject, posed)
        cascade = Cascade(problem, method, deadline, confirm)
        row, found = cascade.run(posed.region.start)
        clean = first.margins[0]
        upper = clean if row.upper_bound is None else min(clean, row.upper_bound)
        row = row._replace(upper_bound=upper)
    return row, found


def _confirmed(subject: Subject, posed: Posed, point: Tensor) -> tuple[Tensor, Checked]:
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
