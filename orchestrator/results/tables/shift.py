"""The table of distribution shift."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import polars as pl

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.named import name_of, named
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate, rate
from robsweep.orchestrator.results.metrics.shift import (
    Errors,
    Wrong,
    against,
    mean_error,
    on_common,
    wrong_of,
)
from robsweep.orchestrator.results.tables.calibration import (
    accuracy,
    calibrated,
    prediction_rows,
)
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.tasks.catalogue import CORRUPTIONS

Wrongs = Mapping[str, Wrong]  # by measurement


def shift_table(models: Sequence[Model], read: Read, baseline: str | None = None) -> pl.DataFrame:
    """One row per entry and severity, or point of a grid.

    `corruption_error` is the mean of 1 - accuracy over the severities of one entry, and
    `mean_corruption_error` that over a model's corruptions: plain. `.._normalised` divides each
    corruption's error by the baseline's, `.._relative` does so with what an error is above that on
    clean images. All are on the samples that all of their rows have. A corruption that a sweep
    names twice, with other parameters, has two errors and no mean over them; grids are in no mean.
    `worst_case_accuracy` is the share of samples that are right in every row of an entry, be they
    severities or points of a grid.

    Args:
        baseline: A model, `cnn`, `cnn/standard` or `cnn/standard/0`; of its seeds the row's own, or
            else the first.

    Raises:
        InputError: No model is named so.

    Source: Hendrycks & Dietterich 2019, section 4.2; Engstrom et al. 2019 (worst case).
    """
    of = _baselines(models, baseline)
    rows = [row for model in models for row in _rows(model, of(model), read)]
    return frame("shift", rows)


def _baselines(models: Sequence[Model], name: str | None) -> Callable[[Model], Model | None]:
    """From a model to what it is held against."""
    if name is None:
        return lambda _: None
    found = named(models, name)
    kinds = dict.fromkeys(name_of(model, by_seed=False) for model in found)
    if len(kinds) != 1:
        raise InputError(f"--baseline {name!r} is {' and '.join(kinds)}: name one")

    def of(model: Model) -> Model:
        here = [m for m in found if m.dataset == model.dataset] or found
        return next((m for m in here if m.seed == model.seed), here[0])

    return of


class Group(NamedTuple):
    """The measurements that a number is about, of one corruption."""

    corruption: str
    asked: list[Asked]

    @classmethod
    def all_of(cls, asked: Iterable[Asked]) -> "dict[tuple[str, str], Group]":
        groups: dict[tuple[str, str], Group] = {}
        for a in asked:
            groups.setdefault(_entry(a), cls(_corruption(a), [])).asked.append(a)
        return groups


def averaged_of(groups: Iterable[Group]) -> list[Group]:
    """Those that a mean corruption error is over: no grids, and none where one is named twice."""
    found = [group for group in groups if not is_grid(group.corruption)]
    return found if len({group.corruption for group in found}) == len(found) else []


def parts_of(errors: Errors, groups: Sequence[Group]) -> list[Errors]:
    """The columns of each group, of errors (n, k) of all their rows."""
    ends = [*accumulate(len(group.asked) for group in groups)]
    return [errors[:, start:stop] for start, stop in zip([0, *ends], ends, strict=False)]


def _rows(model: Model, baseline: Model | None, read: Read) -> list[Row]:
    asked = model.of("predict", "shift")
    rows = {a.measurement_id: prediction_rows([a], read) for a in asked}
    wrong = {key: wrong_of(found) for key, found in rows.items()}
    groups = Group.all_of(asked)
    averaged = averaged_of(groups.values())
    whole: Row = _mean("mean_corruption_error", averaged, wrong) if averaged else {}
    errors = {key: _mean("corruption_error", [group], wrong) for key, group in groups.items()}
    if baseline is not None:
        held = _Held.of(model, baseline, wrong, read)
        for key, group in groups.items():
            if not is_grid(group.corruption):
                errors[key] |= held.columns("corruption_error", [group])
        whole |= held.columns("mean_corruption_error", averaged) if averaged else {}
        whole |= {"baseline": name_of(baseline, by_seed=False)}
    worst = _worst_cases(asked, wrong)
    return [
        {
            **model.names, **_one(a, rows[a.measurement_id]), **whole, **errors[_entry(a)],
            **worst[_family(a)],
        }
        for a in asked
    ]  # fmt: skip


def _one(asked: Asked, rows: pl.DataFrame) -> Row:
    measured = calibrated(rows)
    parameters = asked.params.get("parameters") or {}
    severity = int(asked.params["source"].rpartition(":")[2])
    return {
        "entry": _entry(asked)[0],
        "corruption": _corruption(asked),
        "parameters": ", ".join(f"{key}={value}" for key, value in parameters.items()) or None,
        "severity": None if is_grid(_corruption(asked)) else severity,
        **accuracy("accuracy", rows, [asked]),
        **estimate("ece", measured.ece),
        "ece_n": measured.n,
        **extent("ece", [asked]),
    }


def _corruption(asked: Asked) -> str:
    return str(asked.params["source"].removeprefix("corruption:").rpartition(":")[0])


def is_grid(corruption: str) -> bool:
    return corruption in CORRUPTIONS and "grid" in CORRUPTIONS[corruption].traits


def _entry(asked: Asked) -> tuple[str, str]:
    """What the severities of one corruption have in common: its name in the sweep file, the rest.

    A name ends with the values of its axes, such as `blur[severity=3,width=2]`.
    """
    name, bracket, axes = asked.entry.partition("[")
    others = [axis for axis in axes.rstrip("]").split(",") if not axis.startswith("severity=")]
    shown = f"{name}[{','.join(others)}]" if bracket and any(others) else name
    return shown, json.dumps({**_rest(asked), "of": _corruption(asked)}, sort_keys=True)


def _rest(asked: Asked) -> dict[str, object]:
    rest = {key: value for key, value in asked.params.items() if key != "source"}
    return {**rest, "dataset": asked.dataset}


def _family(asked: Asked) -> tuple[str, str]:
    """What all rows of one entry have in common, whatever its axes."""
    return asked.entry.partition("[")[0], _corruption(asked)


def _mean(name: str, groups: Sequence[Group], wrong: Wrongs) -> Row:
    """The mean over groups of the mean error over each one's rows, on samples that all have."""
    every = [a for group in groups for a in group.asked]
    errors = on_common([wrong[a.measurement_id] for a in every])
    columns: Row = {**extent(name, every), f"{name}_n": len(errors)}
    return {**columns, **estimate(name, mean_error(parts_of(errors, groups)))}


