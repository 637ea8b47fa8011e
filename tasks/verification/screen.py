"""The screen: everything that decides many samples cheaply, before any solver runs."""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from robsweep.tasks.catalogue.values import STAGES, stages_of_ids
from robsweep.tasks.groups import groups, seed_everything
from robsweep.tasks.job import Inputs, Job, Output
from robsweep.tasks.load import device_of, labelled_data_for, model_of
from robsweep.tasks.models.weights import to_bytes
from robsweep.tasks.verification.bounds.alpha import Relaxed, optimised_margins
from robsweep.tasks.verification.bounds.margins import (
    Margins,
    by_crown,
    by_intervals,
    unstable_relus,
)
from robsweep.tasks.verification.cascade import ASCENT
from robsweep.tasks.verification.proofs.stored import Certifier
from robsweep.tasks.verification.question import Posed, Robustness, by_the_image, robustness_of
from robsweep.tasks.verification.reading.properties import BOUNDARY
from robsweep.tasks.verification.regions.posing import Asked, asked_of, by_likelihood, united
from robsweep.tasks.verification.search.counterexamples import Subject, search, subject_of
from robsweep.tasks.verification.verdicts import DISAGREE, Row, as_table, rounding_error

_PARTS = 32  # of a region, screened together


class Attack(NamedTuple):
    """How the margin is searched: at first, and once more for what the bounds leave."""

    steps: int = 20
    restarts: int = 2
    again_steps: int = 50
    again_restarts: int = 10


class Screened(NamedTuple):
    rows: list[Row]
    counterexamples: dict[int, Tensor]  # position in the group -> float32 image


def screen(job: Job, inputs: Inputs) -> Output:
    """One `verification` row per sample: decided by attack or bounds, or left `unknown`.

    Params: verifier, property, norm, eps, group_size, seed, parameters (stages, attack_steps,
    attack_restarts, again_steps, again_restarts); and margin, targets, radius, box, region,
    certificates where they are not the default.
    """

    def group(subject: Subject, images: Tensor, labels: Tensor, asked: Robustness) -> Screened:
        return screen_group(subject, images, labels, asked, *effort_of(job.measurement.params))

    return by_groups(job, inputs, group)


def effort_of(params: Mapping[str, Any]) -> tuple[Attack, frozenset[str]]:
    """The attack and the stages that a screen's measurement asks for."""
    given = params["parameters"]
    attack = Attack(
        given["attack_steps"],
        given["attack_restarts"],
        given["again_steps"],
        given["again_restarts"],
    )
    return attack, stages_of_ids(given["stages"])


# What is found of a group of images and their labels.
Group = Callable[[Subject, Tensor, Tensor, Robustness], Screened]


