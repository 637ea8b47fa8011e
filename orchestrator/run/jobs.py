"""Looking at single jobs of a store: what they did, and doing them again here."""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.identity import canonical_json
from robsweep.orchestrator.plan.plan import Places, Plan, Planned, plan
from robsweep.orchestrator.plan.recorded import attacks_on, recorded
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.parts import decode, read_part
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.job import Inputs, Job


def explain(store: Store, name: str) -> str:
    """All attempts at a job, with their tracebacks, and the command that runs it again here.

    Raises:
        InputError: No job of that name was tried.
    """
    key, start, stop = parse_name(name)
    attempts = [
        row
        for part in store.snapshot().parts("jobs")
        for row in read_part(store.files, part.path).to_pylist()
        if (row["measurement_id"], row["start"], row["stop"]) == (key, start, stop)
    ]
    if not attempts:
        raise InputError(f"{store.root} knows no job {name}: `robsweep check` counts what it has")
    lines = []
    for row in sorted(attempts, key=lambda row: (row["started_at"], row["attempt"])):
        lines.append(
            f"{row['kind']} {row['name']} of sweep {row['sweep']}, attempt {row['attempt']}: "
            f"{row['status']} after {row['seconds']:.2f} s on {row['host']}, {row['started_at']}"
        )
        if row["error"]:
            lines.append(row["error"].rstrip())
    lines.append(f"reproduce here: robsweep explain {name} --run --store {store.root}")
    return "\n".join(lines)


def reproduce(store: Store, settings: Settings, name: str) -> str:
    """Runs a recorded job again in this process, uncaught, writing nothing.

    Where code, weights or data have changed since, it runs what stands in its place now, and says
    so.

    Raises:
        InputError: Nothing in the sweeps of the store stands in its place.
    """
    from robsweep.tasks.jobs import run

    key, start, stop = parse_name(name)
    snapshot = store.snapshot()
    tried = _tried(store, snapshot, key)
    reasons = []
    for sweep in sorted(store.sweeps(), key=lambda one: (one not in tried, one)):
        try:
            spec, places = recorded(store, sweep, settings)
            planned = plan(
                spec,
                Places(places.data_dir, places.nets_dir, attacks_on(store, snapshot)),
                snapshot.coverage,
            )
        except InputError as error:  # another sweep's files may be gone by now
            reasons.append(f"{sweep}: {error}")
            continue
        before = decode(store.files.read(f"sweeps/{sweep}/plan.parquet")).to_pylist()
        found = _in_its_place(planned, key, tried.get(sweep), before)
        if found is None:
            continue
        job = Job(found.measurement, start, stop, found.setting)
        now = ""
        if found.measurement.measurement_id != key:
            now = f", as its code, weights or data are now ({job.name}): they have changed since"
        fresh = found.measurement.kind == "preflight" and not found.measurement.model.weights
        try:
            reader = InputReader(planned, store, snapshot)
            inputs, theirs = (Inputs(), "") if fresh else _inputs(reader, job, tried.get(sweep))
        except (FileNotFoundError, pa.ArrowInvalid) as error:  # it was never trained, or measured
            raise InputError(
                f"{job.name} needs weights or rows that {store.root} has not: "
                f"run sweep {sweep} first"
            ) from error
        now += theirs
        if now:
            print(f"{name} runs{now}", file=sys.stderr)
        try:
            output = run(job, inputs)
        except InputError as error:  # uncaught means uncaught: with its traceback
            raise RuntimeError(str(error)) from error
        counts = ", ".join(f"{n}: {t.num_rows} rows" for n, t in output.tables.items())
        return f"{name} works here{now}: {counts or 'no rows'}"
    why = "; ".join(reasons) or "its sweep asks for something else now"
    raise InputError(f"{key} is in no sweep of {store.root} any more ({why})")


def _inputs(reader: InputReader, job: Job, tried: Mapping[str, Any] | None) -> tuple[Inputs, str]:
    """Inputs of a job; with the weights of the model that was tried, where its own are not there.

    An edit of the file that a model is in gives it another id, also if the model is as it was.
    """
    try:
        return reader.of(job), ""
    except FileNotFoundError:
        m = job.measurement
        if tried is None or tried["model_id"] == m.model.model_id:
            raise
        model = replace(m.model, model_id=tried["model_id"])
        before = replace(job, measurement=replace(m, model=model))
        return reader.of(before), f", with the recorded weights of {model.model_id}"


def _tried(store: Store, snapshot: Snapshot, key: str) -> dict[str, dict[str, Any]]:
    """Sweep -> an attempt at a measurement."""
    return {
        row["sweep"]: row
        for part in snapshot.parts("jobs")
        for row in read_part(store.files, part.path).to_pylist()
        if row["measurement_id"] == key
    }


_IDS = re.compile(r"-[0-9a-f]{16}")
_PLACE = ("section", "entry", "model", "training")


def _in_its_place(
    planned: Plan, key: str, tried: Mapping[str, Any] | None, before: list[dict[str, Any]]
) -> Planned | None:
    """The measurement of a plan, or what the same lines of its sweep file stand for by now.

    Args:
        tried: An attempt at it by this sweep.
        before: The rows of the plan when the sweep last ran.
    """
    everything = [*planned.measurements.values(), *planned.preflights]
    for one in everything:
        if one.measurement.measurement_id == key:
            return one
    if tried is None:
        return None
    same = ("kind", "name", "dataset", "split", "seed")
    alike = [
        one for one in everything if all(getattr(one.measurement, n) == tried[n] for n in same)
    ]
    for row in before:
        if row["measurement_id"] == key:
            params = _IDS.sub("", row["params_json"])
            alike = [
                one
                for one in alike
                if all(getattr(one, n) == row[n] for n in _PLACE)
                and _IDS.sub("", canonical_json(one.measurement.params)) == params
            ]
    model = [one for one in alike if one.measurement.model.model_id == tried["model_id"]]
    alike = model or alike
    if len(alike) > 1:
        names = ", ".join(f"{one.model}/{one.entry}" for one in alike[:5])
        raise InputError(f"{key} may be {names} by now: run the sweep, and explain what fails then")
    return alike[0] if alike else None


def parse_name(name: str) -> tuple[str, int, int]:
    """Splits `<measurement id>:<start>-<stop>`.

    Raises:
        InputError: It is not of that form.
    """
    try:
        key, ranges = name.rsplit(":", 1)
        start, stop = ranges.split("-")
        return key, int(start), int(stop)
    except ValueError as error:
        raise InputError(
            f"{name!r} names no job: expected e.g. attack-0123456789abcdef:0-250"
        ) from error
