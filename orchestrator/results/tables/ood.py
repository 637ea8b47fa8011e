"""The table of out-of-distribution detection."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results.intervals import NO_DATA, Interval
from robsweep.orchestrator.results.metrics.detection.spectrum import Scores, joined, mean_auroc
from robsweep.orchestrator.results.metrics.extent import DONE, FAILED, NOT_ASKED, NOT_RUN, extent
from robsweep.orchestrator.results.metrics.ood import auroc, detection, undefined
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.adversarials import that_broke
from robsweep.orchestrator.results.tables.calibration import UNDEFINED
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.tasks.catalogue.words import word_of

_OTHERS = ("aupr_out", "aupr_in", "fpr95_ood_pos", "fpr95_id_pos")


class TwoSets(NamedTuple):
    """What an AUROC is about."""

    asked: Asked  # of the OOD set
    own: Asked | None  # of the ID set; None where no sweep has asked for it
    ood: Scores
    id: Scores

    @property
    def evasion(self) -> Mapping[str, Any]:
        """The attack that looked for low scores near the OOD images; empty: as they are."""
        found: Mapping[str, Any] = self.asked.params.get("evasion") or {}
        return found

    @property
    def outside(self) -> bool:
        """Whether it is an OOD set as it is, and not a corruption of the ID data."""
        return not self.evasion and not self.asked.shifted


def ood_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per scorer and OOD set, per ball of an evasion, and per group of sets.

    `seen` where the model was trained on outliers from there, or the scorer tuned on them;
    `seen_by` says which. `auroc_full_spectrum` takes the scores of corrupted ID data as ID.
    """
    rows: list[Row] = []
    for model in models:
        for sets in by_scorer(two_sets(model, read)):
            for two in sets:
                measured = detection(two.ood.scores, two.id.scores)
                row = _auroc(two, measured.auroc, measured.why)
                for name, one in zip(_OTHERS, measured[1:5], strict=True):
                    row |= estimate(name, one)
                row |= full_spectrum([two], sets)
                rows.append({**model.names, **row, **_seen(model, [two])})
            for group, inside in groups_of(sets):
                row = {**together(inside), **full_spectrum(inside, sets), "group": group}
                rows.append({**model.names, **row, **_seen(model, inside)})
    return frame("ood", rows)


def ood_rows(model: Model, read: Read) -> Iterator[Row]:
    """One row per scorer and set that is OOD, in plan order, with its AUROC alone."""
    for two in two_sets(model, read):
        if two.outside:
            both = two.ood.scores, two.id.scores
            row = _auroc(two, auroc(*both), undefined(*both))
            yield {**model.names, **row, **_seen(model, [two])}


def two_sets(model: Model, read: Read) -> Iterator[TwoSets]:
    """The scores of each OOD set of a model, and those of the same scorer on its own data."""
    asked = model.of("score")
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


def by_scorer(sets: Iterable[TwoSets]) -> list[list[TwoSets]]:
    """All that one scorer is asked about, in plan order."""
    found: dict[str, list[TwoSets]] = {}
    for two in sets:
        found.setdefault(f"{two.asked.entry} {_scorer(two.asked)}", []).append(two)
    return [*found.values()]


def groups_of(sets: Sequence[TwoSets]) -> Iterator[tuple[str, list[TwoSets]]]:
    """Each group with its sets, if it has several: of one, the set says it all."""
    for group in dict.fromkeys(name for two in sets for name in two.asked.groups):
        inside = [two for two in sets if group in two.asked.groups and not two.evasion]
        if len(inside) > 1:
            yield group, inside


def _seen(model: Model, sets: Sequence[TwoSets]) -> Row:
    by = seen_by(model, sets)
    return {"seen": bool(by), "seen_by": by}


def seen_by(model: Model, sets: Iterable[TwoSets]) -> str | None:
    """What any split of these data sets has been used for before, if for anything."""
    trained_on = {*map(_base, model.outliers)}
    by: list[str] = []
    for two in sets:
        base = _base(two.asked.params["ood_set"])
        tuned_on = (two.asked.params.get("tune") or {}).get("set")
        by += ["trained on"] if base in trained_on else []
        by += ["tuned on"] if tuned_on is not None and base == _base(tuned_on) else []
    return ", ".join(dict.fromkeys(by)) or None


def _auroc(two: TwoSets, measured: Interval, why: str | None) -> Row:
    n_ood, n_id = len(two.ood.samples), len(two.id.samples)
    return {
        "scorer": two.asked.entry,
        "ood_set": two.asked.params["ood_set"],
        "norm": two.evasion.get("norm"),
        "eps": two.evasion.get("eps"),
        "group": ", ".join(two.asked.groups) or None,
        **estimate("auroc", measured),
        "auroc_n": n_ood if n_id else 0,
        "auroc_wanted": total(two.asked.wanted),
        "auroc_status": status_of([two.asked, two.own]),
        "auroc_n_id": n_id,
        "auroc_wanted_id": 0 if two.own is None else total(two.own.wanted),
        "auroc_n_ood": n_ood,
        "id_n": n_id,
        "why": why if n_ood and n_id else _blocked(two),  # of no samples, the status speaks
    }


