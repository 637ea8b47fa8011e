"""Reading whole stores in tests: all rows, without what may differ between runs."""

from pathlib import Path

import pyarrow as pa

from robsweep.orchestrator.store.parts import read_part
from robsweep.orchestrator.store.store import Store

VOLATILE = {"seconds", "started_at", "host", "attempt", "peak_memory_bytes", "expected_seconds"}


def all_rows(location: str | Path, table: str) -> pa.Table:
    """All rows of a table, sorted, without times and the like."""
    store = Store.open(location)
    pieces = [read_part(store.files, part.path) for part in store.snapshot().parts(table)]
    rows = pa.concat_tables(pieces)
    rows = rows.select([name for name in rows.column_names if name not in VOLATILE])
    nested = [f.name for f in rows.schema if pa.types.is_nested(f.type)]
    keys = [(name, "ascending") for name in rows.column_names if name not in nested]
    return rows.sort_by(keys).combine_chunks()


def same_rows(a: str | Path, b: str | Path, tables: tuple[str, ...]) -> None:
    """Asserts that two stores hold bitwise equal rows."""
    for table in tables:
        left, right = all_rows(a, table), all_rows(b, table)
        assert left.num_rows > 0, table
        assert left.equals(right), f"{table}: {left.num_rows} and {right.num_rows} rows differ"
