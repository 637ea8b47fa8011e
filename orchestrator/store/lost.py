"""What freeing takes away, by the names that people know it by."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.store.log import Part, Snapshot
from robsweep.orchestrator.store.parts import read_part
from robsweep.orchestrator.store.store import Store


@dataclass(frozen=True)
class Lost:
    """A measurement whose rows or files go."""

    measurement_id: str
    kind: str
    name: str  # its catalogue entry; empty if no job of it is known
    model: str  # `model/training/seed`, or the id where nothing describes it
    rows: int  # of results
    sweeps: tuple[str, ...]  # whose jobs made it, or tried to


def lost(store: Store, snapshot: Snapshot, ids: Collection[str]) -> list[Lost]:
    """These measurements, those with the most rows first.

    Raises:
        StoreError: A part cannot be read.
    """
    rows: Counter[str] = Counter()
    for part in snapshot.live.values():
        if part.table != "jobs" and any(key in part.covers for key in ids):
            found = _of(store, part, ids, ["measurement_id"])["measurement_id"]
            rows.update(found.to_pylist())
    jobs: dict[str, dict[str, str]] = {}
    sweeps: dict[str, set[str]] = {}
    for part in snapshot.parts("jobs"):
        columns = ["measurement_id", "model_id", "name", "sweep"]
        for job in _of(store, part, ids, columns).group_by(columns).aggregate([]).to_pylist():
            jobs[job["measurement_id"]] = job
            sweeps.setdefault(job["measurement_id"], set()).add(job["sweep"])
    models = _labels(store, snapshot, {job["model_id"] for job in jobs.values()})
    all_of_them = []
    for key in sorted(ids):
        job = jobs.get(key, {})
        model = job.get("model_id", "")
        all_of_them.append(
            Lost(
                key,
                key.split("-")[0],
                job.get("name") or "",
                models.get(model, model),
                rows[key],
                tuple(sorted(sweeps.get(key, ()))),
            )
        )
    return sorted(all_of_them, key=lambda one: (-one.rows, one.kind, one.name, one.model))


def _labels(store: Store, snapshot: Snapshot, models: Collection[str]) -> dict[str, str]:
    """Model id -> what its sweep calls it."""
    names = {}
    for part in snapshot.parts("models"):
        columns = ["model_id", "model", "training", "seed"]
        for row in _of(store, part, models, columns, key="model_id").to_pylist():
            label = [row["model"], row["training"], row["seed"]]
            names[row["model_id"]] = "/".join(str(piece) for piece in label if piece is not None)
    return names


def _of(
    store: Store,
    part: Part,
    ids: Collection[str],
    columns: list[str],
    key: str = "measurement_id",
) -> pa.Table:
    try:
        rows = read_part(store.files, part.path).select(columns)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(f"{part.path}: {error}; `robsweep check` says what is wrong") from error
    return rows.filter(pc.is_in(rows[key], pa.array(sorted(ids), pa.string())))