def _blocked(two: TwoSets) -> str | None:
    return two.asked.blocked or (two.own.blocked if two.own is not None else None) or None


def _why(two: TwoSets) -> str | None:
    """Why there is no AUROC of samples that are there."""
    there = len(two.ood.samples) and len(two.id.samples)
    return undefined(two.ood.scores, two.id.scores) if there else _blocked(two)


def images_of(two: TwoSets) -> str:
    """The data set and split that a set is made of, whatever was done to its images."""
    found = word_of(str(two.asked.params["ood_set"]))
    return f"{found.base}:{found.split}"


def _base(word: str) -> str:
    """A data set, whatever its split and whatever was done to it."""
    return word_of(word).base


def hardest(rows: Sequence[Row]) -> Row:
    """Of the first scorer, the AUROC on the set where it is lowest, and which set that is.

    Undefined where there is none on any set, as of constant scores. None before every set
    has been started: the hardest one may be still to come. A set whose jobs failed, or of which
    there is no AUROC, is left out, and named.
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
    names = ", ".join(f"{row['ood_set']}: {row['why'] or FAILED}" for row in failed)
    if not left and all(row["why"] for row in failed):
        return {
            "auroc_status": UNDEFINED,
            "auroc_of": f"{rows[0]['scorer']} (without {names})",
        }
    if not left or len(known_) < len(left):
        statuses = {row["auroc_status"] for row in left} or {FAILED}
        return {
            "auroc_n": 0,
            "auroc_wanted": sum(row["auroc_wanted"] for row in first),
            "auroc_status": statuses.pop() if len(statuses) == 1 else "running",
        }
    worst = min(left, key=lambda row: row["auroc"])
    without = f" (without {names})" if names else ""
    return {
        **{key: value for key, value in worst.items() if key.startswith("auroc")},
        "auroc_of": f"{worst['scorer']} / {worst['ood_set']}{_used(worst)}{without}",
    }


def _used(row: Row) -> str:
    return f" ({row['seen_by']})" if row["seen_by"] else ""


def together(sets: Sequence[TwoSets]) -> Row:
    """The mean AUROC over the sets of a group, once all of them have been started."""
    first, n_id = sets[0], len(sets[0].id.samples)
    asked = [*(two.asked for two in sets), first.own]
    row = {
        "scorer": first.asked.entry,
        "auroc_n": 0,
        "auroc_wanted": sum(total(two.asked.wanted) for two in sets),
        "auroc_status": status_of(asked),
        "auroc_n_id": n_id,
        "auroc_wanted_id": 0 if first.own is None else total(first.own.wanted),
        "auroc_n_ood": sum(len(two.ood.samples) for two in sets),
    }
    whys = {str(two.asked.params["ood_set"]): _why(two) for two in sets}
    why = "; ".join(f"{name}: {one}" for name, one in whys.items() if one is not None) or None
    return row | _mean("auroc", sets, first.id) | {"why": why}


def full_spectrum(sets: Sequence[TwoSets], all_: Sequence[TwoSets]) -> Row:
    """The mean AUROC over OOD sets where corruptions of the ID data are ID too."""
    name, first = "auroc_full_spectrum", sets[0]
    shifted = [two for two in all_ if two.asked.shifted and not two.evasion]
    if not shifted or any(two.asked.shifted for two in sets):
        return {f"{name}_status": NOT_ASKED}
    own = [first.own, *(two.asked for two in shifted)]
    parts = [first.id, *(two.ood for two in shifted)]
    row: Row = {
        f"{name}_n": 0,
        f"{name}_wanted": sum(total(two.asked.wanted) for two in sets),
        f"{name}_status": status_of([*(two.asked for two in sets), *own]),
        f"{name}_n_id": sum(len(part.samples) for part in parts),
        f"{name}_wanted_id": sum(total(a.wanted) for a in own if a is not None),
    }
    if min(len(part.samples) for part in parts) == 0:
        return row
    return row | _mean(name, sets, joined(parts))


def _mean(name: str, sets: Sequence[TwoSets], id_: Scores) -> Row:
    found = mean_of(sets, id_)
    if np.isnan(found.value):
        return {}
    return {**estimate(name, found), f"{name}_n": sum(len(two.ood.samples) for two in sets)}


def mean_of(sets: Sequence[TwoSets], id_: Scores) -> Interval:
    """The mean AUROC over OOD sets; NaN where it is undefined on one of them."""
    if any(undefined(two.ood.scores, id_.scores) for two in sets):
        return NO_DATA
    return mean_auroc([two.ood for two in sets], id_, [images_of(two) for two in sets])


def status_of(asked: Iterable[Asked | None]) -> str:
    """Of a number about several sets, each with samples of its own."""
    found = {str(extent("", [a])["_status"]) for a in asked if a is not None}
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
    different = {"ood_set", "evasion", "group_size"}
    common = {key: value for key, value in asked.params.items() if key not in different}
    return json.dumps(common, sort_keys=True)
