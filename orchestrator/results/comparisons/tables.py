"""The table `comparisons`: one row per pair of models, or of scorers of one model."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import polars as pl

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.comparisons.metrics import METRICS
from robsweep.orchestrator.results.comparisons.paired import holm
from robsweep.orchestrator.results.comparisons.pairs import Pair, pairs
from robsweep.orchestrator.results.comparisons.questions import SCORERS, Answer, Question, answers
from robsweep.orchestrator.results.comparisons.recipes import NOTHING, by_recipe, contrast, together
from robsweep.orchestrator.results.metrics.named import named
from robsweep.orchestrator.results.metrics.planned import Model
from robsweep.orchestrator.results.metrics.rates import estimate, known
from robsweep.orchestrator.results.tables.columns import Read, Row, frame

SEEDS = "seeds and samples"
ONE_SEED = "one seed each: the luck of training is left out"
NO_COMMON, NO_VARIANCE = "no samples in common", "no finite difference with a variance"


def comparison_table(
    models: Sequence[Model], read: Read, metric: str | None = None, baseline: str | None = None
) -> pl.DataFrame:
    """One row per question and pair of models, with a p-value that is corrected (Holm).

    It is corrected for all pairs of the question that are in the table.

    Args:
        metric: One of `METRICS`; all without it.
        baseline: A model (`cnn`, `cnn/standard` or `cnn/standard/0`): only pairs with it. If
            it names several, pairs of each of them with each of the others. Of `scorer_auroc`, a
            scorer.

    Raises:
        InputError: Nothing in the sweep has that name.
    """
    chosen = _chosen(models, metric, baseline)
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
    chosen = _chosen(models, metric, baseline)
    rows: list[Row] = []
    for question, given in answers(models, read, metric, by_seed=False).items():
        rows += _recipes(question, given, chosen)
    return frame("comparisons", rows)


def _row(
    question: Question,
    given: Sequence[Answer],
    pair: Pair,
    p_holm: float,
    compared: int,
    *,
    by_seed: bool = True,
) -> Row:
    first, second = given[pair.first], given[pair.second]
    why = None
    if np.isnan(pair.p):
        why = NO_COMMON if min(pair.n) == 0 else NO_VARIANCE
    *outside, last = pair.n
    n = {"difference_n": sum(outside), "difference_n_id": last}
    if not outside:
        n = {"difference_n": last}
    return {
        **question.columns,
        **first.model.names,
        **{f"other_{key}": value for key, value in second.model.names.items()},
        "scorer": first.scorer or question.scorer,
        "other_scorer": second.scorer,
        **estimate("difference", pair.difference),
        **n,
        "n": first.n,
        "other_n": second.n,
        "p": known(pair.p),
        "p_holm": known(p_holm),
        "compared": compared,
        "test": METRICS[question.metric].test,
        "why": why,
        "note": _note(first, second, by_seed=by_seed),
    }


def _recipes(question: Question, given: Sequence[Answer], chosen: set[str] | None) -> list[Row]:
    recipes = by_recipe(given)
    own = {
        key: chosen is not None and any(given[i].key in chosen for i in members)
        for key, members in recipes.items()
    }
    wanted = [
        (b, a) if own[a] else (a, b)
        for a, b in combinations(recipes, 2)
        if chosen is None or own[a] != own[b]
    ]
    measured = together(METRICS[question.metric], given)
    tested = [
        NOTHING if measured.values is None else contrast(measured, recipes[a], recipes[b])
        for a, b in wanted
    ]
    corrected = holm(np.array([one.p for one in tested]))
    rows = []
    for (a, b), one, p_holm in zip(wanted, tested, corrected, strict=True):
        pair = Pair(recipes[a][0], recipes[b][0], one.difference, one.p, measured.n)
        seeds, others = len(recipes[a]), len(recipes[b])
        row = _row(question, given, pair, float(p_holm), len(tested), by_seed=False)
        row |= {"seeds": seeds, "other_seeds": others, "test": SEEDS}
        row |= dict.fromkeys(("seed", "model_id", "other_seed", "other_model_id"))
        notes = [row["note"], ONE_SEED if seeds == others == 1 else None]
        rows.append({**row, "note": "; ".join(filter(None, notes)) or None})
    return rows


def _chosen(models: Sequence[Model], metric: str | None, baseline: str | None) -> set[str] | None:
    """Keys of the answers that are the baseline."""
    if baseline is None:
        return None
    if metric != SCORERS:
        return {model.model_id for model in named(models, baseline)}
    scorers = dict.fromkeys(a.entry for model in models for a in model.of("score"))
    if baseline not in scorers:
        raise InputError(
            f"--baseline {baseline!r}: no such scorer; there are: {', '.join(scorers)}"
        )
    return {baseline}


def _note(first: Answer, second: Answer, *, by_seed: bool = True) -> str | None:
    """What was asked of one and not of the other, and which OOD sets were used before."""
    only = sorted(first.by ^ second.by)
    said = [f"not asked alike: {', '.join(only)}"] if only else []
    seen = {a.name_of(by_seed=by_seed): a.seen for a in (first, second) if a.seen}
    said += [f"{name}: {why}" for name, why in seen.items()]
    return "; ".join(said) or None
