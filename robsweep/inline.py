"""Runs a plan's jobs here, one by one, without a store."""

import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from robsweep.orchestrator.errors import ContradictionError
from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.next_jobs import missing_ranges, next_jobs
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.ranges import Ranges, total, union
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.progress import KindProgress, Progress
from robsweep.tasks.job import Inputs, Job


@dataclass(frozen=True)
class Failed:
    """A job that raised."""

    measurement_id: str
    kind: str
    name: str  # catalogue entry, or the user's function
    start: int
    stop: int
    error: str  # the traceback


@dataclass(frozen=True)
class Measured:
    """What came of a plan's jobs."""

    tables: Mapping[str, list[pa.Table]]
    done: Mapping[str, Ranges]  # measurement id -> samples
    failed: tuple[Failed, ...]


def measured(planned: Plan) -> Measured:
    """Runs all of a plan's jobs. One that raises is recorded, and the others go on.

    Raises:
        Exception: What the first job raised, if none has given a row.
    """
    from robsweep.tasks.jobs import run

    tables: dict[str, list[pa.Table]] = {}
    done: dict[str, Ranges] = {}
    tried: dict[str, Ranges] = {}  # those that failed too
    failed: list[Failed] = []
    first: Exception | None = None
    open_rows, costs = OpenRows(planned), Costs()
    progress = Progress(planned.name, 1)

    def covered(key: str) -> Ranges:
        return done.get(key, ())

    try:
        while jobs := list(next_jobs(planned, covered, tried, open_rows.open, costs.expected)):
            for job in jobs:
                m, started = job.measurement, time.perf_counter()
                if m.kind == "solve" and job.start not in open_rows.open[m.measurement_id]:
                    continue  # another radius has decided it meanwhile
                key, piece = m.measurement_id, (job.start, job.stop)
                tried[key] = union([*tried.get(key, ()), piece])
                try:
                    output = run(job, _inputs(planned, job, tables))
                except ContradictionError:
                    raise
                except Exception as error:  # noqa: BLE001 (an attack may raise anything)
                    first = first or error
                    failed.append(Failed(key, m.kind, m.name, *piece, traceback.format_exc()))
                    continue
                costs.add(key, m.kind, m.name, time.perf_counter() - started, job.stop - job.start)
                done[key] = union([*covered(key), piece])
                for name, rows in output.tables.items():
                    tables.setdefault(name, []).append(rows)
                if "verification" in output.tables:
                    open_rows.add(output.tables["verification"], past=False)
                progress.show(_kinds(planned, done, open_rows, costs))
    finally:
        progress.close()
    if first is not None and not tables:
        raise first
    return Measured(tables, done, tuple(failed))


def _kinds(
    planned: Plan, done: Mapping[str, Ranges], open_rows: OpenRows, costs: Costs
) -> dict[str, KindProgress]:
    kinds: dict[str, KindProgress] = {}
    for key, one in planned.measurements.items():
        kind = kinds.setdefault(one.measurement.kind, KindProgress())
        have = done.get(key, ())
        if one.measurement.kind == "solve":
            left = len(open_rows.open[key])
        else:
            left = total(missing_ranges(one, have))
        kind.done += total(have)
        kind.total += total(have) + left
        kind.remaining_seconds += left * costs.expected(one)
    return kinds


def _inputs(planned: Plan, job: Job, tables: Mapping[str, list[pa.Table]]) -> Inputs:
    if job.measurement.kind != "calibrate":
        return Inputs()
    fitted_on = planned.measurements[job.measurement.measurement_id].needs[-1]
    rows = pa.concat_tables(tables["predictions"])
    return Inputs(rows=rows.filter(pc.equal(rows["measurement_id"], fitted_on)).sort_by("sample"))
