"""What every page starts with: the store, the sweep, and what to do where there is none."""

import os
from typing import NamedTuple

import polars as pl
import streamlit as st

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.results.results import Results, TableName


class Chosen(NamedTuple):
    """A sweep of a store as of log entry `seq`."""

    store: str
    seq: int
    sweep: str

    def table(self, name: TableName) -> pl.DataFrame:
        return _table(*self, name)

    def alarms(self) -> pl.DataFrame:
        return _alarms(*self)


def choose_sweep(title: str) -> Chosen | None:
    """Shows title and sweep selection; None where there is nothing to select, which it explains."""
    store = os.environ.get("ROBSWEEP_STORE", "./results")
    heading, choice = st.columns([3, 2], vertical_alignment="bottom")
    heading.title(title)
    try:
        results = Results.open(store)
    except StoreError as error:
        st.info(f"**No results here.** {error}", icon=":material/folder_off:")
        next_step("Run a sweep, which makes the store:", "robsweep run sweeps/FILE.yaml")
        next_step("Or show another store:", "robsweep dash --store PATH")
        return None
    sweeps = results.sweeps()
    if not sweeps:
        st.info(f"**The store is empty.** {store} has no sweep yet.", icon=":material/inbox:")
        next_step("Run one:", f"robsweep run sweeps/FILE.yaml --store {store}")
        return None
    sweep = choice.selectbox("Sweep", sweeps, key="sweep", bind="query-params")
    return Chosen(store, results.snapshot.seq, str(sweep))


def next_step(what: str, command: str) -> None:
    """Says what to type."""
    st.caption(what)
    st.code(command, language="bash")


# `seq` is what makes the caches right: a store with the same log has the same results.
@st.cache_data(max_entries=32, show_spinner="Reading results …")
def _table(store: str, seq: int, sweep: str, name: TableName) -> pl.DataFrame:
    return Results.open(store).table(sweep, name)


@st.cache_data(max_entries=8, show_spinner=False)
def _alarms(store: str, seq: int, sweep: str) -> pl.DataFrame:
    return Results.open(store).alarms(sweep)
