"""The screen: everything that decides many samples cheaply, before any solver runs."""

import time
from typing import NamedTuple

import torch
from torch import Tensor

from tasks.attacks.ball import box
from tasks.groups import groups, seed_everything
from tasks.job import Inputs, Job, Output
from tasks.load import device_of, labelled_data_for, model_of
from tasks.models.logits import margin, raw_logits
from tasks.models.weights import to_bytes
from tasks.verification.bounds import (
    Bounds,
    crown,
    interval,
    last_affine,
    margins,
    unstable_relus,
)
from tasks.verification.counterexamples import Subject, checked, search, subject_of
from tasks.verification.layers import Network
from tasks.verification.verdicts import Row, as_table, eps_of


class Attack(NamedTuple):
    steps: int
    restarts: int


class Screened(NamedTuple):
    rows: list[Row]
    counterexamples: dict[int, Tensor]  # position in the group -> float32 image


def screen(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample: decided by attack or bounds, or left `unknown`.

    Params: verifier, property, norm, eps, group_size, seed, parameters (attack_steps,
    attack_restarts).
    """
    m = job.measurement
    eps, size = eps_of(m.params), m.params["group_size"]
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
        found = screen_group(subject, images, labels, eps, attack)
        rows += found.rows
        counterexamples |= {str(group.start + i): x for i, x in found.counterexamples.items()}
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)}, artifacts)


def screen_group(
    subject: Subject, images: Tensor, labels: Tensor, eps: float, attack: Attack
) -> Screened:
    """Clean prediction, then attack, then intervals, then CROWN, each on what is left.

    Args:
        images: Float32 (N, ...) in [0, 1].
        labels: Int64 (N,); a tie with the label counts as misclassified.
    """
    started = time.perf_counter()
    rows: dict[int, Row] = {}
    counterexamples: dict[int, Tensor] = {}
    clean = margin(raw_logits(subject.exact, images.double()), labels)
    deployed = margin(raw_logits(subject.model, images), labels)
    wrong = (clean <= 0) | (deployed <= 0)
    upper = clean.clone()
    for i in wrong.nonzero()[:, 0].tolist():
        rows[i] = Row("misclassified", "clean", upper_bound=upper[i].item())
    left = (~wrong).nonzero()[:, 0]

    found = search(subject.model, images[left], labels[left], eps, *attack)
    results = checked(subject, images[left], found.adversarials, labels[left], eps)
    for i, adversarial, result in zip(left.tolist(), found.adversarials, results, strict=True):
        upper[i] = min(upper[i].item(), result.margin)
        if result.check == "ok":
            row = Row("falsified", "attack", upper_bound=result.margin, boundary=result.boundary)
            rows[i] = row._replace(counterexample_check="ok")
            counterexamples[i] = adversarial
        elif result.boundary:
            # neither proof nor counterexample: the two precisions disagree, or nearly so
            rows[i] = Row("unknown", upper_bound=upper[i].item(), boundary=True)
            rows[i] = rows[i]._replace(counterexample_check=result.check)

    for stage in ("interval", "crown"):
        left = torch.tensor([i for i in range(len(labels)) if i not in rows], dtype=torch.int64)
        if len(left):
            proved = _bounded(subject.network, images[left], labels[left], eps, stage)
            for i, row in zip(left.tolist(), proved, strict=True):
                if row.verdict == "verified" or stage == "crown":
                    rows[i] = row._replace(upper_bound=upper[i].item())
    share = (time.perf_counter() - started) / len(labels)
    return Screened([rows[i]._replace(seconds=share) for i in range(len(labels))], counterexamples)


def _bounded(network: Network, images: Tensor, labels: Tensor, eps: float, stage: str) -> list[Row]:
    ball = Bounds(*box(images, eps))
    bounds = crown(network, ball) if stage == "crown" else interval(network, ball)
    back_to = 0 if stage == "crown" else last_affine(network)
    lower = margins(network, bounds, labels, back_to=back_to).amin(1).tolist()
    unstable = unstable_relus(network, bounds).tolist()
    return [
        Row("verified", stage, low, unstable_relus=count)
        if low > 0
        else Row(
            "unknown",
            None,
            low,
            unstable_relus=count,
            expected_seconds=expected_seconds(count, -low),
        )
        for low, count in zip(lower, unstable, strict=True)
    ]


def expected_seconds(unstable: int, gap: float) -> float:
    """A rough guess at a solve's time, for the order of solves: it grows with both arguments.

    Args:
        gap: How far the lower bound on the margin is below 0.
    """
    return 1 + unstable * (1 + gap) / 100
