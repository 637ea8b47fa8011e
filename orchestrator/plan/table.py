"""A plan as a table, `sweeps/<name>/plan.parquet`: how readers know what a sweep asked for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from robsweep.orchestrator.identity import MADE_HERE, canonical_json
from robsweep.orchestrator.plan.plan import Plan, Planned
from robsweep.orchestrator.plan.sources import Code, Source
from robsweep.orchestrator.ranges import Ranges, union
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.job import ModelRef

SCHEMA = pa.schema(
    {
        "measurement_id": pa.string(),
        "kind": pa.string(),
        "section": pa.string(),
        "entry": pa.string(),
        "name": pa.string(),
        "model": pa.string(),
        "training": pa.string(),
        "seed": pa.int64(),
        "model_id": pa.string(),
        "dataset": pa.string(),
        "split": pa.string(),
        "norm": pa.string(),
        "eps": pa.list_(pa.float64()),
        "params_json": pa.string(),
        "wanted": pa.list_(pa.struct({"start": pa.int64(), "stop": pa.int64()})),
        "group_size": pa.int64(),
        "split_size": pa.int64(),
        "time_limit_seconds": pa.float64(),
        "needs": pa.list_(pa.string()),
        # what else an id hashes; not in plans of before, so readers must do without
        "version": pa.int64(),  # of the kind
        "code_json": pa.string(),  # a user's functions -> {sha256, files: {path: SHA-256}}
        "import_json": pa.string(),  # what makes an imported model
        "uses_json": pa.string(),  # of OOD sets: who asks for it, beside which ID data
    }
)


@dataclass(frozen=True)
class PlanRow:
    """One measurement as a plan's table has it."""

    measurement_id: str
    kind: str
    section: str
    entry: str
    model: str
    training: str | None
    seed: int | None
    model_id: str
    dataset: str
    split: str
    params: Mapping[str, Any]
    wanted: Ranges
    group: int
    size: int
    time_limit_seconds: float | None = None
    needs: tuple[str, ...] = ()
    version: int | None = None  # None: planned before plans knew it, or code and imports
    code: Code | None = None
    imported: Mapping[str, Any] | None = None

    @property
    def label(self) -> str:
        """Whose measurement it is: `model/training/seed`, or the name of an imported model."""
        return "/".join(str(n) for n in (self.model, self.training, self.seed) if n is not None)


def from_table(table: pa.Table) -> Sequence[PlanRow]:
    """The rows of a plan, of this version or an older one."""
    return [_row(row) for row in table.to_pylist()]


def to_table(plan: Plan) -> pa.Table:
    """One row per measurement, in the order of the sweep file."""
    rows = []
    for planned in plan.measurements.values():
        m = planned.measurement
        eps = m.params.get("eps")
        rows.append(
            {
                "measurement_id": m.measurement_id,
                "kind": m.kind,
                "section": planned.section,
                "entry": planned.entry,
                "name": m.name,
                "model": planned.model,
                "training": planned.training,
                "seed": m.seed,
                "model_id": m.model.model_id,
                "dataset": m.dataset,
                "split": m.split,
                "norm": m.params.get("norm"),
                "eps": [eps] if isinstance(eps, float) else eps,
                "params_json": canonical_json(m.params),
                "wanted": [{"start": start, "stop": stop} for start, stop in planned.wanted],
                "group_size": planned.group,
                "split_size": planned.size,
                "time_limit_seconds": planned.setting.time_limit_seconds,
                "needs": list(planned.needs),
                "version": KINDS[m.kind].version,
                "code_json": _code_json(planned),
                "import_json": _import_json(m.model),
                "uses_json": _uses_json(planned),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _row(row: Mapping[str, Any]) -> PlanRow:
    version, code, imported = map(row.get, ("version", "code_json", "import_json"))
    return PlanRow(
        row["measurement_id"],
        row["kind"],
        row["section"],
        row["entry"],
        row["model"],
        row["training"],
        row["seed"],
        row["model_id"],
        row["dataset"],
        row["split"],
        json.loads(row["params_json"]),
        union((piece["start"], piece["stop"]) for piece in row["wanted"]),
        row["group_size"],
        row["split_size"],
        row["time_limit_seconds"],
        tuple(row["needs"] or ()),
        version,
        None if version is None else _code(json.loads(code or "{}")),
        None if imported is None else json.loads(imported),
    )


def _code(written: Mapping[str, Any]) -> Code:
    return {name: Source(one["sha256"], one["files"]) for name, one in written.items()}


def _code_json(planned: Planned) -> str | None:
    if not planned.code:
        return None
    folders = planned.setting.import_paths
    code = {
        name: {
            "sha256": source.sha256,
            "files": {_short(path, folders): digest for path, digest in source.files.items()},
        }
        for name, source in planned.code.items()
    }
    return canonical_json(code)


def _uses_json(planned: Planned) -> str | None:
    return canonical_json([use._asdict() for use in planned.uses]) if planned.uses else None


def _short(path: str, folders: Sequence[str]) -> str:
    """A file as the user names it: the same wherever the sweep's folder lies."""
    for folder in folders:
        if Path(path).is_relative_to(folder):
            return str(Path(path).relative_to(folder))
    return path


def _import_json(model: ModelRef) -> str | None:
    if model.model_id.startswith(MADE_HERE):
        return None
    weights = model.weights_url or (None if model.weights is None else Path(model.weights).name)
    facts = {
        "arch": model.arch,
        "parameters": model.params,
        "weights": weights,
        "weights_sha256": model.weights_sha256,
    }
    return canonical_json(facts)
