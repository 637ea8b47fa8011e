"""Columns of the tables of `robsweep show`: a metric brings its interval and its counts."""

from typing import Any

import polars as pl

_TEXT, _INT, _FLOAT = pl.String, pl.Int64, pl.Float64
_MODEL = {"model": _TEXT, "training": _TEXT, "seed": _INT, "model_id": _TEXT}


def _metric(name: str) -> dict[str, Any]:
    return {
        name: _FLOAT,
        f"{name}_low": _FLOAT,
        f"{name}_high": _FLOAT,
        f"{name}_n": _INT,
        f"{name}_wanted": _INT,
    }


SCHEMAS: dict[str, dict[str, Any]] = {
    "leaderboard": {
        **_MODEL, "dataset": _TEXT, "norm": _TEXT, "eps": _FLOAT,
        **_metric("clean_accuracy"), **_metric("robust_accuracy"), **_metric("verified_accuracy"),
        "bracket_low": _FLOAT, "bracket_high": _FLOAT, "bracket_n": _INT, "bracket_wanted": _INT,
        **_metric("ece"), **_metric("ece_scaled"), **_metric("auroc"), "auroc_of": _TEXT,
    },
    "attacks": {
        **_MODEL, "attack": _TEXT, "norm": _TEXT, "eps": _FLOAT,
        **_metric("robust_accuracy"), **_metric("attack_success_rate"),
        **_metric("median_distance"), "mean_min_distance": _FLOAT, "mean_min_distance_n": _INT,
        "forward_per_sample": _FLOAT, "seconds": _FLOAT, "failed_checks": _INT,
    },
    "calibration": {
        **_MODEL, "scaling": _TEXT, "temperature": _FLOAT, **_metric("ece"), "rms_ce": _FLOAT,
        "mce": _FLOAT, "ece_equal_mass": _FLOAT, "ece_equal_mass_low": _FLOAT,
        "ece_equal_mass_high": _FLOAT, "brier": _FLOAT, "nll": _FLOAT,
    },
    "ood": {
        **_MODEL, "scorer": _TEXT, "ood_set": _TEXT, "seen": pl.Boolean, **_metric("auroc"),
        "aupr_out": _FLOAT,
        "aupr_in": _FLOAT, "fpr95_ood_pos": _FLOAT, "fpr95_id_pos": _FLOAT, "id_n": _INT,
    },
    "shift": {
        **_MODEL, "corruption": _TEXT, "severity": _INT, **_metric("accuracy"), **_metric("ece"),
        "mean_corruption_error": _FLOAT,
    },
    "verification": {
        **_MODEL, "property": _TEXT, "norm": _TEXT, "eps": _FLOAT, **_metric("verified_accuracy"),
        "verified": _INT, "falsified": _INT, "misclassified": _INT, "timeout": _INT,
        "unknown": _INT, "error": _INT, "over_reals": _INT,
        "bracket_low": _FLOAT, "bracket_high": _FLOAT,
        "bracket_n": _INT, "bracket_wanted": _INT, "seconds": _FLOAT,
        **_metric("estimate_median"), "estimate_violations": _INT, "estimate_violations_n": _INT,
    },
    "sensitivity": {
        **_MODEL, "method": _TEXT, "eps": _FLOAT, **_metric("median_width"),
        "mean_width": _FLOAT, "mean_log_volume": _FLOAT, "infinite_log_volume": _INT,
    },
    "landscape": {
        **_MODEL, "landscape": _TEXT, "eps": _FLOAT, "measure": _TEXT,
        "chains": _INT, "chains_planned": _INT, "minima": _INT,
        "lowest_loss": _FLOAT, "highest_loss": _FLOAT,
        **_metric("sensitivity_correlation"), **_metric("robust_accuracy_correlation"),
    },
    "honesty": {
        **_MODEL, "norm": _TEXT, "check": _TEXT, "status": _TEXT, "n": _INT, "violations": _INT,
        "samples": _TEXT, "detail": _TEXT,
    },
}  # fmt: skip
