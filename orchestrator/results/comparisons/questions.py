"""What a sweep asks of several models alike, and each one's answer, sample by sample.

`scorer_auroc` is asked of one model, and its scorers answer.
"""

from collections.abc import Iterable, Iterator, Sequence
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
from robsweep.orchestrator.results.metrics.named import name_of
from robsweep.orchestrator.results.metrics.ood import auroc, undefined
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.shift import mean_error, on_common, wrong_of
from robsweep.orchestrator.results.tables.attacks import attack_rows, that_work
from robsweep.orchestrator.results.tables.calibration import calibrated, prediction_rows
from robsweep.orchestrator.results.tables.columns import Read
from robsweep.orchestrator.results.tables.ood import (
    TwoSets,
    by_scorer,
    groups_of,
    images_of,
    mean_of,
    seen_by,
    two_sets,
)
from robsweep.orchestrator.results.tables.shift import Group, averaged_of, parts_of
from robsweep.orchestrator.results.tables.verification import at

SCORERS = "scorer_auroc"


class Question(NamedTuple):
    """What is compared; all fields but the last are columns."""

    metric: str
    dataset: str | None
    norm: str | None = None
    eps: float | None = None
    scorer: str | None = None
    ood_set: str | None = None
    group: str | None = None  # of OOD sets, over which a mean is taken
    about: tuple[str, ...] = ()  # which sets, or whose scorers: only alike ones can be compared

    @property
    def columns(self) -> dict[str, str | float | None]:
        return {key: value for key, value in self._asdict().items() if key != "about"}


class Answer(NamedTuple):
    """One model's, or one of its scorers'."""

    model: Model
    sampled: Sampled
    value: Interval  # on its own samples
    by: frozenset[str] = frozenset()  # what it was asked with: attacks, corruptions
    scorer: str | None = None  # where scorers are compared
    seen: str | None = None  # what its OOD sets were used for before

    def name_of(self, *, by_seed: bool = True) -> str:
        """`cnn/standard/0`, as options take it; of a scorer its own."""
        return self.scorer or name_of(self.model, by_seed=by_seed)

    @property
    def key(self) -> str:
        """What a baseline is chosen by."""
        return self.scorer or self.model.model_id

    @property
    def recipe(self) -> tuple[str | None, ...]:
        """What answers have in common that differ by the seed alone."""
        return self.model.model, self.model.training, self.scorer

    @property
    def n(self) -> int:
        """Samples; of OOD detection, those that are OOD."""
        outside = self.sampled[:-1] or self.sampled
        return sum(len(part.samples) for part in outside)


def answers(
    models: Sequence[Model], read: Read, only: str | None = None, *, by_seed: bool = True
) -> dict[Question, list[Answer]]:
    """Every question with the answers that there are, in the order of the models.

    Args:
        only: A metric; without it all by which models are compared.
        by_seed: Whether scorers compete on one seed's model, or on all seeds' together.
    """
    if only == SCORERS:
        return _of_scorers(models, read, by_seed=by_seed)
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
    """The AUROC of each scorer on each OOD set, and the mean over each group of these."""
    for sets in by_scorer(two_sets(model, read)):
        for two in sets:
            if undefined(two.ood.scores, two.id.scores) is None:
                ball = two.evasion.get("norm"), two.evasion.get("eps")
                ood_set = str(two.asked.params["ood_set"])
                question = Question("auroc", model.dataset, *ball, two.asked.entry, ood_set)
                value = auroc(two.ood.scores, two.id.scores)
                yield question, _scored(model, [two], value)
        for group, inside in groups_of(sets):
            names = tuple(sorted(str(two.asked.params["ood_set"]) for two in inside))
            value = mean_of(inside, inside[0].id)
            if not np.isnan(value.value):
                entry = inside[0].asked.entry
                question = Question("auroc", model.dataset, scorer=entry, group=group, about=names)
                yield question, _scored(model, inside, value)


def _scored(model: Model, sets: Sequence[TwoSets], value: Interval) -> Answer:
    """With one part for all sets that are made of the same images, and the ID data's."""
    of_images: dict[str, list[TwoSets]] = {}
    for two in sorted(sets, key=lambda two: str(two.asked.params["ood_set"])):
        of_images.setdefault(images_of(two), []).append(two)
    parts = []
    for alike in of_images.values():
        samples = reduce(np.intersect1d, (two.ood.samples for two in alike))
        columns = [two.ood.scores[np.isin(two.ood.samples, samples)] for two in alike]
        parts.append(Part(samples, np.stack(columns, axis=1)))
    id_ = sets[0].id
    parts.append(Part(id_.samples, id_.scores[:, None]))
    return Answer(model, tuple(parts), value, seen=seen_by(model, sets))


def _of_scorers(
    models: Iterable[Model], read: Read, *, by_seed: bool
) -> dict[Question, list[Answer]]:
    found: dict[Question, list[Answer]] = {}
    for model in models:
        whose = name_of(model, by_seed=by_seed)
        for question, answer in _of_scores(model, read):
            about = (whose, *question.about)
            asked = question._replace(metric=SCORERS, scorer=None, about=about)
            found.setdefault(asked, []).append(answer._replace(scorer=question.scorer))
    return found


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
