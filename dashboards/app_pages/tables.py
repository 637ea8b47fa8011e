"""Every table of `robsweep show`, for reading and for download."""

from typing import get_args

import polars as pl
import streamlit as st

from robsweep.dashboards.chosen import choose_sweep
from robsweep.orchestrator.results.report import notes, readable, render
from robsweep.orchestrator.results.results import TableName

TERMS = {
    "leaderboard": "One row per model, norm and eps; the bracket is on samples with both sides.",
    "attacks": "One row per attack and eps; `worst_case` is all attacks of a norm together. "
    "attack_success_rate: among the samples that were classified correctly. median_distance: of "
    "the closest adversarial found, over all samples. forward_per_sample: passes per sample that "
    "was attacked. (without ...): attacks that failed.",
    "calibration": "ece, rms_ce, mce: mean, root mean square and largest gap between confidence "
    "and accuracy over 15 bins. brier and nll: lower is better. at_bound: no temperature is best, "
    "as where there are no errors to learn from.",
    "ood": "Higher scores mean more OOD. fpr95_ood_pos: share of the model's own data flagged when "
    "95 % of OOD is caught; fpr95_id_pos: share of OOD accepted when 95 % of own data is.",
    "shift": "Accuracy and calibration under corruptions. corruption_error: mean error over the "
    "severities of one entry; mean_corruption_error: that over all corruptions, not normalised. "
    "worst_case_accuracy: right in every row of an entry.",
    "verification": "Samples by final verdict: a proof beats a timeout, that an unknown. "
    "unsolved: left open by the screen, and no solver has been at them yet. "
    "Only plain `untargeted` robustness in a ball has a bracket.",
    "sensitivity": "How large a box the logits can reach in a linf ball, by interval or linear "
    "bounds: the smaller, the less sensitive.",
    "landscape": "Minima of the training loss, and what lower ones have in common (Spearman).",
    "joint": "What several sections say together: confidence under attack and corruption, what a "
    "detector sees and lets through (95 % of clean images), and robustness of corrupted images.",
    "comparisons": "Pairs of models on the same samples: the difference, its 95 % interval, and a "
    "p-value corrected for all pairs of the question (Holm).",
    "tiers": "Models that cannot be told apart from the best of a tier share it. first_in_halves: "
    "how often a model is the best on a random half of the samples.",
    "optimality": "How much further than needed each attack goes: its distance over that of the "
    "nearest adversarial, which verification has found or bounded from both sides.",
    "honesty": "Signs that attacks were too weak: how many of the n samples that a check could "
    "look at speak against them, and the first of these.",
}


def page() -> None:
    chosen = choose_sweep("Tables")
    if chosen is None:
        return
    names: list[TableName] = list(get_args(TableName))[1:]
    name = st.segmented_control(
        "Table", names, default=names[0], required=True, key="table", bind="query-params"
    )
    table = chosen.table(name)
    models = table["model"].unique(maintain_order=True).to_list()
    picked = st.pills("Models", models, selection_mode="multi", key="models", bind="query-params")
    if picked:
        table = table.filter(pl.col("model").is_in(picked))
    if table.is_empty():
        st.info(f"**This sweep asks for no {name}.**", icon=":material/inbox:")
        return
    st.dataframe(readable(table), hide_index=True, height=min(38 + 36 * len(table), 700))
    for line in notes(table):
        st.caption(line)
    st.caption(TERMS[name])
    st.download_button(
        "CSV", render(table, "csv"), f"{chosen.sweep}-{name}.csv", icon=":material/download:"
    )


page()
