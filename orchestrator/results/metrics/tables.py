"""The tables of `robsweep show`: one row per thing compared, metrics with intervals and counts.

Each takes the models of a plan and a `Read`, which gives the rows that were asked for. What has
not been run yet is null with n = 0.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl

from robsweep.orchestrator.ranges import intersect, total
from robsweep.orchestrator.results.metrics import attacks, verification
from robsweep.orchestrator.results.metrics.calibration import Calibration, calibration
from robsweep.orchestrator.results.metrics.columns import SCHEMAS
from robsweep.orchestrator.results.metrics.estimates import estimates
from robsweep.orchestrator.results.metrics.ood import detection
from robsweep.orchestrator.results.metrics.planned import (
    Asked,
    Model,
    all_wanted,
    any_wanted,
    outliers_of,
)
from robsweep.orchestrator.results.metrics.rates import estimate, known, rate
from robsweep.tasks.catalogue.values import DISTANCE, PLAIN

Read = Callable[[str, Iterable[Asked]], pl.LazyFrame]
Row = dict[str, Any]


def frame(name: str, rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMAS[name])


def attack_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per attack and eps; `worst_case` is all attacks of a norm together."""
    return frame("attacks", (row for model in models for row in _attacks(model, read)))


def calibration_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per model and scaling, `none` first, on the clean evaluation split."""
    rows: list[Row] = []
    for model in models:
        clean = model.of("predict", "clean")
        unscaled: tuple[Asked | None, float] = (None, 1.0)
        fits = [unscaled, *temperatures(model, read)] if clean else []
        for scaling, temperature in fits:
            measured = calibrated(clean, temperature, read)
            rows.append(
                {
                    **model.names,
                    "scaling": "none" if scaling is None else scaling.entry,
                    "temperature": temperature,
                    **estimate("ece", measured.ece),
                    "ece_n": measured.n,
                    "ece_wanted": total(any_wanted(clean)),
                    "rms_ce": known(measured.rms_ce),
                    "mce": known(measured.mce),
                    **estimate("ece_equal_mass", measured.ece_equal_mass),
                    "brier": known(measured.brier),
                    "nll": known(measured.nll),
                }
            )
    return frame("calibration", rows)


def ood_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per scorer and OOD set; `seen` where the model was trained on outliers from there."""
    outliers = outliers_of(models)
    return frame(
        "ood",
        (
            {**row, "seen": row["ood_set"] in outliers[model.model_id]}
            for model in models
            for row in ood_rows(model, read)
        ),
    )


def shift_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per corruption and severity.

    `mean_corruption_error` is the plain mean of 1 - accuracy over all of a model's rows that have
    samples, not relative to a reference network as in Hendrycks & Dietterich 2019, section 4.1.
    """
    rows: list[Row] = []
    for model in models:
        own = [_shifted(model, asked, read) for asked in model.of("predict", "shift")]
        errors = [1 - row["accuracy"] for row in own if row["accuracy"] is not None]
        mean = sum(errors) / len(errors) if errors else None
        rows.extend({**row, "mean_corruption_error": mean} for row in own)
    return frame("shift", rows)


def verification_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per property, norm and eps, with a count of samples for each final verdict.

    Plain robustness comes first, and only it has a bracket. Estimates of a distance verify
    nothing: they have a median, and a count of the samples on which an attack refutes them.
    """
    rows: list[Row] = []
    for model in models:
        screens = model.of("screen")
        if not screens:
            continue
        final = verification.final_verdicts(read("verification", screens).collect())
        standing = attack_rows(model, read)
        for norm, eps in model.balls():
            if screens_here := model.screens_at(norm, eps):
                here = at(final, norm, eps)
                row = _answered(model, (PLAIN, norm, eps), screens_here, here)
                rows.append({**row, **bracketed(model, norm, eps, here, standing)})
        for question, screens_here in model.other_questions().items():
            if question[0] == DISTANCE:
                rows.append(_estimated(model, question[1], screens_here, read))
                continue
            here = at(final, *question[1:], property_=question[0])
            rows.append(_answered(model, question, screens_here, here))
    return frame("verification", rows)


def _answered(
    model: Model,
    question: tuple[str, str | None, float | None],
    screens: Sequence[Asked],
    final: pl.DataFrame,
) -> Row:
    counts = dict(final["verdict"].value_counts().iter_rows())
    return {
        **model.names,
        **dict(zip(("property", "norm", "eps"), question, strict=True)),
        **verified(final),
        "verified_accuracy_wanted": total(any_wanted(screens)),
        **{verdict: counts.get(verdict, 0) for verdict in verification.RANK},
        "over_reals": verification.over_reals(final),
        "seconds": final["seconds"].sum(),
    }