def _worst_cases(asked: Sequence[Asked], wrong: Wrongs) -> dict[tuple[str, str], Row]:
    families: dict[tuple[str, str], list[Asked]] = {}
    for a in asked:
        families.setdefault(_family(a), []).append(a)
    name = "worst_case_accuracy"
    found: dict[tuple[str, str], Row] = {}
    for key, every in families.items():
        errors = on_common([wrong[a.measurement_id] for a in every])
        right = int((errors.max(axis=1, initial=0) == 0).sum())
        found[key] = {**rate(name, right, len(errors)), **extent(name, every)}
    return found


class _Held(NamedTuple):
    """A model and its baseline: what was asked of both, and what each got wrong."""

    wrong: Wrongs
    theirs: Mapping[str, Asked]  # by what was asked
    clean: list[tuple[Asked, Asked]]  # the model's and the baseline's, on the same data

    @classmethod
    def of(cls, model: Model, baseline: Model, wrong: Wrongs, read: Read) -> "_Held":
        theirs = {_question(a): a for a in baseline.of("predict", "shift")}
        ours = {_question(a): a for a in model.of("predict", "clean")}
        both = [(ours[_question(a)], a) for a in baseline.of("predict", "clean")
                if _question(a) in ours]  # fmt: skip
        needed = [*theirs.values(), *(a for pair in both for a in pair)]
        more = {
            a.measurement_id: wrong_of(prediction_rows([a], read))
            for a in needed
            if a.measurement_id not in wrong
        }
        return cls({**wrong, **more}, theirs, both)

    def columns(self, name: str, groups: Sequence[Group]) -> Row:
        """A model's error normalised by, and relative to, the baseline's."""
        ours = [a for group in groups for a in group.asked]
        theirs = [self.theirs.get(_question(a)) for a in ours]
        known = [a for a in theirs if a is not None]
        if len(known) < len(ours):
            lacking = {_corruption(a) for a, b in zip(ours, theirs, strict=True) if b is None}
            why = f"the baseline was not asked about {', '.join(sorted(lacking))}"
            return {f"{name}_normalised_why": why}
        row = self._against(f"{name}_normalised", groups, ours, known, ())
        clean = [pair for pair in self.clean if pair[0].dataset == ours[0].dataset]
        if len(clean) != 1:
            row[f"{name}_relative_why"] = "no clean predictions of both on these images"
        else:
            row |= self._against(f"{name}_relative", groups, ours, known, clean[0])
        return row

    def _against(
        self,
        name: str,
        groups: Sequence[Group],
        ours: list[Asked],
        theirs: list[Asked],
        clean: Sequence[Asked],
    ) -> Row:
        every = [*ours, *theirs, *clean]
        errors = on_common([self.wrong[a.measurement_id] for a in every])
        count = len(ours)
        found = against(
            parts_of(errors, groups),
            parts_of(errors[:, count:], groups),
            (errors[:, 2 * count], errors[:, 2 * count + 1]) if clean else None,
        )
        row: Row = {**estimate(name, found), f"{name}_n": len(errors), **extent(name, every)}
        if row[name] is None and len(errors):
            more = "no more errors than on clean images" if clean else "no errors"
            row[f"{name}_why"] = f"the baseline makes {more} under a corruption"
        return row


def _question(asked: Asked) -> str:
    """What was asked, of whichever model."""
    return json.dumps([asked.params, asked.dataset, asked.split], sort_keys=True)
