"""The store's log: one gap-free sequence of entries, each put if absent, and its fold.

An entry `log/<seq>.json` adds parts, removes parts, or takes over a sweep. Whoever puts one has
read all earlier ones, so the log itself decides every race: a lost put means "read on, retry".
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.files import Files
from robsweep.orchestrator.ranges import Range, Ranges, union
from robsweep.tasks.catalogue import KINDS

CHECKPOINT_EVERY = 64
_ENTRY = re.compile(r"log/\d{12}\.json")


@dataclass(frozen=True)
class Part:
    """A Parquet file of one table that the log counts."""

    path: str
    table: str
    rows: int
    bytes: int
    sha256: str
    schema: str  # fingerprint: equal for parts with equal Arrow schemas
    covers: Mapping[str, Ranges]  # measurement id -> samples


@dataclass(frozen=True)
class Entry:
    """One step of the log."""

    seq: int
    writer: str
    at: str  # UTC, ISO 8601
    sweep: str | None = None  # None: maintenance, by no sweep's driver
    epoch: int = 0
    take_over: bool = False
    add: tuple[Part, ...] = ()
    remove: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":"), sort_keys=True).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Entry":
        raw = json.loads(content)
        raw["add"] = tuple(_part(part) for part in raw["add"])
        raw["remove"] = tuple(raw["remove"])
        return cls(**raw)


@dataclass
class Snapshot:
    """What the log says as of `seq`."""

    seq: int = 0
    live: dict[str, Part] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)  # path -> when
    epochs: dict[str, tuple[int, str]] = field(default_factory=dict)  # sweep -> epoch, writer
    _coverage: dict[str, Ranges] = field(default_factory=dict)

    def parts(self, table: str) -> list[Part]:
        return [part for part in self.live.values() if part.table == table]

    def coverage(self, measurement_id: str) -> Ranges:
        """The samples of a measurement that are done."""
        return self._coverage.get(measurement_id, ())

    def apply(self, entry: Entry) -> None:
        if entry.seq != self.seq + 1:
            raise StoreError(f"log entry {entry.seq} follows {self.seq}: the log has a gap")
        self.seq = entry.seq
        if entry.take_over and entry.sweep is not None:
            self.epochs[entry.sweep] = (entry.epoch, entry.writer)
        for path in entry.remove:
            self.live.pop(path, None)
            self.removed[path] = entry.at
        for part in entry.add:
            self.live[part.path] = part
        if entry.remove:
            self._coverage = {}
            self._cover(self.live.values())
        else:
            self._cover(entry.add)

    def _cover(self, parts: Iterable[Part]) -> None:
        found: dict[str, list[Range]] = {}
        for part in parts:
            for measurement_id, ranges in done_ranges(part):
                found.setdefault(measurement_id, []).extend(ranges)
        for measurement_id, extra in found.items():
            self._coverage[measurement_id] = union(
                [*self._coverage.get(measurement_id, ()), *extra]
            )


def done_ranges(part: Part) -> Iterator[tuple[str, Ranges]]:
    """What a part makes done: its ranges, where its table is the one its kind is counted by."""
    for measurement_id, ranges in part.covers.items():
        kind = KINDS.get(measurement_id.split("-")[0])
        if kind is not None and kind.table == part.table:
            yield measurement_id, ranges


def entry_key(seq: int) -> str:
    return f"log/{seq:012d}.json"


def put(files: Files, entry: Entry) -> bool:
    """Puts an entry if its place is free; an ambiguous answer is resolved by reading back."""
    content = entry.to_json()
    key = entry_key(entry.seq)
    try:
        if files.put_if_absent(key, content):
            return True
    except OSError:
        if not files.exists(key):
            raise
    return files.read(key) == content


def read_from(files: Files, snapshot: Snapshot) -> Iterator[Entry]:
    """Applies all entries after the snapshot to it, and yields them."""
    while True:
        key = entry_key(snapshot.seq + 1)
        try:
            content = files.read(key)
        except FileNotFoundError:
            return
        try:
            entry = Entry.from_json(content)
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"{key} is damaged ({error}): restore it from a backup") from error
        snapshot.apply(entry)
        yield entry


def read(files: Files) -> Snapshot:
    """The log as of now, from its newest checkpoint on.

    Raises:
        StoreError: The log has a gap or a damaged entry.
    """
    keys = list(files.list("log"))
    checkpoints = sorted(key for key in keys if key.startswith("log/checkpoint-"))
    snapshot = _read_checkpoint(files, checkpoints[-1]) if checkpoints else Snapshot()
    for _ in read_from(files, snapshot):
        pass
    newest = max((int(key[4:-5]) for key in keys if _ENTRY.fullmatch(key)), default=0)
    if newest > snapshot.seq:
        raise StoreError(
            f"{entry_key(snapshot.seq + 1)} is missing while {entry_key(newest)} exists: "
            "the log has a gap; restore the missing entry from a backup"
        )
    return snapshot


def write_checkpoint(files: Files, snapshot: Snapshot) -> None:
    """Writes the fold, so that reading starts near the end; any writer would write the same."""
    paths = [*snapshot.live, *snapshot.removed]
    parts = [snapshot.live.get(path) for path in paths]
    content = pa.table(
        {
            "path": paths,
            "part": [None if p is None else json.dumps(asdict(p)) for p in parts],
            "removed_at": [snapshot.removed.get(path) for path in paths],
        },
        schema=pa.schema({"path": pa.string(), "part": pa.string(), "removed_at": pa.string()}),
    ).replace_schema_metadata({"seq": str(snapshot.seq), "epochs": json.dumps(snapshot.epochs)})
    sink = pa.BufferOutputStream()
    pq.write_table(content, sink)
    files.put_if_absent(f"log/checkpoint-{snapshot.seq:012d}.parquet", sink.getvalue().to_pybytes())


def _read_checkpoint(files: Files, key: str) -> Snapshot:
    try:
        with pq.ParquetFile(pa.BufferReader(files.read(key)), pre_buffer=False) as file:
            content = file.read(use_threads=False)  # as parts.decode, which needs this module
        metadata = content.schema.metadata
        epochs = {name: (e, w) for name, (e, w) in json.loads(metadata[b"epochs"]).items()}
        snapshot = Snapshot(seq=int(metadata[b"seq"]), epochs=epochs)
        for row in content.to_pylist():
            if row["part"] is not None:
                snapshot.live[row["path"]] = _part(json.loads(row["part"]))
            if row["removed_at"] is not None:
                snapshot.removed[row["path"]] = row["removed_at"]
    except (pa.ArrowException, ValueError, KeyError) as error:
        raise StoreError(f"{key} is damaged ({error}): delete it, the log has it all") from error
    snapshot._cover(snapshot.live.values())
    return snapshot


def _part(raw: dict[str, object]) -> Part:
    covers = raw["covers"]
    assert isinstance(covers, dict)
    ranges = {name: tuple((int(a), int(b)) for a, b in pairs) for name, pairs in covers.items()}
    return Part(**{**raw, "covers": ranges})  # type: ignore[arg-type]
