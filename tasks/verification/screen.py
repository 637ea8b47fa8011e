"""The screen: everything that decides many samples cheaply, before any solver runs."""

import time
from typing import NamedTuple

from torch import Tensor

from tasks.groups import groups, seed_everything
from tasks.job import Inputs, Job, Output
from tasks.load import device_of, labelled_data_for, model_of
from tasks.models.weights import to_bytes
from tasks.verification.bounds import (
    best_margins,
    crown,
    last_affine,
    margins,
    unstable_relus,
)
from tasks.verification.counterexamples import Subject, search, subject_of
from tasks.verification.intervals import Bounds, interval
from tasks.verification.layers import Network
from tasks.verification.properties import Property
from tasks.verification.question import Robustness, by_the_image, robustness_of
from tasks.verification.verdicts import BOUNDARY, Row, as_table


class Attack(NamedTuple):
    steps: int
    restarts: int


class Screened(NamedTuple):
    rows: list[Row]
    counterexamples: dict[int, Tensor]  # position in the group -> float32 image


def screen(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample: decided by attack or bounds, or left `unknown`.

    Params: verifier, property, norm, eps, group_size, seed, parameters (attack_steps,
    attack_restarts); and margin, targets, radius, box where they are not the default.
    """
    m = job.measurement
    asked, size = robustness_of(m, job.setting), m.params["group_size"]
    given = m.params["parameters"]
    attack = Attack(given["attack_steps"], given["attack_restarts"])
    loaded, device = model_of(job, inputs), device_of(job.setting)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting)
    subject = subject_of(loaded.model, m.model.shape)
    rows: list[Row] = []
    counterexamples: dict[str, Tensor] = {}
    for group in groups(job.start, job.stop, size, len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // size)
        images, labels = (part[group.start : group.stop].to(device) for part in data)
        here = asked.part(group.start, group.stop)
        found = screen_group(subject, images, labels, here, attack)
        rows += found.rows
        counterexamples |= {str(group.start + i): x for i, x in found.counterexamples.items()}
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)}, artifacts)


def screen_group(
    subject: Subject, images: Tensor, labels: Tensor, asked: Robustness, attack: Attack
) -> Screened:
    """Clean prediction, then attack, then intervals, then CROWN, each on what is left.

    Args:
        images: Float32 (N, ...) in [0, 1].
        labels: Int64 (N,); a tie with the label counts as misclassified.
    """
    started = time.perf_counter()
    posed = asked.of(images, labels, subject.network.shapes[-1][0])
    clean, rows, counterexamples = by_the_image(subject, posed)
    left = [i for i in range(len(labels)) if i not in rows]

    here = posed.rows(left)
    found = search(subject.model, here.region, here.unsafe, *attack)
    results = here.checked(subject, found.adversarials)
    attacked: dict[int, Row] = {}
    for i, adversarial, result in zip(left, found.adversarials, results, strict=True):
        upper = min(clean[i], result.margin)
        row = Row("unknown", upper_bound=upper, boundary=result.boundary)
        if result.check == "ok":
            rows[i] = row._replace(
                verdict="falsified", decided_by="attack", counterexample_check="ok"
            )
            counterexamples[i] = adversarial
        else:
            # so near 0, the two precisions may disagree: neither proof nor counterexample
            attacked[i] = row._replace(counterexample_check=result.check if row.boundary else None)

    for name, stage in (("interval", _interval), ("crown", _crown)):
        undecided = [i for i in range(len(labels)) if i not in rows]
        if not undecided:
            break
        here = posed.rows(undecided)
        bounded = stage(subject.network, here.box, here.unsafe)
        for i, lower, count in zip(undecided, *bounded, strict=True):
            row = attacked[i]._replace(lower_bound=lower, unstable_relus=count)
            if lower > BOUNDARY and not row.boundary:
                rows[i] = row._replace(verdict="verified", decided_by=name)
            elif name == "crown":
                rows[i] = row._replace(expected_seconds=expected_seconds(count, max(0, -lower)))
    share = (time.perf_counter() - started) / len(labels)
    return Screened([rows[i]._replace(seconds=share) for i in range(len(labels))], counterexamples)


class _Bounded(NamedTuple):
    lower: list[float]  # on each sample's smallest margin
    unstable_relus: list[int]


def _interval(network: Network, ball: Bounds, unsafe: Property) -> _Bounded:
    bounds = interval(network, ball)
    least = margins(network, bounds, unsafe, back_to=last_affine(network))
    return _Bounded(least.amin(1).tolist(), unstable_relus(network, bounds).tolist())


def _crown(network: Network, ball: Bounds, unsafe: Property) -> _Bounded:
    bounds = crown(network, ball)
    least = best_margins(network, bounds, unsafe)
    return _Bounded(least.amin(1).tolist(), unstable_relus(network, bounds).tolist())


def expected_seconds(unstable: int, gap: float) -> float:
    """A rough guess at a solve's time, for the order of solves: it grows with both arguments.

    Args:
        gap: How far the lower bound on the margin is below 0.
    """
    return 1 + unstable * (1 + gap) / 100
