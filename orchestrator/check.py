"""Proves that a store's log, parts and plans agree: nothing lost, nothing counted twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.log import Part, Snapshot, done_ranges
from orchestrator.parts import read_part
from orchestrator.ranges import Ranges, intersect, subtract, total, union
from orchestrator.store import Store, digest


@dataclass(frozen=True)
class MeasurementState:
    """Every wanted sample of a measurement is in exactly one of the three."""

    sweep: str
    measurement_id: str
    done: int
    failed: int
    missing: int


@dataclass(frozen=True)
class Report:
    problems: tuple[str, ...]
    measurements: tuple[MeasurementState, ...]
    parts: int
    rows: int


def check(store: Store) -> Report:
    """Reads every live part and every plan.

    Raises:
        StoreError: The log itself is damaged.
    """
    snapshot = store.snapshot()
    parts = list(snapshot.live.values())
    problems = [problem for part in parts for problem in _part_problems(store, part)]
    problems += _double_counts(parts)
    states = tuple(_states(store, snapshot))
    return Report(tuple(problems), states, len(parts), sum(part.rows for part in parts))


def failed_ranges(store: Store, snapshot: Snapshot) -> dict[str, Ranges]:
    """Samples whose last word is a failed or timed-out job."""
    failed: dict[str, list[tuple[int, int]]] = {}
    for job in past_jobs(store, snapshot):
        if job["status"] in {"failed", "timeout"}:
            failed.setdefault(job["measurement_id"], []).append((job["start"], job["stop"]))
    return {key: subtract(union(ranges), snapshot.coverage(key)) for key, ranges in failed.items()}


def past_jobs(store: Store, snapshot: Snapshot) -> list[dict[str, Any]]:
    """What the jobs table says of costs and failures."""
    columns = ["measurement_id", "kind", "name", "status", "start", "stop", "seconds"]
    return [
        row
        for part in snapshot.parts("jobs")
        for row in read_part(store.files, part.path).select(columns).to_pylist()
    ]


def _part_problems(store: Store, part: Part) -> Iterator[str]:
    try:
        content = store.files.read(part.path)
    except FileNotFoundError:
        yield f"{part.path}: gone, with {part.rows} rows"
        return
    if digest(content) != part.sha256:
        yield f"{part.path}: its SHA-256 is not the log's: the file was changed or damaged"
        return
    try:
        rows = pq.read_table(pa.BufferReader(content))
    except pa.ArrowInvalid as error:
        yield f"{part.path}: unreadable ({error})"
        return
    if rows.num_rows != part.rows:
        yield f"{part.path}: {rows.num_rows} rows, the log says {part.rows}"


def _double_counts(parts: list[Part]) -> Iterator[str]:
    """Samples that two live parts both make done; several rows of a solve are normal."""
    seen: dict[str, Ranges] = {}
    for part in parts:
        for measurement_id, ranges in done_ranges(part):
            if measurement_id.startswith("solve-"):
                continue
            before = seen.get(measurement_id, ())
            if twice := intersect(ranges, before):
                yield f"{measurement_id}: samples {_text(twice)} count twice"
            seen[measurement_id] = union([*before, *ranges])


def _states(store: Store, snapshot: Snapshot) -> Iterator[MeasurementState]:
    failed = failed_ranges(store, snapshot)
    for sweep in store.sweeps():
        plan = pq.read_table(pa.BufferReader(store.files.read(f"sweeps/{sweep}/plan.parquet")))
        for row in plan.select(["measurement_id", "kind", "wanted"]).to_pylist():
            if row["kind"] == "solve":  # wanted is what the screen leaves open
                continue
            key = row["measurement_id"]
            wanted = union((r["start"], r["stop"]) for r in row["wanted"])
            covered = snapshot.coverage(key)
            left = subtract(wanted, covered)
            lost = intersect(left, failed.get(key, ()))
            yield MeasurementState(
                sweep,
                key,
                total(wanted) - total(left),
                total(lost),
                total(left) - total(lost),
            )


def _text(ranges: Ranges) -> str:
    return ", ".join(f"{start}:{stop}" for start, stop in ranges)
