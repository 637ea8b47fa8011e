"""What a store keeps of a sweep that ran there: file, plan, and the settings it ran with."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.plan.planned import Attacked
from robsweep.orchestrator.plan.table import PlanRow, from_table, to_table
from robsweep.orchestrator.ranges import intersect
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import parse
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.parts import decode
from robsweep.orchestrator.store.store import Store


def record(
    store: Store, spec: SweepSpec, whole: Plan, settings: Settings, library_versions: str
) -> None:
    """Writes down a sweep that is about to run; of that name's earlier runs only plans stay.

    Args:
        library_versions: JSON object.
    """
    folder = f"sweeps/{spec.name}"
    env = {
        "folder": str(spec.folder),
        "data_dir": str(settings.data_dir),
        "nets_dir": str(settings.nets_dir) if settings.nets_dir else None,
        "address": settings.address,
        "library_versions": json.loads(library_versions),
    }
    store.files.write(f"{folder}/spec.yaml", spec.text.encode())
    store.files.write(f"{folder}/env.json", json.dumps(env, indent=1).encode())
    store.record_plan(spec.name, _content(whole))


def is_recorded(store: Store, whole: Plan) -> bool:
    """Whether what `record` wrote is there: `delete` may have come in between."""
    folder = f"sweeps/{whole.name}"
    beside = all(store.files.exists(f"{folder}/{file}") for file in ("spec.yaml", "env.json"))
    return beside and store.has_plan(whole.name, _content(whole))


def recorded(store: Store, name: str, settings: Settings) -> tuple[SweepSpec, Settings]:
    """The spec of a sweep that ran in a store, and the settings that it ran with.

    Raises:
        InputError: There is no such sweep.
    """
    if name not in store.sweeps():
        known = ", ".join(store.sweeps()) or "none yet"
        raise InputError(f"no sweep {name!r} in {store.root}; there: {known}")
    text = store.files.read(f"sweeps/{name}/spec.yaml").decode()
    env = json.loads(store.files.read(f"sweeps/{name}/env.json"))
    document = parse(text, f"{store.root}/sweeps/{name}/spec.yaml")
    spec = from_document(document, Path(env["folder"]))
    nets = settings.nets_dir or (Path(env["nets_dir"]) if env["nets_dir"] else None)
    data = settings.data_dir if settings.data_dir_given else Path(env["data_dir"])
    return spec, replace(settings, data_dir=data, nets_dir=nets)


def recorded_plan(store: Store | None, name: str) -> Sequence[PlanRow]:
    """The plan of a sweep when it last ran in a store; empty if it never did."""
    if store is None or name not in store.sweeps():
        return ()
    return from_table(decode(store.files.read(f"sweeps/{name}/plan.parquet")))


def attacks_on(store: Store | None, snapshot: Snapshot) -> Callable[[str], list[Attacked] | None]:
    """The attacks of each sweep of a store, on the samples that are there; None: no such sweep."""

    def of(sweep: str) -> list[Attacked] | None:
        if store is None or sweep not in store.sweeps():
            return None
        found = []
        for row in recorded_plan(store, sweep):
            if row.kind != "attack":
                continue
            radii = row.params["eps"]
            there = intersect(row.wanted, snapshot.coverage(row.measurement_id))
            if there:
                found.append(
                    Attacked(
                        row.measurement_id, row.entry, row.model, row.model_id, row.dataset,
                        row.split, (None,) if radii is None else tuple(radii), there, row.group,
                        row.size,
                    )
                )  # fmt: skip
        return found

    return of


def _content(whole: Plan) -> bytes:
    pq.write_table(to_table(whole), sink := pa.BufferOutputStream())
    content: bytes = sink.getvalue().to_pybytes()
    return content
