"""A sweep's plan as the metrics see it: trained models, and what was asked of each."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from types import MappingProxyType
from typing import Any, NamedTuple

import polars as pl

from robsweep.orchestrator.ranges import Ranges, intersect, subtract, union
from robsweep.tasks.catalogue.values import NORMS, PLAIN

Coverage = Callable[[str], Ranges]


class Failure(NamedTuple):
    """What of a measurement failed."""

    samples: Ranges
    why: str


ASKING = frozenset({"screen", "solve", "cross_check"})  # kinds that are about a property
NOTHING = Failure((), "")
NO_FAILURES: Mapping[str, Failure] = MappingProxyType({})
NO_WARNINGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Asked:
    """One measurement of a plan."""

    measurement_id: str
    kind: str
    section: str
    entry: str
    name: str
    model_id: str
    dataset: str
    split: str
    norm: str | None
    eps: tuple[float, ...]  # empty: min-norm, or eps means nothing here
    params: Mapping[str, Any]
    wanted: Ranges
    needs: tuple[str, ...]
    covered: Ranges = ()  # of these, the samples that are done
    failed: Ranges = ()  # of these, the samples whose job failed and was not done since
    why: str = ""  # the last of these jobs failed
    blocked: str = ""  # something that it needs has failed, and why: it cannot run
    groups: tuple[str, ...] = ()  # of an OOD set, that are asked for as a whole
    shifted: bool = False  # an OOD set that is a corruption of the ID data, or the other way round

    @property
    def property(self) -> str:
        """Of one of `ASKING`, as rows name it."""
        return str(self.params["property"])


@dataclass(frozen=True)
class Model:
    """A trained or imported model of a sweep on one data set, with what was measured there.

    Sample 5 of two data sets are two images: nothing is taken together across them. In plan order;
    a fit on the sweep's own data is there for every data set that it may be applied to.
    """

    model: str
    training: str | None
    seed: int | None
    model_id: str
    asked: Sequence[Asked]
    warnings: str | None = None  # what was seen when it was first called
    dataset: str | None = None  # that `sample` counts in; of OOD detection, the ID data
    outliers: frozenset[str] = frozenset()  # the sets that it, its members or its start trained on

    @property
    def names(self) -> dict[str, str | int | None]:
        """The columns that tell whose row it is."""
        return {
            "model": self.model,
            "training": self.training,
            "seed": self.seed,
            "model_id": self.model_id,
            "dataset": self.dataset,
        }

    def of(self, kind: str, section: str | None = None) -> list[Asked]:
        return [a for a in self.asked if a.kind == kind and section in (None, a.section)]

    def balls(self) -> list[tuple[str, float]]:
        """Every (norm, eps) that an attack or a verifier was asked about, in a fixed order.

        Other properties than robustness in a ball, `other_questions`, are not among them.
        """
        plain = [a for a in self.asked if a.kind not in ASKING or a.property == PLAIN]
        balls = {(a.norm, eps) for a in plain if a.norm is not None for eps in a.eps}
        return sorted(balls, key=lambda ball: (NORMS.index(ball[0]), ball[1]))

    def attacks_at(self, norm: str, eps: float) -> list[Asked]:
        """The attacks that speak of this ball: run at exactly this eps, or min-norm."""
        return [a for a in self.of("attack") if a.norm == norm and (not a.eps or eps in a.eps)]

    def attacks_of(self, norm: str | None) -> list[str]:
        """Measurement ids of all attacks of a norm, whatever their eps."""
        return [a.measurement_id for a in self.of("attack") if a.norm == norm]

    def screens_at(self, norm: str, eps: float) -> list[Asked]:
        return [
            a for a in self.of("screen") if a.property == PLAIN and a.norm == norm and eps in a.eps
        ]

    def other_questions(self) -> dict[tuple[str, str | None, float | None], list[Asked]]:
        """(property, norm, eps) -> screens, of what is not plain robustness; a box has no eps."""
        found: dict[tuple[str, str | None, float | None], list[Asked]] = {}
        for screen in self.of("screen"):
            if screen.property != PLAIN:
                for eps in screen.eps or (None,):
                    found.setdefault((screen.property, screen.norm, eps), []).append(screen)
        return found


def models(
    plan: pl.DataFrame,
    coverage: Coverage = lambda _: (),
    failures: Mapping[str, Failure] = NO_FAILURES,
    warnings: Mapping[str, str] = NO_WARNINGS,
) -> list[Model]:
    """The models of a plan, in its order, on each of their data sets, the sweep's own first.

    Args:
        coverage: Measurement id -> samples done.
        failures: Measurement id -> samples whose job failed.
        warnings: Model id -> what was seen of it.
    """
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in plan.iter_rows(named=True):
        rows.setdefault(row["model_id"], []).append(row)
    found = [
        Model(
            own[0]["model"], own[0]["training"], own[0]["seed"], key, asked, warnings.get(key), name
        )
        for key, own in rows.items()
        for name, asked in _by_dataset(own, coverage, failures).items()
    ]
    made = {asked.measurement_id: asked for model in found for asked in model.asked}
    return [
        replace(
            model,
            asked=[replace(asked, blocked=_blocked(asked, made)) for asked in model.asked],
            outliers=_outliers(model.model_id, made),
        )
        for model in found
    ]


def _by_dataset(
    rows: Sequence[Mapping[str, Any]], coverage: Coverage, failures: Mapping[str, Failure]
) -> dict[str, list[Asked]]:
    """The measurements of one model by the data set whose numbers they go into."""
    own = str(rows[0]["dataset"])
    clean = (str(row["dataset"]) for row in rows if row["section"] == "clean")
    found: dict[str, list[Asked]] = {name: [] for name in (own, *clean)}
    for row in rows:
        asked = _asked(row, coverage, failures)
        uses = json.loads(row.get("uses_json") or "[]")
        for name in dict.fromkeys(use["dataset"] for use in uses):
            here = [use for use in uses if use["dataset"] == name]
            groups = dict.fromkeys(group for use in here for group in use["groups"])
            found[name].append(
                replace(
                    asked,
                    entry=here[0]["entry"],
                    groups=tuple(groups),
                    shifted=any(use["shifted"] for use in here),
                    params=_named(asked.params, here[0].get("label", "")),
                )
            )
        if uses:
            continue
        if asked.kind == "calibrate" and asked.dataset == own:
            for measurements in found.values():
                measurements.append(asked)
        else:  # of an OOD set, where a plan of before does not say beside which data
            found[asked.dataset if asked.dataset in found else own].append(asked)
    return found


def _named(params: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    """With an OOD set as readers know it, where rows name it by an id."""
    return {**params, "ood_set": label} if label and "ood_set" in params else params


def failures_of(jobs: pl.DataFrame) -> dict[str, Failure]:
    """The samples of failed jobs, by measurement, and why the last one failed.

    Args:
        jobs: Rows of the jobs table.
    """
    bad = jobs.filter(pl.col("status").is_in(["failed", "timeout"])).sort("started_at")
    pieces: dict[str, list[tuple[int, int]]] = {}
    why: dict[str, str] = {}
    needed = ("measurement_id", "start", "stop", "status", "error")
    for name, start, stop, status, error in bad.select(needed).iter_rows():
        pieces.setdefault(name, []).append((start, stop))
        why[name] = _reason(status, error or "")
    return {name: Failure(union(ranges), why[name]) for name, ranges in pieces.items()}


def _reason(status: str, error: str) -> str:
    """`time limit`, or `raised ValueError`; the traceback is for `robsweep explain`."""
    if status == "timeout":
        return "time limit"
    last = error.strip().rpartition("\n")[2]
    raised = re.match(r"([A-Za-z_][\w.]*)(:|$)", last)
    return f"raised {raised[1].rpartition('.')[2]}" if raised else "raised"


def _outliers(key: str, made: Mapping[str, Asked]) -> frozenset[str]:
    """The outlier sets that a model, its members or what it started from was trained on."""
    if key not in made:
        return frozenset()
    own = made[key].params.get("parameters", {}).get("outliers")
    return frozenset({own} - {None}).union(*(_outliers(need, made) for need in made[key].needs))


def _blocked(asked: Asked, made: Mapping[str, Asked]) -> str:
    """Which of the measurements that it rests on has failed, and why; empty of one that ran."""
    if asked.covered or asked.kind == "solve":  # a screen that failed leaves others to solve
        return ""
    for need in (made[key] for key in asked.needs if key in made):
        if need.failed and not need.covered:
            return f"its {need.kind} failed: {need.why}"
        if not need.covered and (why := _blocked(need, made)):
            return why
    return ""


def any_wanted(measurements: Iterable[Asked]) -> Ranges:
    """Samples that at least one of the measurements was asked for."""
    return union(piece for asked in measurements for piece in asked.wanted)


def all_wanted(measurements: Sequence[Asked]) -> Ranges:
    """Samples that every one of the measurements was asked for."""
    return _common([asked.wanted for asked in measurements])


def all_covered(measurements: Sequence[Asked]) -> Ranges:
    """Samples that every one of the measurements has covered."""
    return _common([asked.covered for asked in measurements])


def any_covered(measurements: Iterable[Asked]) -> Ranges:
    """Samples that at least one of the measurements has covered."""
    return union(piece for asked in measurements for piece in asked.covered)


def _common(ranges: Sequence[Ranges]) -> Ranges:
    return reduce(intersect, ranges) if ranges else ()


def _asked(row: Mapping[str, Any], coverage: Coverage, failures: Mapping[str, Failure]) -> Asked:
    wanted = union((piece["start"], piece["stop"]) for piece in row["wanted"])
    covered = intersect(wanted, coverage(row["measurement_id"]))
    failure = failures.get(row["measurement_id"], NOTHING)
    return Asked(
        measurement_id=row["measurement_id"],
        kind=row["kind"],
        section=row["section"],
        entry=row["entry"],
        name=row["name"],
        model_id=row["model_id"],
        dataset=row["dataset"],
        split=row["split"],
        norm=row["norm"],
        eps=tuple(row["eps"] or ()),
        params=json.loads(row["params_json"]),
        wanted=wanted,
        needs=tuple(row["needs"] or ()),
        covered=covered,
        failed=intersect(subtract(wanted, covered), failure.samples),
        why=failure.why,
    )
