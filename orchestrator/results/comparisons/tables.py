"""The tables `comparisons`, one row per pair of models, and `tiers`, one per model."""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import polars as pl

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.comparisons.metrics import (
    METRICS,
    compare,
    first_in_halves,
    spread,
)
from robsweep.orchestrator.results.comparisons.paired import holm
from robsweep.orchestrator.results.comparisons.questions import Answer, Question, answers
from robsweep.orchestrator.results.comparisons.recipes import Contrast, contrast
from robsweep.orchestrator.results.comparisons.samples import on_common, shared
from robsweep.orchestrator.results.comparisons.tiers import tiers
from robsweep.orchestrator.results.intervals import Interval
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.rates import estimate, known
from robsweep.orchestrator.results.tables.columns import Read, Row, frame

SEEDS = "seeds and samples"
ONE_SEED = "one seed each: the luck of training is left out"
NO_COMMON, NO_VARIANCE = "no samples in common", "no finite difference with a variance"


class Pair(NamedTuple):
    """One answer less another, on the samples that both have; the second is the baseline."""

    first: int
    second: int
    difference: Interval
    p: float  # NaN: nothing can be said
    n: list[int]  # of each part


def comparison_table(
    models: Sequence[Model], read: Read, metric: str | None = None, baseline: str | None = None
) -> pl.DataFrame:
    """One row per question and pair of models, with a p-value that is corrected (Holm).

    It is corrected for all pairs of the question that are in the table.

    Args:
        metric: One of `METRICS`; all without it.
        baseline: A model (`cnn`, `cnn/standard` or `cnn/standard/0`): only pairs with it. If
            it names several, pairs of each of them with each of the others.

    Raises:
        InputError: No model of the sweep has that name.
    """
    chosen = None if baseline is None else _named(models, baseline)
    rows: list[Row] = []
    for question, given in answers(models, read, metric).items():
        found = pairs(question, given, chosen)
        corrected = holm(np.array([pair.p for pair in found]))
        for pair, p_holm in zip(found, corrected, strict=True):
            rows.append(_row(question, given, pair, float(p_holm), len(found)))
    return frame("comparisons", rows)


def recipe_table(
    models: Sequence[Model], read: Read, metric: str | None = None, baseline: str | None = None
) -> pl.DataFrame:
    """As `comparison_table`, of models that are alike but for their seed, as one.

    Raises:
        InputError: No model of the sweep has that name.
    """
    chosen = None if baseline is None else _named(models, baseline)
    rows: list[Row] = []
    for question, given in answers(models, read, metric).items():
        rows += _recipes(question, given, chosen)
    return frame("comparisons", rows)


def tier_table(models: Sequence[Model], read: Read, metric: str | None = None) -> pl.DataFrame:
    """One row per question and model, the best first, in tiers of those that are alike.

    `first_in_halves` is how often a model is the best of all on random halves of the samples.
    """
    rows: list[Row] = []
    for question, given in answers(models, read, metric).items():
        rows += _tiers(question, given)
    return frame("tiers", rows)


def pairs(
    question: Question, given: Sequence[Answer], chosen: set[str] | None = None
) -> list[Pair]:
    """All pairs of answers, or those of which the second is chosen and the first is not."""
    found = []
    for group in shared([answer.sampled for answer in given]):
        wanted = [
            turned
            for a, b in group.pairs
            if (turned := _turned(given, group.members, a, b, chosen)) is not None
        ]
        if not wanted:
            continue
        if min(group.n) == 0:
            nothing = Interval(*[float("nan")] * 3)
            found += [
                Pair(group.members[a], group.members[b], nothing, float("nan"), group.n)
                for a, b in wanted
            ]
            continue
        tested = compare(METRICS[question.metric], group.sampled)
        for a, b in wanted:
            difference = Interval(*(float(side[a, b]) for side in tested[:3]))
            p = float(tested.p[a, b])
            found.append(Pair(group.members[a], group.members[b], difference, p, group.n))
    return sorted(found)


def _turned(
    given: Sequence[Answer], members: Sequence[int], a: int, b: int, chosen: set[str] | None
) -> tuple[int, int] | None:
    """A pair with its baseline second, or none."""
    if chosen is None:
        return (a, b) if members[a] < members[b] else (b, a)
    has = [given[members[side]].model.model_id in chosen for side in (a, b)]
    if has[0] == has[1]:
        return None
    return (a, b) if has[1] else (b, a)


