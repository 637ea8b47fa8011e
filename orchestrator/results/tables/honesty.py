"""The table of honesty checks: which results look as if the attacks were too weak."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from robsweep.orchestrator.results.metrics.attacks import SOUND, breaks_from
from robsweep.orchestrator.results.metrics.honesty_checks import (
    CHECKS,
    RANK,
    SOUNDNESS,
    Evidence,
    Finding,
)
from robsweep.orchestrator.results.metrics.honesty_compared import access_of, harder
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.verification import OF_THE_LABEL, contradictions
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.tasks.catalogue import DATASETS
from robsweep.tasks.catalogue.values import NORMS
from robsweep.tasks.catalogue.words import base_of

SHOWN = 10
_NEEDED = (
    "measurement_id", "sample", "eps", "success", "distance", "check", "model_id", "dataset",
    "split", "attack", "norm", "inferred_from_eps", "broken_again", "n_backward", "bad_gradients",
)  # fmt: skip

# Shares of the largest distance between two images. At linf 0.5 every image can become plain grey;
# in l2 and l1 that takes half of it too, but 5 and 100 on MNIST are far beyond what is claimed.
HUGE = {"linf": 0.5, "l2": 5 / 28, "l1": 100 / 784, "l0": 0.5}
_MNIST = (1, 28, 28)  # in place of the shape of a data set that the catalogue has not


@dataclass(frozen=True)
class Honesty:
    """What the checks say of one model under the attacks of one norm."""

    findings: Mapping[str, Finding] = field(default_factory=dict)

    @property
    def text(self) -> str | None:
        """`fail: <check> (12 of 250)`, `warn`, `pass`, or None where no check could run."""
        ran = [found.status for found in self.findings.values() if found.status != "not run"]
        if not ran:
            return None
        return self._failing(None) or max(ran, key=RANK.__getitem__)

    def at(self, *, attacked: bool) -> str | None:
        """The same for one ball: where no attack was asked about it, only proofs are in doubt."""
        return self.text if attacked else self._failing(None, only=SOUNDNESS)

    def of(self, entry: str) -> str | None:
        """The checks that fail for this attack's sake; None where none does."""
        return self._failing(entry)

    def _failing(self, entry: str | None, only: str | None = None) -> str | None:
        named = [
            f"{name} ({len(found.violations)} of {found.n})"
            for name, found in self.findings.items()
            if found.status == "fail"
            and (entry is None or entry in found.attacks)
            and only in (None, name)
        ]
        return "fail: " + "; ".join(named) if named else None


UNCHECKED = Honesty()