def by_groups(job: Job, inputs: Inputs, screened: Group) -> Output:
    """What a screen gives for each sample of a job, group by group."""
    m = job.measurement
    asked, size = robustness_of(m, job.setting), m.params["group_size"]
    loaded, device = model_of(job, inputs), device_of(job.setting)
    samples = range(job.start, job.stop)
    data = labelled_data_for(m.model, m.dataset, m.split, job.setting, samples)
    subject = subject_of(loaded.model, m.model.shape)
    rows: list[Row] = []
    counterexamples: dict[str, Tensor] = {}
    certifier = Certifier(job, loaded.model)
    for group in groups(job.start, job.stop, size, len(data.labels)):
        seed_everything(m.params["seed"], m.kind, group.start // size)
        images, labels = (part[group.start : group.stop].to(device) for part in data)
        here = asked.part(group.start, group.stop)
        found = screened(subject, images, labels, here)
        rows += found.rows
        if certifier.wanted:
            posed = here.of(images, labels, subject.network.shapes[-1][0])
            rows[-len(labels) :] = [
                certifier.certified(group.start + i, posed, i, row)
                for i, row in enumerate(found.rows)
            ]
        counterexamples |= {str(group.start + i): x for i, x in found.counterexamples.items()}
    name = f"counterexamples/{m.measurement_id}-{job.start}-{job.stop}.safetensors"
    artifacts = {name: to_bytes(counterexamples)} if counterexamples else {}
    artifacts |= certifier.artifacts()
    return Output({"verification": as_table(job, loaded.weights_sha256, rows)}, artifacts)


def screen_group(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    asked: Robustness,
    attack: Attack,
    stages: frozenset[str] = frozenset(STAGES),
) -> Screened:
    """Clean prediction, then attack, intervals, CROWN, alpha-CROWN, and a longer attack.

    Each stage is for those samples that the stages before it leave.

    Args:
        images: Float32 (N, ...) in [0, 1].
        labels: Int64 (N,); a tie with the label counts as misclassified.
    """
    if asked.regions is not None:
        return _screen_regions(subject, images, labels, asked, attack, stages)
    posed = asked.of(images, labels, subject.network.shapes[-1][0])
    return _screen_posed(subject, posed, attack, stages)


def _screen_regions(
    subject: Subject,
    images: Tensor,
    labels: Tensor,
    asked: Robustness,
    attack: Attack,
    stages: frozenset[str],
) -> Screened:
    """One by one, as each sample has a map from parameters to images of its own."""
    rows, counterexamples = [], {}
    for i in range(len(labels)):
        started = time.perf_counter()
        here = asked_of(subject, images[i : i + 1], labels[i : i + 1], asked, i)
        row, found = _screen_parts(here, attack, stages)
        rows.append(row._replace(seconds=time.perf_counter() - started))
        if found is not None:
            counterexamples[i] = here.posed.image_of(found)
    return Screened(rows, counterexamples)


def _screen_parts(
    asked: Asked, attack: Attack, stages: frozenset[str]
) -> tuple[Row, Tensor | None]:
    """The parts of one sample's region, the likeliest to be broken first, until one is.

    But for those, bounds come before the attack: they prove most of them, and take less time.
    """
    subject, posed = asked
    order, rows = by_likelihood(asked, stages)
    for k in range(0, len(order), _PARTS):
        here = posed.rows(order[k : k + _PARTS])
        early = stages - {"attack"} if k else stages
        screened = _screen_posed(subject, here, attack, early)
        left = [i for i, row in enumerate(screened.rows) if row.verdict == "unknown"]
        if left and early != stages:
            again = _screen_posed(subject, here.rows(left), attack, stages & {"attack"})
            for i, row in zip(left, again.rows, strict=True):
                screened.rows[i] = row.with_bounds_of(screened.rows[i])
            screened.counterexamples.update(again.counterexamples)
        rows += screened.rows
        if screened.counterexamples:
            return united(rows), next(iter(screened.counterexamples.values()))
        if rows[-1].verdict == "misclassified":
            break
    return united(rows), None


def _screen_posed(
    subject: Subject, posed: Posed, attack: Attack, stages: frozenset[str]
) -> Screened:
    started = time.perf_counter()
    network, labels = subject.network, posed.labels
    group = _Group(subject, posed)
    if "attack" in stages:
        group.attack(posed.region.start, attack.steps, attack.restarts)
    corners, bounded = posed.region.start.clone(), None
    for name, stage in (("interval", by_intervals), ("crown", by_crown)):
        # alpha-CROWN needs some bounds to start from
        needed = name == "interval" and "alpha" in stages and "crown" not in stages
        if (name in stages or needed) and (left := group.left()):
            here = posed.rows(left)
            bounded = stage(network, here.box, here.unsafe)
            unstable = unstable_relus(network, bounded.bounds)
            group.bounded(name if name in stages else None, left, bounded.margins, unstable)
            bounded = bounded.rows([k for k, i in enumerate(left) if i in group.left()])
    if "alpha" in stages and bounded is not None and (left := group.left()):
        relaxed = Relaxed.of(network, bounded.bounds)
        found = optimised_margins(relaxed, posed.unsafe.rows(left), bounded.margins, ASCENT)
        corners[left] = found.corners.float()
        group.bounded("alpha", left, found.margins, unstable_relus(network, bounded.bounds))
        for i, count in zip(left, found.asked.tolist(), strict=True):
            group.rows[i] = group.rows[i]._replace(alpha_bounds=count)
    if "attack" in stages:
        group.attack(corners, attack.again_steps, attack.again_restarts)
    for i in group.left():
        guess = expected_seconds(group.rows[i])
        row = group.rows[i]._replace(expected_seconds=guess)
        if i in group.disagree:
            row = row._replace(solver_status=DISAGREE)
        elif i in group.over_reals:
            row = row.proved_over_reals()
        group.rows[i] = row
    share = (time.perf_counter() - started) / len(labels)
    return Screened([row._replace(seconds=share) for row in group.rows], group.counterexamples)


class _Group:
    """Samples that are screened together, and what is known of each."""

    def __init__(self, subject: Subject, posed: Posed) -> None:
        self.subject, self.posed = subject, posed
        clean = by_the_image(subject, posed)
        self.counterexamples = clean.counterexamples
        self.disagree: set[int] = set()  # where the two precisions do, at a point of the search
        self.over_reals: set[int] = set()  # proved there
        self.rows = [
            clean.rows.get(i, Row("unknown", upper_bound=upper))
            for i, upper in enumerate(clean.margins)
        ]

    def left(self) -> list[int]:
        return [i for i, row in enumerate(self.rows) if row.verdict == "unknown"]

    def attack(self, starts: Tensor, steps: int, restarts: int) -> None:
        """Searches for counterexamples, at first from the given starts (N, ...) of all samples."""
        left = self.left()
        if not left:
            return
        here = self.posed.rows(left)
        found = search(self.subject.model, here.region, here.unsafe, starts[left], steps, restarts)
        results = here.checked(self.subject, found.adversarials)
        for k, (i, result) in enumerate(zip(left, results, strict=True)):
            row = self.rows[i]
            row = row._replace(
                upper_bound=min(result.margin, math.inf if (u := row.upper_bound) is None else u),
                attack_steps=(row.attack_steps or 0) + found.steps[k],
            )
            if result.check == "ok":
                self.counterexamples[i] = found.adversarials[k]
                row = row._replace(
                    verdict="falsified",
                    decided_by="attack",
                    boundary=result.boundary,
                    counterexample_check="ok",
                )
            elif result.boundary:
                # so near 0, the two precisions may disagree: neither proof nor counterexample
                row = row._replace(boundary=True, counterexample_check=result.check)
                if result.disagree:
                    self.disagree.add(i)
            self.rows[i] = row

    def bounded(
        self, name: str | None, which: list[int], margins: Margins, unstable: Tensor
    ) -> None:
        """Notes bounds on some samples, and what they decide.

        Args:
            name: Of the stage; without one, nothing is decided.
        """
        deployed = self.subject.network.steps is not None
        numbers = [part.amin(1).tolist() for part in margins]
        for i, lower, reals, count in zip(which, *numbers, unstable.tolist(), strict=True):
            row = self.rows[i]._replace(
                lower_bound=lower if deployed else None,
                rounding_error=rounding_error(lower, reals) if deployed else math.inf,
                unstable_relus=count,
            )
            if name is not None and reals > BOUNDARY:
                self.over_reals.add(i)
            if name is not None and lower > BOUNDARY and deployed and not row.boundary:
                row = row.proved(name)
            self.rows[i] = row


def expected_seconds(row: Row) -> float:
    """A rough guess at the time of a sample's solve, for the order of solves."""
    gap = 0.0 if row.lower_bound is None else max(0.0, -row.lower_bound)
    return 1 + (row.unstable_relus or 0) * (1 + gap) / 100
