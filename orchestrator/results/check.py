"""Proves that a store's log, parts and plans agree: nothing lost, nothing counted twice."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.identity import MADE_HERE
from robsweep.orchestrator.ranges import Ranges, intersect, subtract, total, union
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.store.log import Part, Snapshot, done_ranges
from robsweep.orchestrator.store.parts import decode, read_part
from robsweep.orchestrator.store.store import Store, digest
from robsweep.orchestrator.store.writer import MANY_ROWS


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
    problems += _artifact_problems(store, snapshot)
    states = () if problems else tuple(_states(store, snapshot))
    return Report(tuple(problems), states, len(parts), sum(part.rows for part in parts))


def failed_ranges(store: Store, snapshot: Snapshot) -> dict[tuple[str, str], Ranges]:
    """(sweep, measurement) -> samples that its last word is a failed or timed-out job on."""
    failed: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for job in past_jobs(store, snapshot):
        if job["status"] in {"failed", "timeout"}:
            place = (job["sweep"], job["measurement_id"])
            failed.setdefault(place, []).append((job["start"], job["stop"]))
    return {
        place: subtract(union(ranges), snapshot.coverage(place[1]))
        for place, ranges in failed.items()
    }


def past_jobs(store: Store, snapshot: Snapshot) -> list[dict[str, Any]]:
    """What the jobs table says of costs and failures."""
    columns = ["measurement_id", "sweep", "kind", "name", "status", "start", "stop", "seconds"]
    try:
        return [
            row
            for part in snapshot.parts("jobs")
            for row in read_part(store.files, part.path).select(columns).to_pylist()
        ]
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{store.root}: {error}; `robsweep check` says what is wrong") from error


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
        rows = decode(content)
    except pa.ArrowInvalid as error:
        yield f"{part.path}: unreadable ({error})"
        return
    if rows.num_rows != part.rows:
        yield f"{part.path}: {rows.num_rows} rows, the log says {part.rows}"


def _artifact_problems(store: Store, snapshot: Snapshot) -> Iterator[str]:
    """Weights of trained models, and fits, that are gone or not those that their row names."""
    for model_id, digests in trained_weights(store, snapshot).items():
        try:
            found = digest(store.weights(model_id))
        except FileNotFoundError:
            yield f"weights of {model_id} are gone: restore artifacts/models/{model_id}.safetensors"
            continue
        if found not in digests:
            yield f"weights of {model_id} are not those it was measured with: restore the file"
    for part in snapshot.parts("fits"):
        if not store.files.exists(part.path):  # that is a problem of its own
            continue
        for row in read_part(store.files, part.path).to_pylist():
            file = f"artifacts/fits/{row['measurement_id']}.safetensors"
            if not store.files.exists(file):
                yield f"{file} is gone: restore it"
            elif digest(store.files.read(file)) != row["artifact_sha256"]:
                yield f"{file} is not what was fitted: restore it"


def trained_weights(
    store: Store, snapshot: Snapshot, model_id: str | None = None
) -> dict[str, set[str]]:
    """Model id -> SHA-256 of its weights, for one model or all that were made here."""
    found: dict[str, set[str]] = {}
    for part in snapshot.parts("models"):
        if model_id is not None and model_id not in part.covers:
            continue
        if not store.files.exists(part.path):  # that is a problem of its own
            continue
        rows = read_part(store.files, part.path).select(["model_id", "weights_sha256"])
        for row in rows.to_pylist():
            if row["model_id"].startswith(MADE_HERE):
                found.setdefault(row["model_id"], set()).add(row["weights_sha256"])
    return found


def _double_counts(parts: list[Part]) -> Iterator[str]:
    """Samples that two live parts both make done; several rows of a solve are normal."""
    seen: dict[str, Ranges] = {}
    for part in parts:
        for measurement_id, ranges in done_ranges(part):
            if measurement_id.startswith(MANY_ROWS):
                continue
            before = seen.get(measurement_id, ())
            if twice := intersect(ranges, before):
                yield f"{measurement_id}: samples {_text(twice)} count twice"
            seen[measurement_id] = union([*before, *ranges])


def _states(store: Store, snapshot: Snapshot) -> Iterator[MeasurementState]:
    failed = failed_ranges(store, snapshot)
    for sweep in store.sweeps():
        plan = decode(store.files.read(f"sweeps/{sweep}/plan.parquet"))
        solves = Results(store, snapshot).progress(sweep).filter(pl.col("kind") == "solve")
        for row in solves.iter_rows(named=True):  # what the screens have left open
            missing = row["wanted"] - row["done"] - row["failed"]
            yield MeasurementState(sweep, "solve", row["done"], row["failed"], missing)
        for row in plan.select(["measurement_id", "kind", "wanted"]).to_pylist():
            if row["kind"] == "solve":
                continue
            key = row["measurement_id"]
            wanted = union((r["start"], r["stop"]) for r in row["wanted"])
            covered = snapshot.coverage(key)
            left = subtract(wanted, covered)
            lost = intersect(left, failed.get((sweep, key), ()))
            yield MeasurementState(
                sweep,
                key,
                total(wanted) - total(left),
                total(lost),
                total(left) - total(lost),
            )


def _text(ranges: Ranges) -> str:
    return ", ".join(f"{start}:{stop}" for start, stop in ranges)
