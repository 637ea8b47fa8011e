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
from robsweep.tasks.verification.proofs.stored import Certifier
from robsweep.tasks.verification.question import Posed, Robustness, by_the_image, robustness_of
from robsweep.tasks.verification.search.counterexamples import Checked, Subject, descend, subject_of
from robsweep.tasks.verification.verdicts import Row, as_table

_POLISH_STEPS = 10


def solve(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample, by bounds, branching, and one MILP per class that is left.

    Params: verifier, property, norm, eps, parameters (stages, solver, tightening,
    solver_parameters); and margin, targets, radius, box, certificates where they are not the
    default.
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
    certifier = Certifier(job, loaded.model)
    for sample in range(job.start, job.stop):
        image, label = (part[sample : sample + 1].to(device) for part in data)
        question = Question(subject, image, label, asked.part(sample, sample + 1))
        row, found = solve_one(question, method, job.setting.time_limit_seconds)
        rows.append(certifier.certified(sample, question.posed(), 0, row))
        if found is not None:
            counterexamples[str(sample)] = found
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    artifacts |= certifier.artifacts()
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
    subject, posed = question.subject, question.posed()
    first = by_the_image(subject, posed)
    row, found = first.rows.get(0), first.counterexamples.get(0)
    if row is None:
        problem = Problem(subject.network, posed.box, posed.unsafe)
        confirm = partial(_confirmed, subject, posed)
        cascade = Cascade(problem, method, Deadline(started, limit), confirm)
        row, found = cascade.run(posed.region.start)
        clean = first.margins[0]
        upper = clean if row.upper_bound is None else min(clean, row.upper_bound)
        row = row._replace(upper_bound=upper)
    return row._replace(seconds=time.monotonic() - started), found


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
