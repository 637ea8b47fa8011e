"""The table of out-of-distribution detection."""

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results.intervals import Interval
from robsweep.orchestrator.results.metrics.extent import DONE, FAILED, NOT_RUN, extent
from robsweep.orchestrator.results.metrics.ood import auroc, detection, undefined
from robsweep.orchestrator.results.metrics.planned import Asked, Model, outliers_of
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.adversarials import that_broke
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.tasks.catalogue.words import word_of

_OTHERS = ("aupr_out", "aupr_in", "fpr95_ood_pos", "fpr95_id_pos")


class Scores(NamedTuple):
    """Of one set, by sample."""

    samples: NDArray[np.int64]
    scores: NDArray[np.float64]


class TwoSets(NamedTuple):
    """What an AUROC is about."""

    asked: Asked  # of the OOD set
    own: Asked | None  # of the ID set; None where no sweep has asked for it
    ood: Scores
    id: Scores


def ood_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per scorer and OOD set; `seen` where the model was trained on outliers from there."""
    outliers = outliers_of(models)
    rows: list[Row] = []
    for model in models:
        for two in two_sets(model, read):
            measured = detection(two.ood.scores, two.id.scores)
            row = {**model.names, **_auroc(two, measured.auroc, measured.why)}
            for name, one in zip(_OTHERS, measured[1:5], strict=True):
                row |= estimate(name, one)
            seen = _base(row["ood_set"]) in {*map(_base, outliers[model.model_id])}
            rows.append({**row, "seen": seen})
    return frame("ood", rows)


def ood_rows(model: Model, read: Read) -> Iterator[Row]:
    """One row per scorer and OOD set of a model, in plan order, with its AUROC alone."""
    for two in two_sets(model, read):
        both = two.ood.scores, two.id.scores
        yield {**model.names, **_auroc(two, auroc(*both), undefined(*both))}


def two_sets(model: Model, read: Read) -> Iterator[TwoSets]:
    """The scores of each OOD set of a model, and those of the same scorer on its own data."""
    asked = [a for a in model.of("score") if "evasion" not in a.params]
    needed = ("measurement_id", "sample", "score")
    rows = that_broke(read("ood_scores", asked).select(needed).collect(), asked, read)
    rows = rows.sort("measurement_id", "sample")
    by_id = {
        str(key[0]): Scores(own["sample"].to_numpy(), own["score"].to_numpy())
        for key, own in rows.group_by("measurement_id", maintain_order=True)
    }
    nothing = Scores(np.zeros(0, np.int64), np.zeros(0))
    of_id_set = {_scorer(a): a for a in asked if _is_id(a)}
    for a in asked:
        if _is_id(a):
            continue
        own = of_id_set.get(_scorer(a))
        id_ = nothing if own is None else by_id.get(own.measurement_id, nothing)
        yield TwoSets(a, own, by_id.get(a.measurement_id, nothing), id_)


def _auroc(two: TwoSets, measured: Interval, why: str | None) -> Row:
    n_ood, n_id = len(two.ood.samples), len(two.id.samples)
    return {
        "scorer": two.asked.entry,
        "ood_set": two.asked.params["ood_set"],
        **estimate("auroc", measured),
        "auroc_n": n_ood if n_id else 0,
        "auroc_wanted": total(two.asked.wanted),
        "auroc_status": _status(two.asked, two.own),
        "auroc_n_id": n_id,
        "auroc_wanted_id": 0 if two.own is None else total(two.own.wanted),
        "auroc_n_ood": n_ood,
        "id_n": n_id,
        "why": why if n_ood and n_id else None,  # of no samples, the status speaks
    }


def _base(word: str) -> str:
    """A data set, whatever its split and whatever was done to it."""
    return word_of(word).base


def hardest(rows: Sequence[Row]) -> Row:
    """Of the first scorer, the AUROC on the set where it is lowest, and which set that is.

    None before every set has been started: the hardest one may be still to come. A set whose jobs
    failed, or of which there is no AUROC, is left out, and named.
    """
    if not rows:
        return {"auroc_status": "not asked"}
    first = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    failed = [
        row
        for row in first
        if row["why"] or (row["auroc"] is None and row["auroc_status"] == FAILED)
    ]
    left = [row for row in first if row not in failed]
    known_ = [row for row in left if row["auroc"] is not None]
    if not left or len(known_) < len(left):
        statuses = {row["auroc_status"] for row in left} or {FAILED}
        return {
            "auroc_n": 0,
            "auroc_wanted": sum(row["auroc_wanted"] for row in first),
            "auroc_status": statuses.pop() if len(statuses) == 1 else "running",
        }
    worst = min(left, key=lambda row: row["auroc"])
    names = ", ".join(f"{row['ood_set']}: {row['why'] or FAILED}" for row in failed)
    without = f" (without {names})" if names else ""
    return {
        **{key: value for key, value in worst.items() if key.startswith("auroc")},
        "auroc_of": f"{worst['scorer']} / {worst['ood_set']}{without}",
    }


def _status(asked: Asked, own: Asked | None) -> str:
    """Of a number about two sets, each with samples of its own."""
    found = {str(extent("", [a])["_status"]) for a in (asked, own) if a is not None}
    if FAILED in found:
        return FAILED
    if found <= {DONE}:
        return DONE
    return NOT_RUN if found == {NOT_RUN} else "running"


def _is_id(asked: Asked) -> bool:
    return asked.params["ood_set"] is None


def _scorer(asked: Asked) -> str:
    """What an ID set and the OOD sets of one scorer have in common.

    Not their groups: adversarials are scored in those of their attack.
    """
    own = {"ood_set", "group_size"}
    common = {key: value for key, value in asked.params.items() if key not in own}
    return json.dumps(common, sort_keys=True)
