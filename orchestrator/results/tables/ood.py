"""The table of out-of-distribution detection."""

import json
from collections.abc import Iterator, Sequence

import polars as pl

from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results.metrics.extent import DONE, FAILED, NOT_RUN, extent
from robsweep.orchestrator.results.metrics.ood import detection
from robsweep.orchestrator.results.metrics.planned import Asked, Model, outliers_of
from robsweep.orchestrator.results.metrics.rates import estimate, known
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.tasks.catalogue.words import word_of


def ood_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per scorer and OOD set; `seen` where the model was trained on outliers from there."""
    outliers = outliers_of(models)
    return frame(
        "ood",
        (
            {**row, "seen": _base(row["ood_set"]) in {*map(_base, outliers[model.model_id])}}
            for model in models
            for row in ood_rows(model, read)
        ),
    )


def ood_rows(model: Model, read: Read) -> Iterator[Row]:
    """One row per scorer and OOD set of a model, in plan order."""
    asked = [a for a in model.of("score") if "evasion" not in a.params]
    scores = read("ood_scores", asked).select("measurement_id", "score").collect()
    by_id = dict(scores.group_by("measurement_id").agg("score").iter_rows())
    of_id_set = {_scorer(a): a for a in asked if _is_id(a)}
    for a in asked:
        if _is_id(a):
            continue
        own = of_id_set.get(_scorer(a))
        ood = by_id.get(a.measurement_id, [])
        id_ = [] if own is None else by_id.get(own.measurement_id, [])
        measured = detection(ood, id_)
        yield {
            **model.names,
            "scorer": a.entry,
            "ood_set": a.params["ood_set"],
            **estimate("auroc", measured.auroc),
            "auroc_n": len(ood) if id_ else 0,
            "auroc_wanted": total(a.wanted),
            "auroc_status": _status(a, own),
            "auroc_n_id": len(id_),
            "auroc_wanted_id": 0 if own is None else total(own.wanted),
            "auroc_n_ood": len(ood),
            "aupr_out": known(measured.aupr_out),
            "aupr_in": known(measured.aupr_in),
            "fpr95_ood_pos": known(measured.fpr95_ood_pos),
            "fpr95_id_pos": known(measured.fpr95_id_pos),
            "id_n": len(id_),
        }


def _base(word: str) -> str:
    """A data set, whatever its split and whatever was done to it."""
    return word_of(word).base


def hardest(rows: Sequence[Row]) -> Row:
    """Of the first scorer, the AUROC on the set where it is lowest, and which set that is.

    None before every set has been started: the hardest one may be still to come. A set whose jobs
    failed is left out, and named.
    """
    if not rows:
        return {"auroc_status": "not asked"}
    first = [row for row in rows if row["scorer"] == rows[0]["scorer"]]
    failed = [row for row in first if row["auroc"] is None and row["auroc_status"] == FAILED]
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
    names = ", ".join(row["ood_set"] for row in failed)
    without = f" (without {names}: failed)" if names else ""
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
    """What an ID set and the OOD sets of one scorer have in common."""
    common = {key: value for key, value in asked.params.items() if key != "ood_set"}
    return json.dumps(common, sort_keys=True)
