"""A sweep's plan as the metrics see it: trained models, and what was asked of each."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from robsweep.orchestrator.ranges import Ranges, intersect, union
from robsweep.tasks.catalogue.values import NORMS, PLAIN


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

    @property
    def property(self) -> str:
        """Of a screen or solve, as rows name it."""
        return str(self.params["property"])


@dataclass(frozen=True)
class Model:
    """A trained or imported model of a sweep, with its measurements in plan order."""

    model: str
    training: str | None
    seed: int | None
    model_id: str
    asked: Sequence[Asked]

    @property
    def names(self) -> dict[str, str | int | None]:
        """The columns that tell whose row it is."""
        return {
            "model": self.model,
            "training": self.training,
            "seed": self.seed,
            "model_id": self.model_id,
        }

    def of(self, kind: str, section: str | None = None) -> list[Asked]:
        return [a for a in self.asked if a.kind == kind and section in (None, a.section)]

    def balls(self) -> list[tuple[str, float]]:
        """Every (norm, eps) that an attack or a verifier was asked about, in a fixed order.

        Other properties than robustness in a ball, `other_questions`, are not among them.
        """
        plain = [a for a in self.asked if a.kind not in {"screen", "solve"} or a.property == PLAIN]
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


def models(plan: pl.DataFrame) -> list[Model]:
    """The models of a plan, in its order."""
    found: dict[str, Model] = {}
    asked: dict[str, list[Asked]] = {}
    for row in plan.iter_rows(named=True):
        key = row["model_id"]
        measurements = asked.setdefault(key, [])
        measurements.append(_asked(row))
        if key not in found:
            found[key] = Model(row["model"], row["training"], row["seed"], key, measurements)
    return list(found.values())


def outliers_of(models: Sequence[Model]) -> dict[str, set[str]]:
    """Model id -> the outlier sets that it, its members or what it started from was trained on."""
    made = {
        asked.measurement_id: asked
        for model in models
        for asked in model.asked
        if asked.kind in {"train", "ensemble"}
    }

    def seen(key: str) -> set[str]:
        if key not in made:
            return set()
        own = made[key].params.get("parameters", {}).get("outliers")
        return {own} - {None} | {name for need in made[key].needs for name in seen(need)}

    return {model.model_id: seen(model.model_id) for model in models}


def any_wanted(measurements: Iterable[Asked]) -> Ranges:
    """Samples that at least one of the measurements was asked for."""
    return union(piece for asked in measurements for piece in asked.wanted)


def all_wanted(measurements: Sequence[Asked]) -> Ranges:
    """Samples that every one of the measurements was asked for."""
    if not measurements:
        return ()
    common = measurements[0].wanted
    for asked in measurements[1:]:
        common = intersect(common, asked.wanted)
    return common


def _asked(row: Mapping[str, Any]) -> Asked:
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
        wanted=union((piece["start"], piece["stop"]) for piece in row["wanted"]),
        needs=tuple(row["needs"] or ()),
    )
