"""Columns of the tables of `robsweep show`: a metric brings its interval and its counts.

`<metric>_status` is `not asked`, `not run`, `running`, `failed` or `done`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import polars as pl

from robsweep.orchestrator.results.metrics.planned import Asked

Read = Callable[[str, Iterable[Asked]], pl.LazyFrame]  # the rows of a table that were asked for
Row = dict[str, Any]

_TEXT, _INT, _FLOAT = pl.String, pl.Int64, pl.Float64
_MODEL = {"model": _TEXT, "training": _TEXT, "seed": _INT, "model_id": _TEXT}
_ON = {"dataset": _TEXT}  # that `sample` counts in; of OOD detection, the ID data


def _metric(name: str) -> dict[str, Any]:
    return {
        name: _FLOAT,
        f"{name}_low": _FLOAT,
        f"{name}_high": _FLOAT,
        f"{name}_n": _INT,
        f"{name}_wanted": _INT,
        f"{name}_status": _TEXT,
    }


def _to_baseline(name: str) -> dict[str, Any]:
    """Ratios, 1 where a model is as good as the baseline; `_why` where there is none."""
    return {
        **_metric(f"{name}_normalised"), f"{name}_normalised_why": _TEXT,
        **_metric(f"{name}_relative"), f"{name}_relative_why": _TEXT,
    }  # fmt: skip


def _limits(*names: str) -> dict[str, Any]:
    return {f"{name}_{end}": _FLOAT for name in names for end in ("low", "high")}


_AUROC = {  # `auroc_n` is that of the OOD set
    **_metric("auroc"), "auroc_n_id": _INT, "auroc_wanted_id": _INT, "auroc_n_ood": _INT,
}  # fmt: skip
# `_clean`: the accuracy without any attack on the very samples of the number
_ROBUST = {**_metric("robust_accuracy"), "robust_accuracy_clean": _FLOAT}
_BRACKET = {
    "bracket_low": _FLOAT, "bracket_high": _FLOAT, "bracket_n": _INT, "bracket_wanted": _INT,
    "bracket_status": _TEXT, "bracket_clean": _FLOAT,
}  # fmt: skip
_QUESTION = {
    "metric": _TEXT, "dataset": _TEXT, "norm": _TEXT, "eps": _FLOAT, "scorer": _TEXT,
    "ood_set": _TEXT, "group": _TEXT,
}  # fmt: skip
# from both sides, over samples whose nearest adversarial was asked for; `_exact`: where they meet
_DISTANCES = {
    "mean_min_distance_lower": _FLOAT, "mean_min_distance_lower_reals": _FLOAT,
    "mean_min_distance_upper": _FLOAT, "mean_min_distance_n": _INT,
    "mean_min_distance_exact": _INT, "mean_min_distance_wanted": _INT,
    "mean_min_distance_status": _TEXT,
}  # fmt: skip
# what a number stands under: attacks that it is without, and checks that contradict it
_TRUST = {"missing_attacks": _TEXT, "honesty": _TEXT}

SCHEMAS: dict[str, dict[str, Any]] = {
    "leaderboard": {
        **_MODEL, "dataset": _TEXT, "norm": _TEXT, "eps": _FLOAT,
        **_metric("clean_accuracy"), **_ROBUST, **_metric("verified_accuracy"),
        "unsolved": _INT, **_BRACKET, **_TRUST,
        **_metric("ece"), **_metric("ece_scaled"), "ece_scaled_at_bound": pl.Boolean,
        **_AUROC, "auroc_of": _TEXT,
        "warnings": _TEXT, **_DISTANCES,
    },
    "attacks": {
        **_MODEL, "attack": _TEXT, "norm": _TEXT, "eps": _FLOAT,
        **_ROBUST, **_metric("attack_success_rate"),
        **_metric("median_distance"), "mean_min_distance": _FLOAT, "mean_min_distance_n": _INT,
        "forward_per_sample": _FLOAT, "seconds": _FLOAT, "failed_checks": _INT, **_TRUST, **_ON,
    },
    "calibration": {
        **_MODEL, "scaling": _TEXT, "temperature": _FLOAT, "at_bound": pl.Boolean,
        **_metric("ece"), "rms_ce": _FLOAT,
        "mce": _FLOAT, "ece_equal_mass": _FLOAT, "ece_equal_mass_low": _FLOAT,
        "ece_equal_mass_high": _FLOAT, "brier": _FLOAT, "nll": _FLOAT,
        "ece_debiased": _FLOAT, "ece_if_calibrated": _FLOAT, "ece_if_calibrated_high": _FLOAT,
        "ece_equal_mass_debiased": _FLOAT,
        "rms_ce_rough_low": _FLOAT, "rms_ce_rough_high": _FLOAT, "rms_ce_debiased": _FLOAT,
        "smooth_ece": _FLOAT, "smooth_ece_rough_low": _FLOAT, "smooth_ece_rough_high": _FLOAT,
        "smooth_ece_debiased": _FLOAT, "smooth_ece_bandwidth": _FLOAT, "classwise_ece": _FLOAT,
        "few_errors": pl.Boolean,  # limits hold with at least 95 %, not with about as much
        "scaled_accuracy": _FLOAT, "scaled_accuracy_low": _FLOAT, "scaled_accuracy_high": _FLOAT,
        "scaled_accuracy_n": _INT,  # some scalings change which class is predicted
        "legacy_ece": _FLOAT, "legacy_rms_ce": _FLOAT, "legacy_mce": _FLOAT,
        "scaling_why": _TEXT,  # at its bound, or not defined
        **_ON,
    },
    "ood": {
        **_MODEL, "scorer": _TEXT, "ood_set": _TEXT, "seen": pl.Boolean, **_AUROC,
        "aupr_out": _FLOAT,
        "aupr_in": _FLOAT, "fpr95_ood_pos": _FLOAT, "fpr95_id_pos": _FLOAT, "id_n": _INT,
        **_limits("aupr_out", "aupr_in", "fpr95_ood_pos", "fpr95_id_pos"), "why": _TEXT, **_ON,
        "group": _TEXT, "norm": _TEXT, "eps": _FLOAT, "seen_by": _TEXT,
        **_metric("auroc_full_spectrum"), "auroc_full_spectrum_n_id": _INT,
        "auroc_full_spectrum_wanted_id": _INT,
    },
    "shift": {
        **_MODEL, "entry": _TEXT, "corruption": _TEXT, "parameters": _TEXT, "severity": _INT,
        **_metric("accuracy"), **_metric("ece"),
        "corruption_error": _FLOAT, "corruption_error_n": _INT, "corruption_error_wanted": _INT,
        "corruption_error_status": _TEXT,
        "mean_corruption_error": _FLOAT, "mean_corruption_error_n": _INT,
        "mean_corruption_error_wanted": _INT, "mean_corruption_error_status": _TEXT,
        "corruption_error_low": _FLOAT, "corruption_error_high": _FLOAT,
        "mean_corruption_error_low": _FLOAT, "mean_corruption_error_high": _FLOAT,
        **_metric("worst_case_accuracy"), "baseline": _TEXT,
        **_to_baseline("corruption_error"), **_to_baseline("mean_corruption_error"),
        **_ON,
    },
    "verification": {
        **_MODEL, "property": _TEXT, "norm": _TEXT, "eps": _FLOAT, **_metric("verified_accuracy"),
        "verified": _INT, "falsified": _INT, "misclassified": _INT, "timeout": _INT,
        "unknown": _INT, "error": _INT, "over_reals": _INT, "unsolved": _INT,
        **_BRACKET, **_TRUST, "seconds": _FLOAT,
        **_metric("estimate_median"), "estimate_violations": _INT, "estimate_violations_n": _INT,
        **_ON, "carried": _INT, "exact": _INT, **_DISTANCES,
        "mean_worst_margin_lower": _FLOAT, "mean_worst_margin_upper": _FLOAT,
        "mean_worst_margin_n": _INT,
    },
    "optimality": {
        **_MODEL, "attack": _TEXT, "norm": _TEXT, "gives": _TEXT, **_metric("ratio"),
        "ratio_at_least": _FLOAT, "excess": _FLOAT, "exact_n": _INT, "not_found": _INT,
        "missing_attacks": _TEXT, **_ON,
    },
    "sensitivity": {
        **_MODEL, "method": _TEXT, "eps": _FLOAT, **_metric("median_width"),
        "mean_width": _FLOAT, "mean_log_volume": _FLOAT, "infinite_log_volume": _INT, **_ON,
    },
    "landscape": {
        **_MODEL, "landscape": _TEXT, "eps": _FLOAT, "measure": _TEXT,
        "chains": _INT, "chains_planned": _INT, "minima": _INT,
        "lowest_loss": _FLOAT, "highest_loss": _FLOAT,
        **_metric("sensitivity_correlation"), **_metric("robust_accuracy_correlation"), **_ON,
    },
    "joint": {
        "question": _TEXT, **_MODEL, "dataset": _TEXT, "entry": _TEXT, "corruption": _TEXT,
        "severity": _INT, "attack": _TEXT, "detector": _TEXT, "norm": _TEXT, "eps": _FLOAT,
        "scorer": _TEXT, **_metric("accuracy"), **_metric("ece"), **_metric("aurc"),
        **_metric("e_aurc"), **_metric("error_auroc"), **_AUROC, **_metric("accepted"),
        **_metric("accepted_accuracy"), **_metric("accepted_right"), **_ROBUST,
        **_metric("verified_accuracy"), "unsolved": _INT, "missing_attacks": _TEXT, "why": _TEXT,
    },
    "comparisons": {
        **_QUESTION, **_MODEL, **{f"other_{name}": kind for name, kind in _MODEL.items()},
        "difference": _FLOAT, **_limits("difference"), "difference_n": _INT,
        "difference_n_id": _INT, "p": _FLOAT, "p_holm": _FLOAT, "compared": _INT, "test": _TEXT,
        "n": _INT, "other_n": _INT, "why": _TEXT, "note": _TEXT, "seeds": _INT, "other_seeds": _INT,
        "other_scorer": _TEXT,
    },
    "tiers": {
        **_QUESTION, "tier": _INT, **_MODEL, "value": _FLOAT, **_limits("value"), "value_n": _INT,
        "first_in_halves": _FLOAT, "apart_within": _TEXT, "alike_beyond": _TEXT,
        "seeds": _INT, "seen_by": _TEXT,
    },
    "honesty": {
        **_MODEL, "norm": _TEXT, "check": _TEXT, "status": _TEXT, "n": _INT, "violations": _INT,
        "samples": _TEXT, "attacks": _TEXT, "detail": _TEXT, **_ON,
    },
}  # fmt: skip


def frame(name: str, rows: Iterable[Row]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=SCHEMAS[name])