def _estimated(model: Model, norm: str | None, screens: Sequence[Asked], read: Read) -> Row:
    rows = at(read("verification", screens).collect(), norm, None, property_=DISTANCE)
    attacked = attack_rows(model, read)
    of_norm = attacked.filter(pl.col("measurement_id").is_in(model.attacks_of(norm)))
    measured = estimates(rows, of_norm)
    wrong = rows.filter(pl.col("verdict") == "misclassified")["sample"].n_unique()
    return {
        **model.names,
        "property": DISTANCE,
        "norm": norm,
        "misclassified": wrong,
        "unknown": measured.n - wrong,
        "seconds": rows["seconds"].sum(),
        **estimate("estimate_median", measured.median),
        "estimate_median_n": measured.n,
        "estimate_median_wanted": total(any_wanted(screens)),
        "estimate_violations": measured.violations,
        "estimate_violations_n": measured.violations_n,
    }


def attack_rows(model: Model, read: Read, *more: str) -> pl.DataFrame:
    """A model's attack rows, only the columns that metrics need and some more."""
    needed = ("measurement_id", "sample", "eps", "success", "distance", "check", *more)
    return read("attacks", model.of("attack")).select(needed).collect()


def at(
    rows: pl.DataFrame, norm: str | None, eps: float | None, *, property_: str = PLAIN
) -> pl.DataFrame:
    """The verdicts about one question."""
    return rows.filter(
        pl.col("property") == property_, pl.col("norm") == norm, pl.col("eps").eq_missing(eps)
    )


def verified(final: pl.DataFrame) -> Row:
    """Verified accuracy of one model, norm and eps: an open sample counts as not verified."""
    return rate("verified_accuracy", int((final["verdict"] == "verified").sum()), len(final))


def bracketed(
    model: Model, norm: str, eps: float, final: pl.DataFrame, attacked: pl.DataFrame
) -> Row:
    """The bracket on the samples that have both sides."""
    contributing, screens = model.attacks_at(norm, eps), model.screens_at(norm, eps)
    ids = [a.measurement_id for a in contributing]
    others = model.attacks_of(norm)
    survivors = attacks.survival(attacked, ids, eps, others) if contributing else None
    both = verification.bracket(final, survivors)
    wanted = any_wanted(screens)
    if contributing:
        wanted = intersect(wanted, all_wanted(contributing))
    return {
        "bracket_low": both.verified / both.n if both.n else None,
        "bracket_high": both.unbroken / both.n if both.n else None,
        "bracket_n": both.n,
        "bracket_wanted": total(wanted),
    }


def temperatures(model: Model, read: Read) -> Iterator[tuple[Asked, float]]:
    """The fitted temperatures of a model, in plan order."""
    asked = model.of("calibrate")
    fitted = dict(
        read("calibration", asked).select("measurement_id", "temperature").collect().iter_rows()
    )
    for fit in asked:
        if fit.measurement_id in fitted:
            yield fit, fitted[fit.measurement_id]


def calibrated(predictions: Iterable[Asked], temperature: float, read: Read) -> Calibration:
    """Calibration of these predictions after dividing the logits by the temperature."""
    rows = read("predictions", predictions).select("label", "logits", "confidence").collect()
    return calibrated_rows(rows, temperature)


def calibrated_rows(rows: pl.DataFrame, temperature: float) -> Calibration:
    """Calibration of prediction rows of one model.

    Unscaled, the stored confidence counts: some models have another one than the softmax.
    """
    n = len(rows)
    own = rows["confidence"].to_numpy().astype(np.float64) if temperature == 1 else None
    logits = rows["logits"].explode(empty_as_null=False).to_numpy().astype(np.float64)
    labels = rows["label"].to_numpy().astype(np.int64)
    shaped = logits.reshape(n, -1) if n else logits.reshape(0, 1)
    return calibration(shaped, labels, temperature, own)


def ood_rows(model: Model, read: Read) -> Iterator[Row]:
    """One row per scorer and OOD set of a model, in plan order."""
    asked = model.of("score")
    scores = read("ood_scores", asked).select("measurement_id", "score").collect()
    by_id = dict(scores.group_by("measurement_id").agg("score").iter_rows())
    of_id_set = {_scorer(a): by_id.get(a.measurement_id, []) for a in asked if _is_id(a)}
    for a in asked:
        if _is_id(a):
            continue
        ood, id_ = by_id.get(a.measurement_id, []), of_id_set.get(_scorer(a), [])
        measured = detection(ood, id_)
        yield {
            **model.names,
            "scorer": a.entry,
            "ood_set": a.params["ood_set"],
            **estimate("auroc", measured.auroc),
            "auroc_n": len(ood) if id_ else 0,
            "auroc_wanted": total(a.wanted),
            "aupr_out": known(measured.aupr_out),
            "aupr_in": known(measured.aupr_in),
            "fpr95_ood_pos": known(measured.fpr95_ood_pos),
            "fpr95_id_pos": known(measured.fpr95_id_pos),
            "id_n": len(id_),
        }


