"""What a sweep asks of several models alike, and each one's answer, sample by sample."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
import polars as pl

from robsweep.orchestrator.results.comparisons.samples import Part, Sampled
from robsweep.orchestrator.results.intervals import (
    NO_DATA,
    Interval,
    order_statistic_median,
    wilson,
)
from robsweep.orchestrator.results.metrics import attacks, verification
from robsweep.orchestrator.results.metrics.detection.selective import selective
from robsweep.orchestrator.results.metrics.ood import auroc
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.shift import mean_error, on_common, wrong_of
from robsweep.orchestrator.results.tables.attacks import attack_rows, that_work
from robsweep.orchestrator.results.tables.calibration import calibrated, prediction_rows
from robsweep.orchestrator.results.tables.columns import Read
from robsweep.orchestrator.results.tables.ood import two_sets
from robsweep.orchestrator.results.tables.shift import Group, averaged_of, parts_of
from robsweep.orchestrator.results.tables.verification import at


class Question(NamedTuple):
    """What is compared; the fields are columns."""

    metric: str
    dataset: str | None
    norm: str | None = None
    eps: float | None = None
    scorer: str | None = None
    ood_set: str | None = None


class Answer(NamedTuple):
    """One model's."""

    model: Model
    sampled: Sampled
    value: Interval  # on its own samples
    by: frozenset[str] = frozenset()  # what it was asked with: attacks, corruptions


def answers(
    models: Sequence[Model], read: Read, only: str | None = None
) -> dict[Question, list[Answer]]:
    """Every question with the answers that there are, in the order of the models.

    Args:
        only: A metric; all without it.
    """
    found: dict[Question, list[Answer]] = {}
    for model in models:
        for makes, names in _MAKERS:
            if only is None or only in names:
                for question, answer in makes(model, read):
                    if len(answer.sampled[0].samples) and only in (None, question.metric):
                        found.setdefault(question, []).append(answer)
    return found


def _of_predictions(model: Model, read: Read) -> Iterator[tuple[Question, Answer]]:
    rows = prediction_rows(model.of("predict", "clean"), read).unique("sample").sort("sample")
    if rows.is_empty():
        return
    correct = (rows["predicted"] == rows["label"]).to_numpy()
    confidence = np.minimum(rows["confidence"].to_numpy(), 1.0)
    yield Question("clean_accuracy", model.dataset), _share(model, rows, correct)
    both = _part(rows, confidence, correct)
    yield Question("ece", model.dataset), Answer(model, both, calibrated(rows).ece)
    doubt = _part(rows, -confidence, ~correct)
    yield (
        Question("aurc", model.dataset),
        Answer(model, doubt, selective(-confidence, ~correct).aurc),
    )


def _of_attacks(model: Model, read: Read) -> Iterator[tuple[Question, Answer]]:
    if not model.of("attack"):
        return
    rows = attack_rows(model, read)
    for norm, eps in model.balls():
        asked = model.attacks_at(norm, eps)
        if asked:
            together = that_work(asked, rows, eps)
            left = attacks.survival(rows, together.ids, eps, model.attacks_of(norm))
            by = frozenset(a.entry for a in together.asked)
            answer = _share(model, left, ~left["broken"].to_numpy())._replace(by=by)
            yield Question("robust_accuracy", model.dataset, norm, eps), answer
    for sought in dict.fromkeys(a.norm for a in model.of("attack") if not a.eps):
        seekers = [a for a in model.of("attack") if a.norm == sought and not a.eps]
        together = that_work(seekers, rows, None)
        reached = attacks.reached(rows, together.ids, model.attacks_of(sought))
        distances = reached["distance"].to_numpy()
        value = order_statistic_median(distances) if len(distances) else NO_DATA
        by = frozenset(a.entry for a in together.asked)
        answer = Answer(model, _part(reached, distances), value, by)
        yield Question("median_distance", model.dataset, sought), answer


def _of_proofs(model: Model, read: Read) -> Iterator[tuple[Question, Answer]]:
    screens = model.of("screen")
    if not screens:
        return
    final = verification.final_verdicts(read("verification", screens).collect())
    for norm, eps in model.balls():
        if model.screens_at(norm, eps):
            here = at(final, norm, eps).sort("sample")
            proved = (here["verdict"] == "verified").to_numpy()
            question = Question("verified_accuracy", model.dataset, norm, eps)
            yield question, _share(model, here, proved)


def _of_scores(model: Model, read: Read) -> Iterator[tuple[Question, Answer]]:
    for two in two_sets(model, read):
        if not len(two.id.samples):
            continue
        value = auroc(two.ood.scores, two.id.scores)
        if np.isnan(value.value):
            continue
        parts = tuple(Part(side.samples, side.scores[:, None]) for side in (two.ood, two.id))
        ood_set = str(two.asked.params["ood_set"])
        ball = two.evasion.get("norm"), two.evasion.get("eps")
        question = Question("auroc", model.dataset, *ball, two.asked.entry, ood_set)
        yield question, Answer(model, parts, value)


def _of_shift(model: Model, read: Read) -> Iterator[tuple[Question, Answer]]:
    """The mean error over corruptions of the mean error over severities, of each sample."""
    groups = averaged_of(Group.all_of(model.of("predict", "shift")).values())
    if not groups:
        return
    every = [asked for group in groups for asked in group.asked]
    wrongs = [wrong_of(prediction_rows([asked], read)) for asked in every]
    samples = reduce(np.intersect1d, (one.samples for one in wrongs))
    if not len(samples):
        return
    parts = parts_of(on_common(wrongs), groups)
    values = np.mean([errors.mean(axis=1) for errors in parts], axis=0)
    by = frozenset(str(a.params["source"]) for a in every)
    question = Question("mean_corruption_error", model.dataset)
    sampled = (Part(samples, values[:, None]),)
    yield question, Answer(model, sampled, mean_error(parts), by)


_MAKERS = (
    (_of_predictions, ("clean_accuracy", "ece", "aurc")),
    (_of_attacks, ("robust_accuracy", "median_distance")),
    (_of_proofs, ("verified_accuracy",)),
    (_of_scores, ("auroc",)),
    (_of_shift, ("mean_corruption_error",)),
)


def _share(model: Model, rows: pl.DataFrame, right: np.ndarray) -> Answer:
    return Answer(model, _part(rows, right), wilson(int(right.sum()), len(right)))


def _part(rows: pl.DataFrame, *columns: np.ndarray) -> Sampled:
    values = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    return (Part(rows["sample"].to_numpy(), values),)
