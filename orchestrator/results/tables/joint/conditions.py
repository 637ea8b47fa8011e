"""What a model is asked under: clean images, corruptions, attacks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from robsweep.orchestrator.results.metrics import attacks
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.tables.attacks import attack_rows, that_work
from robsweep.orchestrator.results.tables.calibration import prediction_rows
from robsweep.orchestrator.results.tables.columns import Read, Row
from robsweep.orchestrator.results.tables.shift import is_grid

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Condition:
    """Predictions under one condition, by sample."""

    columns: Row  # that tell it from others
    asked: Sequence[Asked]
    rows: pl.DataFrame  # sample, label, predicted, logits, confidence
    # of attacks: samples that fell to it, without those that are wrong as they are
    broken: frozenset[int] = field(default_factory=frozenset)
    failed: bool = False  # what has run is of no use

    @property
    def attacked(self) -> bool:
        return "attack" in self.columns

    @property
    def right(self) -> NDArray[np.bool_]:
        return (self.rows["predicted"] == self.rows["label"]).to_numpy()

    @property
    def confidence(self) -> Floats:
        return self.rows["confidence"].to_numpy().astype(np.float64)

    @property
    def logits(self) -> Floats:
        flat = self.rows["logits"].explode(empty_as_null=False).to_numpy().astype(np.float64)
        return flat.reshape(len(self.rows), -1) if len(self.rows) else flat.reshape(0, 1)


def conditions(model: Model, read: Read) -> Iterator[Condition]:
    """Clean predictions first, then those on corrupted images, then those under each attack."""
    clean = model.of("predict", "clean")
    if clean:
        yield Condition({}, clean, _by_sample(prediction_rows(clean, read)))
    for asked in model.of("predict", "shift"):
        name, _, severity = str(asked.params["source"]).removeprefix("corruption:").rpartition(":")
        known = None if is_grid(name) else int(severity)
        columns = {"corruption": name, "severity": known, "entry": asked.entry}
        yield Condition(columns, [asked], _by_sample(prediction_rows([asked], read)))
    yield from _attacked(model, read)


def _attacked(model: Model, read: Read) -> Iterator[Condition]:
    """Under attacks: samples on which the attack failed its check are left out."""
    if not model.of("attack"):
        return
    found = attack_rows(model, read)
    for asked in model.of("attack"):
        own = found.filter(pl.col("measurement_id") == asked.measurement_id)
        needed = ("source", "sample", "label", "predicted", "logits", "confidence")
        predictions = read("predictions", [asked]).select(needed).collect()
        for eps in asked.eps or (None,):
            here = own.filter(pl.col("eps").eq_missing(eps))
            sound = here.join(attacks.unsound(here).select("sample"), on="sample", how="anti")
            name = "min_norm" if eps is None else repr(eps)
            source = f"attack:{asked.measurement_id}:{name}"
            rows = predictions.filter(pl.col("source") == source).drop("source")
            fallen = sound.filter(pl.col("success"), ~attacks.MISCLASSIFIED)["sample"]
            failed = that_work([asked], own, eps).text is not None
            rows = (
                rows.clear()
                if failed
                else rows.join(sound.select("sample"), on="sample", how="semi")
            )
            yield Condition(
                _of_attack(asked, eps), [asked], _by_sample(rows), frozenset(fallen), failed
            )


def _of_attack(asked: Asked, eps: float | None) -> dict[str, Any]:
    return {
        "attack": asked.entry,
        "norm": asked.norm,
        "eps": eps,
        "detector": asked.params.get("detector"),
    }


def _by_sample(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.unique("sample").sort("sample")