def _row(
    question: Question, given: Sequence[Answer], pair: Pair, p_holm: float, compared: int
) -> Row:
    first, second = given[pair.first], given[pair.second]
    why = None
    if np.isnan(pair.p):
        why = NO_COMMON if min(pair.n) == 0 else NO_VARIANCE
    n = {"difference_n": pair.n[0], "n": _count(first), "other_n": _count(second)}
    if len(pair.n) > 1:
        n["difference_n_id"] = pair.n[1]
    return {
        **question._asdict(),
        **first.model.names,
        **{f"other_{key}": value for key, value in second.model.names.items()},
        **estimate("difference", pair.difference),
        **n,
        "p": known(pair.p),
        "p_holm": known(p_holm),
        "compared": compared,
        "test": METRICS[question.metric].test,
        "why": why,
        "note": _note(first, second),
    }


def _recipes(question: Question, given: Sequence[Answer], chosen: set[str] | None) -> list[Row]:
    by_recipe: dict[tuple[str, str | None], list[int]] = {}
    for index, answer in enumerate(given):
        by_recipe.setdefault((answer.model.model, answer.model.training), []).append(index)
    own = {
        key: chosen is not None and any(given[i].model.model_id in chosen for i in members)
        for key, members in by_recipe.items()
    }
    wanted = [
        (b, a) if own[a] else (a, b)
        for a, b in combinations(by_recipe, 2)
        if chosen is None or own[a] != own[b]
    ]
    common = on_common([answer.sampled for answer in given])
    n = [len(part.samples) for part in common[0]]
    known_of = min(n) > 1
    values, covariance = spread(METRICS[question.metric], common) if known_of else (None, None)
    found = []
    for a, b in wanted:
        nothing = Contrast(Interval(*[float("nan")] * 3), float("nan"))
        if values is not None and covariance is not None:
            nothing = contrast(values, covariance, by_recipe[a], by_recipe[b])
        found.append((a, b, nothing))
    corrected = holm(np.array([tested.p for *_, tested in found]))
    rows = []
    for (a, b, tested), p_holm in zip(found, corrected, strict=True):
        first, second = (given[by_recipe[key][0]] for key in (a, b))
        pair = Pair(by_recipe[a][0], by_recipe[b][0], tested.difference, tested.p, n)
        seeds, others = len(by_recipe[a]), len(by_recipe[b])
        row = _row(question, given, pair, float(p_holm), len(found))
        row |= {"seeds": seeds, "other_seeds": others, "test": SEEDS}
        row |= dict.fromkeys(("seed", "model_id", "other_seed", "other_model_id"))
        notes = [_note(first, second), ONE_SEED if seeds == others == 1 else None]
        rows.append({**row, "note": "; ".join(filter(None, notes)) or None})
    return rows


def _tiers(question: Question, given: Sequence[Answer]) -> list[Row]:
    metric = METRICS[question.metric]
    p = np.full((len(given), len(given)), np.nan)
    found = pairs(question, given)
    for pair, p_holm in zip(found, holm(np.array([x.p for x in found])), strict=True):
        p[pair.first, pair.second] = p[pair.second, pair.first] = p_holm
    values = np.array([answer.value.value for answer in given])
    order = np.argsort(-values if metric.higher_is_better else values, kind="stable").tolist()
    standing = tiers(order, p)
    first = _halves(question, given)
    rows = []
    for index in order:
        answer, tier = given[index], standing[index]
        rows.append(
            {
                **answer.model.names,
                **question._asdict(),
                **estimate("value", answer.value),
                "value_n": _count(answer),
                "tier": tier.tier,
                "first_in_halves": first[index],
                "apart_within": _names(given, tier.apart_within),
                "alike_beyond": _names(given, tier.alike_beyond),
            }
        )
    return rows


def _halves(question: Question, given: Sequence[Answer]) -> list[float | None]:
    """Only where all have the same samples: a half of what one has is none of another's."""
    groups = list(shared([answer.sampled for answer in given]))
    if len(groups) > 1 or min(groups[0].n) < 2 or len(given) < 2:
        return [None] * len(given)
    return [float(x) for x in first_in_halves(METRICS[question.metric], groups[0].sampled)]


def _note(first: Answer, second: Answer) -> str | None:
    """What was asked of one and not of the other."""
    only = sorted(first.by ^ second.by)
    return f"not asked alike: {', '.join(only)}" if only else None


def _count(answer: Answer) -> int:
    return len(answer.sampled[0].samples)


def name_of(model: Model) -> str:
    """`cnn/standard/0`, as options take it."""
    return "/".join(
        str(part) for part in (model.model, model.training, model.seed) if part is not None
    )


def _names(given: Sequence[Answer], indices: Sequence[int]) -> str | None:
    return ", ".join(name_of(given[index].model) for index in indices) or None


def _named(models: Sequence[Model], name: str) -> set[str]:
    """Ids of the models that go by a name or its beginning."""
    found = {
        model.model_id
        for model in models
        if name == model.model_id or f"{name_of(model)}/".startswith(f"{name}/")
    }
    if not found:
        known = ", ".join(dict.fromkeys(map(name_of, models)))
        raise InputError(f"--baseline {name!r}: no such model; there are: {known}")
    return found