def honesty_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per model, norm and check, worst first; last what lacked what it needs."""
    rows = [row for model in models for row in _rows(model, read)]
    return frame("honesty", sorted(rows, key=lambda row: -RANK[row["status"]]))


def honesty_of(model: Model, read: Read) -> dict[str, Honesty]:
    """Norm -> what the checks say."""
    return {
        evidence.norm: Honesty({name: check(evidence) for name, check in CHECKS.items()})
        for evidence in _evidence(model, read)
    }


def _rows(model: Model, read: Read) -> Iterator[Row]:
    for norm, honesty in honesty_of(model, read).items():
        for name, found in honesty.findings.items():
            yield {
                **model.names,
                "norm": norm,
                "check": name,
                "status": found.status,
                "n": found.n,
                "violations": len(found.violations),
                "samples": ", ".join(map(str, found.violations[:SHOWN])) or None,
                "attacks": ", ".join(found.attacks) or None,
                "detail": found.detail,
            }


def _evidence(model: Model, read: Read) -> Iterator[Evidence]:
    screens = model.of("screen")
    asked = [*model.of("attack"), *screens]
    norms = [norm for norm in NORMS if norm in {a.norm for a in asked}]
    if not norms:
        return
    rows = read("attacks", model.of("attack")).select(_NEEDED).collect()
    verdicts = read("verification", screens).collect()
    alarms = contradictions(verdicts, breaks_from(rows.lazy()))
    sound = pl.col("success") | pl.col("check").is_in([*SOUND])
    rows = _right(rows.filter(sound))
    for norm in norms:
        attacks = [
            a
            for a in model.of("attack")
            if a.norm == norm and not harder(a) and (a.covered or not a.failed)
        ]
        own, proved = rows.filter(pl.col("norm") == norm), verdicts.filter(pl.col("norm") == norm)
        contradicted = alarms.filter(pl.col("norm") == norm)["sample"]
        attacked = proved.filter(
            pl.col("verdict") == "verified",
            pl.col("property").str.contains(OF_THE_LABEL),
            pl.col("sample").is_in(own["sample"].implode()),
        )["sample"]
        yield Evidence(
            norm=norm,
            huge=huge(norm, asked[0].dataset),
            attacks=attacks,
            rows=own,
            margins=_margins(model, attacks, own, read),
            proved=pl.concat([attacked, contradicted]).unique().sort().to_list(),
            contradicted=contradicted.unique().sort().to_list(),
        )


def huge(norm: str, dataset: str) -> float:
    """The smallest radius that no model should withstand."""
    shape = DATASETS[base].shape if (base := base_of(dataset)) in DATASETS else _MNIST
    values = math.prod(shape)
    pixels = values // shape[0] if len(shape) > 1 else values
    largest = {"linf": 1.0, "l2": math.sqrt(values), "l1": float(values), "l0": float(pixels)}
    return HUGE[norm] * largest[norm]


def _right(rows: pl.DataFrame) -> pl.DataFrame:
    """Without the misclassified samples, which are those broken at distance 0."""
    wrong = rows.filter(pl.col("success"), pl.col("distance") == 0)["sample"].unique()
    return rows.filter(~pl.col("sample").is_in(wrong.implode()))


def _margins(
    model: Model, attacks: Sequence[Asked], rows: pl.DataFrame, read: Read
) -> pl.DataFrame:
    """Of white-box attacks' unbroken samples: the margin clean, and at what the attack returned.

    Returns:
        `measurement_id, eps, sample, before, after`.
    """
    white = [a for a in attacks if access_of(a) == "white_box"]
    sources = pl.DataFrame(
        [
            (a.measurement_id, eps, f"attack:{a.measurement_id}:{_eps_name(eps)}")
            for a in white
            for eps in a.eps or (None,)
        ],
        schema={"measurement_id": pl.String, "eps": pl.Float64, "source": pl.String},
        orient="row",
    )
    key = ["measurement_id", "sample", "source"]
    unbroken = rows.filter(~pl.col("success"), pl.col("check") == "ok").join(
        sources, on=["measurement_id", "eps"], nulls_equal=True
    )
    wanted = unbroken.select(*key, "eps").lazy()
    needed = (*key, "label", "logits")
    adversarial = read("predictions", white).select(needed).join(wanted, on=key, how="inner")
    clean = read("predictions", model.of("predict", "clean")).select(needed)
    after = _with_margin(adversarial.collect(), "after")
    before = _with_margin(clean.join(wanted, on="sample", how="semi").collect(), "before")
    return after.join(before.select("sample", "before"), on="sample").select(
        "measurement_id", "eps", "sample", "before", "after"
    )


def _eps_name(eps: float | None) -> str:
    return "min_norm" if eps is None else repr(eps)


def _with_margin(predictions: pl.DataFrame, name: str) -> pl.DataFrame:
    """Adds the label's logit minus the largest other one."""
    n = len(predictions)
    if not n:
        return predictions.with_columns(pl.lit(None, pl.Float64).alias(name))
    flat = predictions["logits"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    logits, label = flat.reshape(n, -1), predictions["label"].to_numpy()
    own = logits[np.arange(n), label]
    logits[np.arange(n), label] = -np.inf
    return predictions.with_columns(pl.Series(name, own - logits.max(axis=1)))
