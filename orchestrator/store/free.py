"""Giving up what no sweep wants any more, while other sweeps may run.

Rows go by log entries that remove parts, and add smaller ones where a part holds more. A driver
records its plan, beside those before it, before it takes its sweep over in the log, and each such
entry is put behind a reading of log and plans, in this order: so a driver's plan either was read,
or the driver has read that the rows are gone. Parts that nobody has logged yet are left alone.
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.ranges import Ranges
from robsweep.orchestrator.store import log
from robsweep.orchestrator.store.log import Entry, Part, Snapshot
from robsweep.orchestrator.store.parts import Stamp, decode, read_part, write_part
from robsweep.orchestrator.store.store import Store, digest
from robsweep.orchestrator.store.wanted import ID, Asked, Held, Question, asked, wanted

_PARTS_AT_ONCE = 64  # in a log entry
_FILES_AT_ONCE = 20  # between two looks at the plans


@dataclass(frozen=True)
class Plans:
    """What the sweeps of a store have recorded."""

    sweeps: frozenset[str]
    asked: tuple[Asked, ...]
    digests: tuple[str, ...]  # of their files: other plans, other digests


class File(NamedTuple):
    """An artifact or a checkpoint."""

    key: str
    measurement_id: str
    bytes: int
    unused_since: datetime


@dataclass(frozen=True)
class Surplus:
    """What nobody wants: ids of measurements, their rows, and their files beside parts."""

    ids: frozenset[str]
    rows: int
    rows_bytes: int  # about, where a part holds more
    files: tuple[File, ...]

    @property
    def bytes(self) -> int:
        return self.rows_bytes + sum(file.bytes for file in self.files)

    def due(self, grace: timedelta) -> list[File]:
        """Files that no reader can hold on to any more."""
        return [f for f in self.files if datetime.now(UTC) - f.unused_since >= grace]


class _Cut(NamedTuple):
    """A part, and which of its rows and covered samples stay."""

    part: Part
    stays: pa.Array | None  # a mask; None: nothing does
    covers: Mapping[str, Ranges]
    rows: int  # that go


def recorded(store: Store, without: str | None = None) -> Plans:
    """All plans of all sweeps, less one sweep's.

    Raises:
        StoreError: One cannot be read, so that nobody knows what it wants.
    """
    names = [name for name in store.sweeps() if name != without]
    found: list[Asked] = []
    digests: dict[str, None] = {}  # the last plan of a sweep lies there twice
    for name in names:
        for key in store.plans(name):
            try:
                content = store.files.read(key)
                if (known := digest(content)) not in digests:
                    found.extend(asked(decode(content).to_pylist()))
            except FileNotFoundError:  # the sweep has just been forgotten
                continue
            except (OSError, pa.ArrowException, KeyError, ValueError) as error:
                raise StoreError(
                    f"{key} cannot be read ({error}): what that sweep wants is not known; "
                    f"run it again, restore the file, or `robsweep delete {name}`"
                ) from error
            digests[known] = None
    return Plans(frozenset(names), tuple(found), tuple(digests))


def surplus(store: Store, snapshot: Snapshot, plans: Plans) -> Surplus:
    """What none of these plans wants."""
    keep = _keep(store, snapshot, plans)
    there = {key for part in snapshot.live.values() for key in part.covers}
    there |= _tried(store, snapshot, plans)
    files = {file.key: file for file in _files(store, snapshot)}
    there |= {file.measurement_id for file in files.values()}
    ids = there - keep
    rows = size = 0
    for cut in _cuts(store, snapshot, plans, ids):
        rows += cut.rows
        size += cut.part.bytes * cut.rows // max(cut.part.rows, 1)
    unwanted = tuple(file for file in files.values() if file.measurement_id in ids)
    return Surplus(frozenset(ids), rows, size, unwanted)


def free(store: Store, ids: Collection[str], grace: timedelta) -> tuple[int, int]:
    """Gives up measurements, unless a sweep wants them by now; (rows, files) that are gone.

    Files of parts and artifacts stay for the grace period, for those who read an older log.

    Raises:
        StoreError: A plan cannot be read.
    """
    rows = 0
    writer = uuid4().hex
    while (done := _free_rows(store, ids, writer)) is not None:
        rows += done
    log.write_checkpoint(store.files, store.snapshot())
    return rows, _free_files(store, ids, grace)


def forget(store: Store, name: str) -> None:
    """Removes a sweep's folder; a driver of it that still runs is fenced first, and stops.

    It is fenced again afterwards: a driver that has begun meanwhile stops too, and one that begins
    later sees whether what it has recorded is gone.
    """
    snapshot = store.snapshot()
    _fence(store, snapshot, name)
    while True:
        # with its plan, a sweep is none any more
        store.files.remove(f"sweeps/{name}/plan.parquet")
        for key in list(store.files.list(f"sweeps/{name}")):
            store.files.remove(key)
        _fence(store, snapshot, name)
        if not store.files.exists(f"sweeps/{name}/plan.parquet"):
            break
    with suppress(OSError):  # who runs it again just now is back
        (store.root / "sweeps" / name / "plans").rmdir()
    with suppress(OSError):
        (store.root / "sweeps" / name).rmdir()


def _fence(store: Store, snapshot: Snapshot, name: str) -> None:
    """Takes a sweep over, for nobody."""
    while True:
        entry = Entry(
            seq=snapshot.seq + 1,
            writer=uuid4().hex,
            at=datetime.now(UTC).isoformat(),
            sweep=name,
            epoch=snapshot.epochs.get(name, (0, ""))[0] + 1,
            take_over=True,
        )
        if log.put(store.files, entry):
            snapshot.apply(entry)
            return
        for _ in log.read_from(store.files, snapshot):
            pass


def _keep(store: Store, snapshot: Snapshot, plans: Plans) -> frozenset[str]:
    planned = {one.measurement_id for one in plans.asked}
    return wanted(plans.asked, _held(store, snapshot, planned))


def _held(store: Store, snapshot: Snapshot, planned: Collection[str]) -> Iterator[Held]:
    """What is not planned, of the tables where it may be wanted all the same."""
    columns = {
        "models": ["measurement_id", "model_id"],
        "verification": ["measurement_id", "model_id", "dataset", "split", "property", "norm"],
    }
    for table, names in columns.items():
        for part in snapshot.parts(table):
            if not part.covers.keys() - planned:
                continue
            found = _columns(store, part, names).group_by(names).aggregate([])
            for row in found.to_pylist():
                key, model = row.pop("measurement_id"), row["model_id"]
                yield Held(key, model, Question(**row) if table == "verification" else None)


def _tried(store: Store, snapshot: Snapshot, plans: Plans) -> set[str]:
    """Measurements that sweeps which are none any more have tried."""
    ids: set[str] = set()
    for part in snapshot.parts("jobs"):
        rows = _columns(store, part, ["measurement_id", "sweep"])
        known = pc.is_in(rows["sweep"], pa.array(sorted(plans.sweeps), pa.string()))
        ids.update(pc.unique(rows.filter(pc.invert(known))["measurement_id"]).to_pylist())
    return ids


def _cuts(store: Store, snapshot: Snapshot, plans: Plans, ids: Collection[str]) -> Iterator[_Cut]:
    """The parts that hold rows of these measurements."""
    unwanted = pa.array(sorted(ids), pa.string())
    for part in list(snapshot.live.values()):
        covers = {key: ranges for key, ranges in part.covers.items() if key not in ids}
        if part.table == "jobs":  # the attempts of a sweep are known as long as it is
            rows = _columns(store, part, ["measurement_id", "sweep"])
            known = pc.is_in(rows["sweep"], pa.array(sorted(plans.sweeps), pa.string()))
            goes = pc.and_(pc.is_in(rows["measurement_id"], unwanted), pc.invert(known))
        elif len(covers) == len(part.covers):
            continue
        elif covers:
            goes = pc.is_in(_columns(store, part, ["measurement_id"])["measurement_id"], unwanted)
        else:
            yield _Cut(part, None, {}, part.rows)
            continue
        count = pc.sum(goes).as_py() or 0
        if count == part.rows and not covers:
            yield _Cut(part, None, {}, count)
        elif count or len(covers) < len(part.covers):
            yield _Cut(part, pc.invert(goes), covers, count)


def _free_rows(store: Store, ids: Collection[str], writer: str) -> int | None:
    """Puts one log entry, or sees that plans or log have changed; None: there is nothing left."""
    snapshot = store.snapshot()
    plans = recorded(store)
    unwanted = frozenset(ids) - _keep(store, snapshot, plans)
    cuts = []
    for cut in _cuts(store, snapshot, plans, unwanted):
        cuts.append(cut)
        if len(cuts) == _PARTS_AT_ONCE:
            break
    if not cuts:
        return None
    added = []
    for cut in cuts:
        if cut.stays is not None:
            rows = read_part(store.files, cut.part.path).filter(cut.stays)
            stamp = Stamp("", writer, uuid4().hex, 1)
            added.append(write_part(store.files, cut.part.table, rows, cut.covers, stamp))
    while True:
        for _ in log.read_from(store.files, snapshot):
            pass
        there = all(cut.part.path in snapshot.live for cut in cuts)
        if not there or recorded(store).digests != plans.digests:
            break
        entry = Entry(
            seq=snapshot.seq + 1,
            writer=writer,
            at=datetime.now(UTC).isoformat(),
            add=tuple(added),
            remove=tuple(cut.part.path for cut in cuts),
        )
        if log.put(store.files, entry):
            return sum(cut.rows for cut in cuts)
    for part in added:
        store.files.remove(part.path)
    return 0


def _free_files(store: Store, ids: Collection[str], grace: timedelta) -> int:
    deleted = 0
    plans: Plans | None = None
    keep: frozenset[str] = frozenset()
    due = [f for f in _files(store, store.snapshot()) if f.measurement_id in ids]
    due = [f for f in due if datetime.now(UTC) - f.unused_since >= grace]
    for first in range(0, len(due), _FILES_AT_ONCE):
        now = recorded(store)
        if plans is None or now.digests != plans.digests:
            plans, keep = now, _keep(store, store.snapshot(), now)
        for file in due[first : first + _FILES_AT_ONCE]:
            if file.measurement_id not in keep:
                store.files.remove(file.key)
                deleted += 1
    return deleted


def _files(store: Store, snapshot: Snapshot) -> Iterator[File]:
    """Artifacts and checkpoints, and since when no part can have needed them."""
    removed: dict[str, str] = {}  # measurement id, or "" for parts of many -> when
    for path, at in snapshot.removed.items():
        match = ID.search(path.rsplit("/", 1)[-1])
        key = match[0] if match else ""
        removed[key] = max(at, removed.get(key, ""))
    for folder in ("artifacts", "checkpoints"):
        for key in store.files.list(folder):
            match = ID.search(key)
            if match is None:
                continue
            try:
                stat = (store.root / key).stat()
            except FileNotFoundError:  # a training has just replaced its checkpoint
                continue
            written = datetime.fromtimestamp(stat.st_mtime, UTC)
            last = [datetime.fromisoformat(removed[k]) for k in (match[0], "") if k in removed]
            yield File(key, match[0], stat.st_size, max([written, *last]))


def _columns(store: Store, part: Part, names: list[str]) -> pa.Table:
    try:
        content = pa.BufferReader(store.files.read(part.path))
        with pq.ParquetFile(content, pre_buffer=False) as file:
            return file.read(names, use_threads=False)  # as parts.decode
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{part.path}: {error}; `robsweep check` says what is wrong") from error
