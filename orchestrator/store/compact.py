"""Compaction: many small parts become few large ones, by one log entry that swaps them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pyarrow as pa

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.ranges import Range, union
from robsweep.orchestrator.store import log
from robsweep.orchestrator.store.log import Entry, Part
from robsweep.orchestrator.store.parts import Stamp, read_part, write_part
from robsweep.orchestrator.store.store import Store

SMALL_BYTES = 32 * 2**20
LARGE_BYTES = 256 * 2**20
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Compaction:
    """Parts before and after, and files of earlier compactions that were deleted."""

    before: int
    after: int
    deleted: int


def grace_of(seconds: float) -> timedelta:
    """A grace period.

    Raises:
        InputError: It is none.
    """
    if not 0 <= seconds < math.inf:
        raise InputError(f"--grace {seconds:g}: expected 0 seconds or more")
    return timedelta(seconds=seconds)


def compact(store: Store, grace: timedelta = GRACE) -> Compaction:
    """Merges small parts, sorted by model; files out of use go after the grace period.

    Sweeps may run meanwhile. Readers that still hold the old list of parts keep finding them for
    the grace period.
    """
    snapshot = store.snapshot()
    before = after = 0
    writer = uuid4().hex
    for batch in _batches(list(snapshot.live.values())):
        stamp = Stamp("", writer, uuid4().hex, 1)
        rows = pa.concat_tables([read_part(store.files, part.path) for part in batch])
        order = [(name, "ascending") for name in ("model_id", "measurement_id", "sample")]
        covers: dict[str, list[Range]] = {}
        for part in batch:
            for measurement_id, ranges in part.covers.items():
                covers.setdefault(measurement_id, []).extend(ranges)
        merged = write_part(
            store.files,
            batch[0].table,
            rows.sort_by(order),
            {key: union(ranges) for key, ranges in covers.items()},
            stamp,
        )
        while True:
            for _ in log.read_from(store.files, snapshot):
                pass
            if not all(part.path in snapshot.live for part in batch):  # another compaction won
                store.files.remove(merged.path)
                break
            entry = Entry(
                seq=snapshot.seq + 1,
                writer=writer,
                at=datetime.now(UTC).isoformat(),
                add=(merged,),
                remove=tuple(part.path for part in batch),
            )
            if log.put(store.files, entry):
                snapshot.apply(entry)
                before, after = before + len(batch), after + 1
                break
    if after:
        log.write_checkpoint(store.files, snapshot)
    return Compaction(before, after, _delete_removed(store, snapshot, grace))


def _batches(parts: list[Part]) -> Iterator[list[Part]]:
    """Small parts of one table and schema, up to a large part together."""
    groups: dict[tuple[str, str], list[Part]] = {}
    for part in parts:
        if part.bytes < SMALL_BYTES:
            groups.setdefault((part.table, part.schema), []).append(part)
    for group in groups.values():
        batch: list[Part] = []
        for part in group:
            if batch and sum(p.bytes for p in batch) + part.bytes > LARGE_BYTES:
                yield from [batch] if len(batch) > 1 else []
                batch = []
            batch.append(part)
        if len(batch) > 1:
            yield batch


def _delete_removed(store: Store, snapshot: log.Snapshot, grace: timedelta) -> int:
    deleted = 0
    now = datetime.now(UTC)
    for path, at in snapshot.removed.items():
        if now - datetime.fromisoformat(at) >= grace and store.files.exists(path):
            store.files.remove(path)
            deleted += 1
    return deleted
