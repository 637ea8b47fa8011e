"""All models of one sweep side by side."""

from typing import Any

import polars as pl
import streamlit as st

from robsweep.dashboards.charts import (
    LEGEND,
    NORMS,
    bracket_bars,
    bracket_chart,
    label,
    several_data,
)
from robsweep.dashboards.chosen import choose_sweep, next_step
from robsweep.dashboards.live import show_alarms, show_progress
from robsweep.orchestrator.results.report import (
    absent,
    contradicted,
    counted,
    eps_text,
    interval,
    notes,
    without,
)

METRICS = {
    "clean_accuracy": "Clean accuracy",
    "robust_accuracy": "Robust accuracy",
    "verified_accuracy": "Verified accuracy",
    "auroc": "AUROC",
    "ece": "ECE",
    "ece_scaled": "ECE, scaled",
}


def page() -> None:
    chosen = choose_sweep("Leaderboard")
    if chosen is None:
        return
    table = chosen.table("leaderboard")
    show_alarms(chosen.alarms())
    show_progress(chosen)
    known = [name for name in METRICS if (table[f"{name}_status"] != "not asked").any()]
    if not any(table[name].is_not_null().any() for name in known):
        st.info("**Nothing measured yet.** The sweep is planned.", icon=":material/hourglass:")
        next_step("Start or resume it:", f"robsweep run FILE.yaml --store {chosen.store}")
        return
    norm_place, metric_place = st.columns([1, 4])
    norms = table["norm"].drop_nulls().unique(maintain_order=True).to_list()
    if norms:
        norm = norm_place.segmented_control(
            "Norm", norms, default=norms[0], required=True, format_func=NORMS.__getitem__,
            key="norm", bind="query-params", help="What measures a perturbation",
        )  # fmt: skip
        table = table.filter(pl.col("norm") == norm)
    metrics = metric_place.pills(
        "Metrics", known, selection_mode="multi", default=known, format_func=METRICS.__getitem__,
        key="metrics", bind="query-params",
    )  # fmt: skip
    show_notes(table)
    show_brackets(table)
    show_table(table, metrics)


def show_notes(table: pl.DataFrame) -> None:
    """What honesty checks and the preflight have to say of the numbers below."""
    if lines := notes(table):
        st.warning(
            "**Numbers marked with ! are contradicted by failing honesty checks.**\n\n"
            + "\n".join(f"- {line.removeprefix('! ')}" for line in lines),
            icon=":material/flag:",
        )
    for row in table.unique("model_id", maintain_order=True).iter_rows(named=True):
        if row["warnings"]:
            st.warning(f"**{label(row)}**: {row['warnings']}", icon=":material/flag:")


def show_brackets(table: pl.DataFrame) -> None:
    bars = bracket_bars(table)
    if bars.is_empty():
        return
    st.subheader("Robustness bracket")
    st.markdown(LEGEND)
    best = bars.group_by("name").agg(pl.col("upper").mean()).sort("upper", "name")
    order = best["name"].to_list()[::-1]
    balls = bars["ball"].unique(maintain_order=True).to_list()
    columns = st.columns(min(3, len(balls)), gap="medium")
    for index, ball in enumerate(balls):
        with columns[index % len(columns)]:
            st.markdown(f"**{ball}**")
            st.altair_chart(bracket_chart(bars.filter(pl.col("ball") == ball), order))
    st.caption(
        "The true robustness of a model lies between what is proved and what survives every attack "
        "and counterexample, counted on the same samples. The tick is the accuracy without any "
        "attack, on those samples too."
    )


def show_table(table: pl.DataFrame, metrics: list[str]) -> None:
    st.subheader("Models")
    rows, several = [], several_data(table)
    for row in table.iter_rows(named=True):
        cells: dict[str, Any] = {"Model": label(row, several=several), "eps": eps_text(row["eps"])}
        for name in metrics:
            cells[name] = None if row[name] is None else 100 * row[name]
            cells[f"{name}_limits"] = beside(name, row)
        rows.append(cells)
    config: dict[str, Any] = {
        "Model": st.column_config.TextColumn(pinned=True),
        "eps": st.column_config.TextColumn(pinned=True, help="Radius of the ball"),
    }
    for name in metrics:
        config[name] = st.column_config.NumberColumn(METRICS[name], format="%.1f %%")
        config[f"{name}_limits"] = st.column_config.TextColumn(
            "95 % interval, n",
            help="-: not asked for. not run, running 120/500: on its way. !: contradicted by "
            "failing honesty checks",
        )
    # an all-null first part of a column must not decide its type
    numbers = dict.fromkeys(metrics, pl.Float64)
    shown = pl.DataFrame(rows, infer_schema_length=None, schema_overrides=numbers)
    height = min(38 + 36 * len(shown), 800)
    st.dataframe(shown, hide_index=True, column_config=config, placeholder="–", height=height)
    hardest = table["auroc_of"].drop_nulls().unique(maintain_order=True).to_list()
    of = f" (here: {', '.join(hardest)})" if hardest else ""
    st.caption(
        "**Robust accuracy**: survives all attacks of the norm together. **Verified accuracy**: "
        f"proved robust. **AUROC**: how well the first scorer tells the hardest set{of} from the "
        "model's own data. **ECE**: expected calibration error, lower is better; scaled: after "
        "fitting a temperature. n=250/1000: 250 of the 1000 samples asked for have run."
    )


def beside(name: str, row: dict[str, Any]) -> str:
    """What stands beside a number: mark, interval, count, what it lacks; or why there is none."""
    if row[name] is None:
        return absent(name, row)
    parts = ["!" if contradicted(name, row) else "", interval(name, row), counted(name, row)]
    return "  ".join([*filter(None, parts), *without(name, row)])


page()
