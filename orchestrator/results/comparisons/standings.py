"""The table `tiers`: who stands where, and whom it cannot be told apart from."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from robsweep.orchestrator.results.comparisons.metrics import METRICS, first_in_halves
from robsweep.orchestrator.results.comparisons.paired import holm
from robsweep.orchestrator.results.comparisons.pairs import pairs
from robsweep.orchestrator.results.comparisons.questions import Answer, Question, answers
from robsweep.orchestrator.results.comparisons.recipes import by_recipe, contrast, mean_of, together
from robsweep.orchestrator.results.comparisons.samples import shared
from robsweep.orchestrator.results.comparisons.tiers import tiers
from robsweep.orchestrator.results.intervals import Interval
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.columns import Read, Row, frame


def tier_table(models: Sequence[Model], read: Read, metric: str | None = None) -> pl.DataFrame:
    """One row per question and answer, the best first, in tiers of those that are alike.

    `first_in_halves` is how often one is the best of all on random halves of the samples.
    """
    rows: list[Row] = []
    for question, given in answers(models, read, metric).items():
        found = pairs(question, given)
        p = _matrix(len(given), [(x.first, x.second) for x in found], [x.p for x in found])
        values = [answer.value for answer in given]
        halves = _halves(question, given)
        extra: list[Row] = [{"first_in_halves": often} for often in halves]
        rows += _standing(question, given, values, p, extra)
    return frame("tiers", rows)


def recipe_tier_table(
    models: Sequence[Model], read: Read, metric: str | None = None
) -> pl.DataFrame:
    """As `tier_table`, of means over seeds; between two, what training again would do counts."""
    rows: list[Row] = []
    for question, given in answers(models, read, metric, by_seed=False).items():
        recipes = [*by_recipe(given).values()]
        measured = together(METRICS[question.metric], given)
        if measured.values is None:
            continue
        pairs_ = [*combinations(range(len(recipes)), 2)]
        tested = [contrast(measured, recipes[a], recipes[b]).p for a, b in pairs_]
        values = [
            mean_of(measured, recipe).within(0.0, METRICS[question.metric].most)
            for recipe in recipes
        ]
        extra: list[Row] = [
            {"seeds": len(recipe), "seed": None, "model_id": None} for recipe in recipes
        ]
        firsts = [given[recipe[0]] for recipe in recipes]
        p = _matrix(len(recipes), pairs_, tested)
        rows += _standing(question, firsts, values, p, extra, by_seed=False)
    return frame("tiers", rows)


def _matrix(
    n: int, pairs_: Sequence[tuple[int, int]], tested: Sequence[float]
) -> NDArray[np.float64]:
    """P-values by both sides of a pair, corrected for how many pairs there are."""
    p = np.full((n, n), np.nan)
    for (a, b), p_holm in zip(pairs_, holm(np.array(tested)), strict=True):
        p[a, b] = p[b, a] = p_holm
    return p


def _standing(
    question: Question,
    given: Sequence[Answer],
    values: Sequence[Interval],
    p: NDArray[np.float64],
    extra: Sequence[Row],
    *,
    by_seed: bool = True,
) -> list[Row]:
    numbers = np.array([value.value for value in values])
    best = -numbers if METRICS[question.metric].higher_is_better else numbers
    order = np.argsort(best, kind="stable").tolist()
    standing = tiers(order, p)

    def names(indices: Sequence[int]) -> str | None:
        return ", ".join(given[i].name_of(by_seed=by_seed) for i in indices) or None

    return [
        {
            **question.columns,
            **given[index].model.names,
            "scorer": given[index].scorer or question.scorer,
            **estimate("value", values[index]),
            "value_n": given[index].n,
            "tier": standing[index].tier,
            "apart_within": names(standing[index].apart_within),
            "alike_beyond": names(standing[index].alike_beyond),
            "seen_by": given[index].seen,
            **extra[index],
        }
        for index in order
    ]


def _halves(question: Question, given: Sequence[Answer]) -> list[float | None]:
    """Only where all have the same samples: a half of what one has is none of another's."""
    groups = list(shared([answer.sampled for answer in given]))
    if len(groups) > 1 or min(groups[0].n) < 2 or len(given) < 2:
        return [None] * len(given)
    return [float(x) for x in first_in_halves(METRICS[question.metric], groups[0].sampled)]
