"""Tables of output boxes: how sensitive models are, and what minima of their loss have in common.

Spearman correlations take minima as independent draws, which those of one chain are not quite.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results.intervals import order_statistic_median, spearman
from robsweep.orchestrator.results.metrics.extent import extent
from robsweep.orchestrator.results.metrics.planned import Asked, Model
from robsweep.orchestrator.results.metrics.rates import estimate
from robsweep.orchestrator.results.tables.columns import Read, frame

# Relative: what two approximations of one minimum may differ by. Where the gradient is not quite 0,
# the loss is off in second order only, all else in first.
_SAME = {"loss": 1e-6, "sensitivity": 1e-3}


def sensitivity_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per entry and eps; volumes are natural logarithms, widths are in logits.

    A box that is flat in some logit has log volume -inf, one without a bound +inf: both are
    counted, and left out of the mean.
    """
    rows: list[dict[str, Any]] = []
    for model in models:
        asked = model.of("sensitivity")
        found = read("sensitivity", asked).select(
            "measurement_id", "eps", "log_volume", "mean_width"
        )
        by_radius = found.collect().partition_by("measurement_id", "eps", as_dict=True)
        for one in asked:
            for eps in one.eps:
                here = by_radius.get((one.measurement_id, eps), pl.DataFrame())
                rows.append({**model.names, "method": one.name, "eps": eps, **_sizes(here, one)})
    return frame("sensitivity", rows)


def landscape_table(models: Sequence[Model], read: Read) -> pl.DataFrame:
    """One row per entry: its distinct minima over all chains, and their rank correlations."""
    rows: list[dict[str, Any]] = []
    for model in models:
        asked = model.of("landscape")
        found = read("landscape", asked).collect()
        for one in asked:
            here = found.filter(pl.col("measurement_id") == one.measurement_id)
            minima = distinct_minima(here)
            rows.append(
                {
                    **model.names,
                    "landscape": one.entry,
                    "eps": one.params["eps"],
                    "measure": one.params["measure"],
                    "chains": here["sample"].n_unique(),
                    "chains_planned": total(one.wanted),
                    "minima": len(minima),
                    "lowest_loss": minima["loss"].min(),
                    "highest_loss": minima["loss"].max(),
                    **_correlation("sensitivity_correlation", minima, "sensitivity", one),
                    **_correlation("robust_accuracy_correlation", minima, "robust_accuracy", one),
                }
            )
    return frame("landscape", rows)


def distinct_minima(rows: pl.DataFrame) -> pl.DataFrame:
    """Minima that several chains have found once each, the lowest first.

    Two are one if their losses agree to 1e-6 of their size and their sensitivities to 1e-3.
    """
    ordered = rows.sort("loss")
    values = ordered.select(*_SAME).to_numpy().astype(np.float64)
    tolerance = np.array(list(_SAME.values()))
    kept: list[int] = []
    for i, row in enumerate(values):
        if not any((abs(row - values[j]) <= tolerance * abs(values[j])).all() for j in kept):
            kept.append(i)
    return ordered[kept]


def _sizes(rows: pl.DataFrame, asked: Asked) -> dict[str, Any]:
    if rows.is_empty():
        return {"median_width_n": 0, **extent("median_width", [asked])}
    volumes = rows["log_volume"]
    return {
        **estimate("median_width", order_statistic_median(rows["mean_width"].to_numpy())),
        "median_width_n": len(rows),
        **extent("median_width", [asked]),
        "mean_width": rows["mean_width"].mean(),
        "mean_log_volume": volumes.filter(volumes.is_finite()).mean(),
        "infinite_log_volume": len(rows) - int(volumes.is_finite().sum()),
    }


def _correlation(name: str, minima: pl.DataFrame, column: str, asked: Asked) -> dict[str, Any]:
    usable = minima.filter(pl.col("loss").is_finite(), pl.col(column).is_finite())
    found = spearman(usable["loss"].to_numpy(), usable[column].to_numpy())
    return {
        **estimate(name, found),
        f"{name}_n": len(usable),
        f"{name}_wanted": len(minima),
        f"{name}_status": extent("", [asked])["_status"],
    }
