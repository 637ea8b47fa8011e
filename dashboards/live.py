"""The parts of a page that warn and that move: soundness alarms, progress."""

import polars as pl
import streamlit as st

from robsweep.dashboards.chosen import Chosen
from robsweep.orchestrator.results.results import Results


def show_alarms(alarms: pl.DataFrame) -> None:
    """A banner where results contradict each other."""
    if alarms.is_empty():
        return
    samples = alarms.n_unique(["model_id", "norm", "sample"])
    st.error(
        f"**Soundness alarm: {samples} {'sample is' if samples == 1 else 'samples are'} proved "
        "robust and yet broken inside the proved ball.** A verifier or an attack is wrong: publish "
        "none of these numbers before you know which.",
        icon=":material/warning:",
    )
    with st.expander("Which samples"):
        st.dataframe(alarms.drop("model_id"), hide_index=True)


def show_progress(chosen: Chosen) -> None:
    """Progress of an unfinished sweep, read anew every few seconds; nothing for a finished one."""
    progress = Results.open(chosen.store).progress(chosen.sweep)
    unfinished = bool((progress["done"] < progress["wanted"]).any())
    st.fragment(_block, run_every=5 if unfinished else None)(chosen)


def _block(chosen: Chosen) -> None:
    results = Results.open(chosen.store)
    started = results.progress(chosen.sweep).filter(pl.col("wanted") > 0)
    missing = started.filter(pl.col("done") < pl.col("wanted"))
    if len(missing):
        share = sum(row["done"] / row["wanted"] for row in started.iter_rows(named=True))
        kinds = " · ".join(
            f"{row['kind']} {row['done']:,} of {row['wanted']:,}"
            for row in missing.iter_rows(named=True)
        )
        st.progress(share / len(started), text=f"**Not finished.** {kinds}")
    if failed := int(started["failed"].sum()):
        st.warning(
            f"{failed:,} samples failed. `robsweep status {chosen.sweep}` says why, "
            f"`robsweep retry {chosen.sweep}` runs them again.",
            icon=":material/error:",
        )
    newer = results.snapshot.seq > chosen.seq
    if newer and st.button("Show newer results", icon=":material/refresh:"):
        st.rerun()
