"""The table of attacks: each by itself, and the worst case over all of a norm."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from robsweep.orchestrator.results.metrics import attacks
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate, known, rate
from robsweep.orchestrator.results.tables.columns import Read, Row, frame
from robsweep.orchestrator.results.tables.honesty import UNCHECKED, Honesty, honesty_of

WRONG_SOURCE = "wrong at the source"  # of a transfer's samples that were not attacked


class Together(NamedTuple):
    """Attacks that are taken together, and those that had to be left out."""

    asked: Sequence[Asked]  # that work, or have not run yet
    missing: Mapping[str, str]  # entry -> why

    @property
    def ids(self) -> list[str]:
        return [a.measurement_id for a in self.asked]

    @property
    def text(self) -> str | None:
        """`hopskipjump: raised ValueError`, or None."""
        return "; ".join(f"{name}: {why}" for name, why in self.missing.items()) or None


def attack_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per attack and eps; `worst_case` is all attacks of a norm together."""
    return frame("attacks", (row for model in models for row in _attacks(model, read)))


def attack_rows(model: Model, read: Read, *more: str) -> pl.DataFrame:
    """A model's attack rows, only the columns that metrics need and some more."""
    needed = ("measurement_id", "sample", "eps", "success", "distance", "check", *more)
    return read("attacks", model.of("attack")).select(needed).collect()


def that_work(asked: Sequence[Asked], rows: pl.DataFrame, eps: float | None) -> Together:
    """Leaves out the attacks whose jobs all failed, and those that failed on many samples.

    An attack that has not run yet stays: without it, there is no worst case.
    """
    gave_up = attacks.gave_up(rows, [a.measurement_id for a in asked], eps)
    missing = {
        a.entry: gave_up.get(a.measurement_id) or a.why
        for a in asked
        if a.measurement_id in gave_up or (a.failed and not a.covered)
    }
    return Together([a for a in asked if a.entry not in missing], missing)


def survived(model: Model, norm: str, eps: float, rows: pl.DataFrame) -> Row:
    """Robust accuracy under all attacks that work, on the samples that all of them have covered."""
    asked = model.attacks_at(norm, eps)
    together = that_work(asked, rows, eps)
    samples = attacks.survival(rows, together.ids, eps, model.attacks_of(norm))
    n = len(samples)
    wrong = attacks.wrong_among(samples, _of_norm(model, norm, rows))
    return {
        **rate("robust_accuracy", n - int(samples["broken"].sum()), n),
        **extent("robust_accuracy", together.asked or asked, failed=not together.asked),
        "robust_accuracy_clean": 1 - wrong / n if n else None,
        "missing_attacks": together.text,
    }


def failed_checks(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """Attacks whose adversarials did not pass their check, the most frequent failures first."""
    rows: list[Row] = []
    for model in models:
        entries = {a.measurement_id: a.entry for a in model.of("attack")}
        bad = attacks.unsound(attack_rows(model, read))
        counted = bad.group_by("measurement_id", "eps", "check").len("samples")
        for row in counted.sort("samples", descending=True).to_dicts():
            rows.append({**model.names, **row, "attack": entries[row["measurement_id"]]})
    return pl.DataFrame(rows)


def _of_norm(model: Model, norm: str, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.filter(pl.col("measurement_id").is_in(model.attacks_of(norm)))


def _attacks(model: Model, read: Read) -> Iterator[Row]:
    rows = attack_rows(model, read, "n_forward", "seconds", "inferred_from_eps")
    honesty = honesty_of(model, read)
    for asked in model.of("attack"):
        own = rows.filter(pl.col("measurement_id") == asked.measurement_id)
        # a min-norm attack speaks of every ball of its norm that others were asked about
        balls = [eps for norm, eps in model.balls() if norm == asked.norm]
        radii: tuple[float | None, ...] = asked.eps or (None, *balls)
        for eps in radii:
            yield {**_attack(model, asked, own, eps), "honesty": _flag(honesty, asked)}
    for norm, eps in model.balls():
        if model.attacks_at(norm, eps):
            yield {
                **model.names,
                "attack": "worst_case",
                "norm": norm,
                "eps": eps,
                **survived(model, norm, eps, rows),
                "honesty": honesty.get(norm, UNCHECKED).text,
            }
    for sought in dict.fromkeys(a.norm for a in model.of("attack") if not a.eps):
        seekers = [a for a in model.of("attack") if a.norm == sought and not a.eps]
        together = that_work(seekers, rows, None)
        reached = attacks.distances(rows, together.ids, model.attacks_of(sought))
        yield {
            **model.names,
            "attack": "worst_case",
            "norm": sought,
            "eps": None,
            **_distances(reached, together.asked or seekers, failed=not together.asked),
            "missing_attacks": together.text,
            "honesty": honesty.get(str(sought), UNCHECKED).text,
        }


def _flag(honesty: Mapping[str, Honesty], asked: Asked) -> str | None:
    """What failing checks say of one attack."""
    return honesty.get(str(asked.norm), UNCHECKED).of(asked.entry)


def _attack(model: Model, asked: Asked, own: pl.DataFrame, eps: float | None) -> Row:
    summary = attacks.summarise(own, asked.measurement_id, eps)
    missing = that_work([asked], own, eps).text
    failed = missing is not None
    row: Row = {
        **model.names,
        "attack": asked.entry,
        "norm": asked.norm,
        "eps": eps,
        **estimate("attack_success_rate", summary.attack_success_rate),
        "attack_success_rate_n": summary.attack_success_rate_n,
        "attack_success_rate_status": extent("", [asked], failed=failed)["_status"],
        "missing_attacks": missing,
    }
    if eps is not None:
        row |= rate("robust_accuracy", summary.robust, summary.n)
        row |= extent("robust_accuracy", [asked], failed=failed)
        row["robust_accuracy_clean"] = summary.clean / summary.n if summary.n else None
    if not asked.eps:
        if eps is not None:
            return row
        row |= _distances(attacks.distances(own, [asked.measurement_id]), [asked], failed=failed)
    return row | _costs(own.filter(pl.col("eps").eq_missing(eps)))


def _costs(rows: pl.DataFrame) -> Row:
    """What the samples that were attacked at this eps have cost."""
    if rows.is_empty():
        return {}
    attacked = rows.filter(
        ~attacks.MISCLASSIFIED,
        pl.col("inferred_from_eps").is_null(),
        pl.col("check").ne_missing(WRONG_SOURCE),
    )
    return {
        "forward_per_sample": attacked["n_forward"].mean(),
        "seconds": rows["seconds"].sum(),
        "failed_checks": len(attacks.unsound(rows)),
    }


def _distances(reached: attacks.Distances, asked: Sequence[Asked], *, failed: bool) -> Row:
    return {
        **estimate("median_distance", reached.median),
        "median_distance_n": reached.n,
        **extent("median_distance", asked, failed=failed),
        "mean_min_distance": known(reached.mean),
        "mean_min_distance_n": reached.mean_n,
    }