def _attacks(model: Model, read: Read) -> Iterator[Row]:
    rows = attack_rows(model, read, "n_forward", "seconds", "inferred_from_eps")
    for asked in model.of("attack"):
        own = rows.filter(pl.col("measurement_id") == asked.measurement_id)
        # a min-norm attack speaks of every ball of its norm that others were asked about
        balls = [eps for norm, eps in model.balls() if norm == asked.norm]
        radii: tuple[float | None, ...] = asked.eps or (None, *balls)
        for eps in radii:
            yield _attack(model, asked, own, eps)
    for norm, eps in model.balls():
        if together := model.attacks_at(norm, eps):
            yield {
                **model.names,
                "attack": "worst_case",
                "norm": norm,
                "eps": eps,
                **survived(model, together, rows, eps),
            }
    for sought in dict.fromkeys(a.norm for a in model.of("attack") if not a.eps):
        seekers = [a for a in model.of("attack") if a.norm == sought and not a.eps]
        ids = [a.measurement_id for a in seekers]
        reached = attacks.distances(rows, ids, model.attacks_of(sought))
        worst: Row = {**model.names, "attack": "worst_case", "norm": sought, "eps": None}
        yield {**worst, **_distances(reached, total(all_wanted(seekers)))}


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


def survived(model: Model, together: Sequence[Asked], attacked: pl.DataFrame, eps: float) -> Row:
    """Robust accuracy under all of these attacks together, on samples that all have covered."""
    ids = [a.measurement_id for a in together]
    samples = attacks.survival(attacked, ids, eps, model.attacks_of(together[0].norm))
    return {
        **rate("robust_accuracy", len(samples) - int(samples["broken"].sum()), len(samples)),
        "robust_accuracy_wanted": total(all_wanted(together)),
    }


def _attack(model: Model, asked: Asked, own: pl.DataFrame, eps: float | None) -> Row:
    wanted = total(asked.wanted)
    summary = attacks.summarise(own, asked.measurement_id, eps)
    row: Row = {
        **model.names,
        "attack": asked.entry,
        "norm": asked.norm,
        "eps": eps,
        **estimate("attack_success_rate", summary.attack_success_rate),
        "attack_success_rate_n": summary.attack_success_rate_n,
    }
    if eps is not None:
        row |= rate("robust_accuracy", summary.robust, summary.n)
        row |= {"robust_accuracy_wanted": wanted}
    if not asked.eps:
        if eps is not None:
            return row
        row |= _distances(attacks.distances(own, [asked.measurement_id]), wanted)
    cost = own.filter(pl.col("eps").eq_missing(eps))
    return row | {
        "forward_per_sample": cost.filter(pl.col("inferred_from_eps").is_null())[
            "n_forward"
        ].mean(),
        "seconds": cost["seconds"].sum(),
        "failed_checks": len(attacks.unsound(cost)),
    }


def _distances(reached: attacks.Distances, wanted: int) -> Row:
    return {
        **estimate("median_distance", reached.median),
        "median_distance_n": reached.n,
        "median_distance_wanted": wanted,
        "mean_min_distance": known(reached.mean),
        "mean_min_distance_n": reached.mean_n,
    }


def _shifted(model: Model, asked: Asked, read: Read) -> Row:
    corruption, severity = asked.params["source"].removeprefix("corruption:").rsplit(":", 1)
    rows = (
        read("predictions", [asked]).select("label", "predicted", "logits", "confidence").collect()
    )
    measured = calibrated_rows(rows, 1.0)
    wanted = total(asked.wanted)
    return {
        **model.names,
        "corruption": corruption,
        "severity": int(severity),
        **accuracy("accuracy", rows),
        "accuracy_wanted": wanted,
        **estimate("ece", measured.ece),
        "ece_n": measured.n,
        "ece_wanted": wanted,
    }


def accuracy(name: str, predictions: pl.DataFrame) -> Row:
    """Accuracy of prediction rows, as columns."""
    correct = int((predictions["predicted"] == predictions["label"]).sum())
    return rate(name, correct, len(predictions))


def _is_id(asked: Asked) -> bool:
    return asked.params["ood_set"] is None


def _scorer(asked: Asked) -> str:
    """What an ID set and the OOD sets of one scorer have in common."""
    common = {key: value for key, value in asked.params.items() if key != "ood_set"}
    return json.dumps(common, sort_keys=True)
