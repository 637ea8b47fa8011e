"""A plan as a table, `sweeps/<name>/plan.parquet`: how readers know what a sweep asked for."""

import pyarrow as pa

from robsweep.orchestrator.identity import canonical_json
from robsweep.orchestrator.plan.plan import Plan

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
    }
)


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
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)
