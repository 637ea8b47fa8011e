"""Runs plans with rows that need no torch."""

import pyarrow as pa
import pyarrow.parquet as pq

from robsweep.orchestrator.plan.table import to_table
from robsweep.orchestrator.results.check import past_jobs
from robsweep.orchestrator.run.drive import Options, drive
from robsweep.orchestrator.run.executor import InlineExecutor
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Writer


def record(store, plan):
    """Writes down what a sweep asks for, as `robsweep run` does before anything else."""
    pq.write_table(to_table(plan), sink := pa.BufferOutputStream())
    store.record_plan(plan.name, sink.getvalue().to_pybytes())


def drive_once(plan, location, runner="rows", stop=None, **options):
    store = Store.create(location)
    record(store, plan)
    writer = Writer(store, plan.name)
    jobs = past_jobs(store, writer.snapshot)
    return drive(
        plan,
        writer,
        InlineExecutor(),
        InputReader(plan, store, writer.snapshot),
        jobs,
        options=Options(runner=f"tests.runners:{runner}", **options),
        stop=stop,
    )
