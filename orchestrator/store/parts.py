"""Parts: the Parquet files that hold a store's rows. A part counts once the log names it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from robsweep.orchestrator.files import Files
from robsweep.orchestrator.ranges import Ranges
from robsweep.orchestrator.store.log import Part
from robsweep.tasks.rows import SCHEMA_VERSION

_STAMP = b"robsweep"


@dataclass(frozen=True)
class Stamp:
    """Who wrote a part, and with which others: a batch is adopted whole or not at all."""

    sweep: str
    writer: str
    batch: str
    batch_parts: int


def fingerprint(schema: pa.Schema) -> str:
    """Short digest, equal for equal Arrow schemas."""
    text = ",".join(f"{field.name}:{field.type}" for field in schema)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def write_part(
    files: Files, table: str, rows: pa.Table, covers: Mapping[str, Ranges], stamp: Stamp
) -> Part:
    """Writes a part under a name of its own and reads its footer before it becomes visible."""
    path = f"parts/{table}/{_name(covers)}-{uuid4().hex}.parquet"
    metadata = {"schema_version": SCHEMA_VERSION, "covers": covers, **asdict(stamp)}
    sink = pa.BufferOutputStream()
    stamped = rows.replace_schema_metadata({_STAMP: json.dumps(metadata)})
    pq.write_table(stamped, sink, compression="zstd")
    content = sink.getvalue()
    if pq.read_metadata(pa.BufferReader(content)).num_rows != rows.num_rows:
        raise OSError(f"{path}: the footer does not hold {rows.num_rows} rows")
    files.write(path, content)
    digest = hashlib.sha256(content).hexdigest()
    return Part(path, table, rows.num_rows, content.size, digest, fingerprint(rows.schema), covers)


def decode(content: bytes) -> pa.Table:
    """All rows of a Parquet file, with its schema metadata.

    On this thread alone: a thread of Arrow's that still holds Python's bytes when the interpreter
    ends aborts the process.

    Raises:
        pyarrow.ArrowInvalid: It is no Parquet file, or a damaged one.
    """
    with pq.ParquetFile(pa.BufferReader(content), pre_buffer=False) as file:
        return file.read(use_threads=False)


def read_part(files: Files, path: str) -> pa.Table:
    """All rows of a part."""
    return decode(files.read(path)).replace_schema_metadata(None)


def inspect(files: Files, path: str) -> tuple[Part, Stamp]:
    """What a part says of itself.

    Raises:
        ValueError: It is no part, or a damaged one (`pyarrow.ArrowInvalid` is a ValueError).
    """
    content = files.read(path)
    rows = decode(content)
    stamp = json.loads((rows.schema.metadata or {}).get(_STAMP, b"{}"))
    try:
        covers = {m: tuple((a, b) for a, b in ranges) for m, ranges in stamp["covers"].items()}
        who = Stamp(stamp["sweep"], stamp["writer"], stamp["batch"], stamp["batch_parts"])
    except KeyError as error:
        raise ValueError(f"{path} carries no {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    schema = fingerprint(rows.schema)
    table = path.split("/")[1]
    return Part(path, table, rows.num_rows, len(content), digest, schema, covers), who


def within(rows: pa.Table, ranges: Ranges) -> pa.Table:
    """The rows whose sample lies in the ranges; rows about no sample only if there is any range."""
    if not ranges or rows.num_rows == 0:
        return rows.slice(0, 0)
    sample = rows["sample"]
    if sample.null_count:
        return rows
    keep = [
        pc.and_(pc.greater_equal(sample, start), pc.less(sample, stop)) for start, stop in ranges
    ]
    mask = keep[0]
    for more in keep[1:]:
        mask = pc.or_(mask, more)
    return rows.filter(mask)


def _name(covers: Mapping[str, Ranges]) -> str:
    if len(covers) != 1:
        return "many"
    ((measurement_id, ranges),) = covers.items()
    return f"{measurement_id}-{ranges[0][0]}-{ranges[-1][1]}" if ranges else measurement_id
