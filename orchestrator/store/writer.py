"""One driver's hold on one sweep of a store: it takes over, commits, and is fenced by the log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pyarrow as pa

from robsweep.orchestrator.errors import FencedError
from robsweep.orchestrator.ranges import Ranges, intersect, subtract, union
from robsweep.orchestrator.store import log
from robsweep.orchestrator.store.log import Entry, Part, done_ranges
from robsweep.orchestrator.store.parts import Stamp, inspect, read_part, within, write_part
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.rows import schema

# A sample may be solved again with a longer limit: readers pick the row that decides it.
MANY_ROWS = "solve-"


@dataclass(frozen=True)
class Finished:
    """One job attempt to commit: its row of `jobs`, and its results where it is done."""

    measurement_id: str
    start: int
    stop: int
    cut_seq: int  # the log's end when the job was cut: what others covered since then wins
    row: Mapping[str, Any]
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    staged: tuple[Part, ...] = ()  # large results that the worker wrote itself


class Writer:
    """Commits a sweep's results. A newer writer of the same sweep fences this one."""

    def __init__(self, store: Store, sweep: str) -> None:
        self.store = store
        self.sweep = sweep
        self.writer = uuid4().hex
        self.snapshot = store.snapshot()
        self.adopted = 0
        self.quarantined = 0
        self.news: list[Part] = []  # parts that others have logged; the driver empties it
        self._foreign: dict[str, list[tuple[int, Ranges]]] = {}
        self._take_over()
        self._adopt()

    def refresh(self) -> None:
        """Reads on in the log, for what others have made done.

        Raises:
            FencedError: A newer driver has taken over this sweep.
        """
        for entry in log.read_from(self.store.files, self.snapshot):
            if entry.take_over and entry.sweep == self.sweep:
                raise FencedError(
                    f"another driver (writer {entry.writer[:8]}) took over sweep {self.sweep!r}: "
                    "this one stops; what it has committed stays"
                )
            if entry.remove:  # compaction moves rows, it makes nothing done
                continue
            for part in entry.add:
                for measurement_id, ranges in done_ranges(part):
                    self._foreign.setdefault(measurement_id, []).append((entry.seq, ranges))
            self.news.extend(entry.add)

    def commit(self, batch: Sequence[Finished]) -> None:
        """Makes results count, all at once, less what another sweep has covered meanwhile."""
        if not batch:
            return
        self.refresh()
        replaced = self._put_artifacts(batch)
        keeps = [self._keep(job) for job in batch]
        parts, scratch = self._write(batch, keeps)
        outdated: list[Part] = []
        while not log.put(self.store.files, entry := self._entry(add=tuple(parts))):
            self.refresh()
            if (now := [self._keep(job) for job in batch]) != keeps:
                keeps = now
                outdated.extend(scratch)
                parts, scratch = self._write(batch, keeps)
        self._applied(entry)
        # Not earlier: until this put nothing said that no newer driver was adopting them.
        for part in outdated:
            self.store.files.remove(part.path)
        for job, keep in zip(batch, keeps, strict=True):
            for key, content in job.artifacts.items():
                if keep and key in replaced:
                    self.store.files.write(f"artifacts/{key}", content)

    def _keep(self, job: Finished) -> Ranges:
        if job.measurement_id.startswith(MANY_ROWS):
            return ((job.start, job.stop),)
        later = [
            piece
            for seq, ranges in self._foreign.get(job.measurement_id, ())
            if seq > job.cut_seq
            for piece in ranges
        ]
        return subtract(((job.start, job.stop),), union(later))

    def _write(
        self, batch: Sequence[Finished], keeps: Sequence[Ranges]
    ) -> tuple[list[Part], list[Part]]:
        """Writes the kept rows: one part per table and measurement, one for all job rows."""
        rows: dict[tuple[str, str], list[pa.Table]] = {}
        covers: dict[tuple[str, str], list[tuple[int, int]]] = {}
        whole: list[Part] = []
        for job, keep in zip(batch, keeps, strict=True):
            everything = keep == ((job.start, job.stop),)
            tables = job.tables
            if job.staged and everything:
                whole.extend(job.staged)
            elif job.staged:
                tables = {p.table: read_part(self.store.files, p.path) for p in job.staged}
            for table, content in tables.items():
                if keep:
                    place = (table, job.measurement_id)
                    rows.setdefault(place, []).append(
                        content if everything else within(content, keep)
                    )
                    covers.setdefault(place, []).extend(keep)
        stamp = Stamp(self.sweep, self.writer, uuid4().hex, len(rows) + 1)
        attempts = pa.Table.from_pylist(
            [_attempt(job, keep) for job, keep in zip(batch, keeps, strict=True)],
            schema=schema("jobs"),
        )
        files = self.store.files
        written = [write_part(files, "jobs", attempts, {}, stamp)]
        for (table, measurement_id), pieces in rows.items():
            done = {measurement_id: union(covers[table, measurement_id])}
            written.append(write_part(files, table, pa.concat_tables(pieces), done, stamp))
        return [*written, *whole], written

    def _put_artifacts(self, batch: Sequence[Finished]) -> set[str]:
        """Writes artifacts; returns those of which another content is there already."""
        files = self.store.files
        other = set()
        for job in batch:
            for key, content in job.artifacts.items():
                path = f"artifacts/{key}"
                if not files.put_if_absent(path, content) and files.read(path) != content:
                    other.add(key)
        return other

    def _take_over(self) -> None:
        while True:
            self.epoch = self.snapshot.epochs.get(self.sweep, (0, ""))[0] + 1
            entry = self._entry(take_over=True)
            if log.put(self.store.files, entry):
                self._applied(entry)
                return
            for _ in log.read_from(self.store.files, self.snapshot):
                pass

    def _adopt(self) -> None:
        """Takes in what an earlier driver of this sweep wrote but did not live to log.

        It is fenced by now, so its unlogged parts can change no more. A batch counts whole or
        not at all; the rest goes to `quarantine/`.
        """
        files = self.store.files
        known = self.snapshot.live.keys() | self.snapshot.removed.keys()
        batches: dict[str, list[Part]] = {}
        sizes: dict[str, int] = {}
        for path in files.list("parts"):
            if path in known:
                continue
            try:
                part, stamp = inspect(files, path)
            except FileNotFoundError:
                continue
            except ValueError:
                self._quarantine(path)
                continue
            if stamp.sweep == self.sweep:
                batches.setdefault(stamp.batch, []).append(part)
                sizes[stamp.batch] = stamp.batch_parts
        for batch, parts in batches.items():
            while True:
                new = len(parts) == sizes[batch] and not any(
                    intersect(ranges, self.snapshot.coverage(measurement_id))
                    for part in parts
                    for measurement_id, ranges in done_ranges(part)
                    if not measurement_id.startswith(MANY_ROWS)
                )
                if not new:
                    for part in parts:
                        self._quarantine(part.path)
                    break
                entry = self._entry(add=tuple(parts))
                if log.put(files, entry):
                    self._applied(entry)
                    self.adopted += len(parts)
                    break
                self.refresh()

    def _quarantine(self, path: str) -> None:
        try:
            self.store.files.write(f"quarantine/{path}", self.store.files.read(path))
        except FileNotFoundError:  # its writer has just removed it
            return
        self.store.files.remove(path)
        self.quarantined += 1

    def _entry(self, add: tuple[Part, ...] = (), take_over: bool = False) -> Entry:
        return Entry(
            seq=self.snapshot.seq + 1,
            writer=self.writer,
            at=datetime.now(UTC).isoformat(),
            sweep=self.sweep,
            epoch=self.epoch,
            take_over=take_over,
            add=add,
        )

    def _applied(self, entry: Entry) -> None:
        self.snapshot.apply(entry)
        if entry.seq % log.CHECKPOINT_EVERY == 0:
            log.write_checkpoint(self.store.files, self.snapshot)


def _attempt(job: Finished, keep: Ranges) -> dict[str, Any]:
    row = dict(job.row)
    if row["status"] == "done" and not keep:
        row.update(status="cancelled", error="another sweep did the same samples first")
    return row
