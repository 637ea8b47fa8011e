"""One run of one sweep, from its spec to the last committed row."""

import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from robsweep.orchestrator.errors import InputError, StoreError
from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.next_jobs import missing_ranges, next_jobs
from robsweep.orchestrator.plan.plan import Places, Plan, plan, with_rerun
from robsweep.orchestrator.plan.table import to_table
from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results.check import past_jobs
from robsweep.orchestrator.run.drive import (
    DEFAULT,
    Options,
    Stop,
    Summary,
    count_left,
    drive,
    given_up,
    preflight,
)
from robsweep.orchestrator.run.executor import Executor, InlineExecutor
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.progress import Progress
from robsweep.orchestrator.run.work import library_versions
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.data_warnings import data_warnings
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import parse
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.catalogue import KINDS


@dataclass(frozen=True)
class KindOutlook:
    """What one kind of a plan still asks for."""

    kind: str
    measurements: int
    samples: int
    covered: int
    expected_seconds: float


def run(
    spec: SweepSpec,
    settings: Settings,
    options: Options = DEFAULT,
    only: frozenset[str] = frozenset(),
) -> Summary:
    """Runs what a sweep still misses.

    Raises:
        InputError: Before anything is written.
        FencedError: Another driver took the sweep over.
    """
    whole = plan(spec, Places(settings.data_dir, settings.nets_dir))
    say_data_warnings(spec)
    todo = _only(whole, only)
    if options.rerun is not None:
        todo = with_rerun(todo, options.rerun)
    store = _existing(settings.store)
    snapshot = store.snapshot() if store else Snapshot()
    jobs = past_jobs(store, snapshot) if store else []
    summary, finished = Summary(), []
    stop = Stop()
    with _executor(settings.address, spec, store, snapshot, todo, jobs, options) as executor:
        if executor is not None:
            finished = preflight(todo, executor, InputReader(todo, store, snapshot))
            finished = [_without_known_rows(job, snapshot) for job in finished]
        store = Store.create(settings.store)
        _record(store, spec, whole, settings)
        if executor is None:
            open_rows = _open_rows(todo, store, snapshot, options.retry)
            summary.left = count_left(todo, snapshot.coverage, open_rows)
            return summary
        writer = Writer(store, spec.name)
        progress = Progress(spec.name, executor.slots)
        if writer.adopted or writer.quarantined:
            progress.say(
                f"an earlier run was cut off: {writer.adopted} parts adopted, "
                f"{writer.quarantined} moved to quarantine/"
            )
        try:
            with _interrupts(stop, progress):
                summary = drive(
                    todo,
                    writer,
                    executor,
                    InputReader(todo, store, writer.snapshot),
                    jobs,
                    options=options,
                    stop=stop,
                    progress=progress,
                    finished=finished,
                )
        finally:
            progress.close()
    return summary


def say_data_warnings(spec: SweepSpec) -> None:
    """On stderr, what looks wrong in data sets that are the user's files."""
    for text in data_warnings(spec):
        print(f"{spec.name}: {text}", file=sys.stderr)


def _without_known_rows(job: Finished, snapshot: Snapshot) -> Finished:
    """A preflight whose imported model has its row already does not write it again."""
    known = any(job.measurement_id in part.covers for part in snapshot.parts("models"))
    return replace(job, tables={}) if known else job


def outlook(spec: SweepSpec, settings: Settings) -> list[KindOutlook]:
    """What would run, what is done, and what it is expected to cost; runs nothing."""
    planned = plan(spec, Places(settings.data_dir, settings.nets_dir))
    say_data_warnings(spec)
    store = _existing(settings.store)
    snapshot = store.snapshot() if store else Snapshot()
    costs = Costs.of(past_jobs(store, snapshot) if store else [])
    open_rows = _open_rows(planned, store, snapshot, frozenset())
    rows = []
    for kind in KINDS:
        measurements = [p for p in planned.measurements.values() if p.measurement.kind == kind]
        samples = covered = 0
        seconds = 0.0
        for p in measurements:
            key = p.measurement.measurement_id
            if kind == "solve":  # known once the screen has run
                left = len(open_rows.open[key])
                samples += left
            else:
                wanted = total(missing_ranges(p, ()))
                left = total(missing_ranges(p, snapshot.coverage(key)))
                samples += wanted
                covered += wanted - left
            seconds += left * costs.expected(p)
        if measurements:
            rows.append(KindOutlook(kind, len(measurements), samples, covered, seconds))
    return rows


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


def _existing(location: Path) -> Store | None:
    """The store there; None where a run would make it.

    Raises:
        StoreError: The folder holds something else.
    """
    if (location / "store.json").exists():
        return Store.open(location)
    if location.exists() and (not location.is_dir() or any(location.iterdir())):
        raise StoreError(
            f"{location} is not empty and not a robsweep store: name another with --store"
        )
    return None


def _only(whole: Plan, kinds: frozenset[str]) -> Plan:
    """The measurements of some kinds, and what they need."""
    if not kinds:
        return whole
    keep: dict[str, None] = {}

    def add(key: str) -> None:
        for need in whole.measurements[key].needs:
            add(need)
        keep[key] = None

    for key, planned in whole.measurements.items():
        if planned.measurement.kind in kinds:
            add(key)
    if not keep:
        there = sorted({p.measurement.kind for p in whole.measurements.values()})
        raise InputError(f"--only {', '.join(sorted(kinds))}: the sweep has {', '.join(there)}")
    measurements = {key: p for key, p in whole.measurements.items() if key in keep}
    return replace(whole, measurements=measurements)


def _open_rows(
    planned: Plan, store: Store | None, snapshot: Snapshot, retry: frozenset[str]
) -> OpenRows:
    open_rows = OpenRows(planned, retry)
    for rows in InputReader(planned, store, snapshot).verification_rows(planned):
        open_rows.add(rows, past=True)
    return open_rows


@contextmanager
def _executor(
    address: str,
    spec: SweepSpec,
    store: Store | None,
    snapshot: Snapshot,
    todo: Plan,
    jobs: Sequence[Mapping[str, Any]],
    options: Options,
) -> Iterator[Executor | None]:
    """An executor, or None where there is nothing to do: then nothing is started."""
    open_rows = _open_rows(todo, store, snapshot, options.retry)
    claimed = given_up(todo, jobs, options.retry)
    new = next_jobs(todo, snapshot.coverage, claimed, open_rows.open, Costs().expected)
    if next(new, None) is None:
        yield None
        return
    executor: Executor
    if address == "inline":
        executor = InlineExecutor()
    else:
        try:
            from robsweep.orchestrator.run import ray_executor
        except ModuleNotFoundError as error:
            raise InputError(
                f"--address {address} needs Ray ({error}): pip install 'robsweep[cluster]', "
                "or use --address inline"
            ) from error
        place = "on this machine" if address == "local" else f"at {address}"
        print(f"{spec.name}: starting Ray {place}, checking models and data", file=sys.stderr)
        ray_executor.connect(address)
        executor = ray_executor.RayExecutor(spec.resources, elastic=address != "local")
    try:
        yield executor
    finally:
        executor.close()


def _record(store: Store, spec: SweepSpec, whole: Plan, settings: Settings) -> None:
    folder = f"sweeps/{spec.name}"
    env = {
        "folder": str(spec.folder),
        "data_dir": str(settings.data_dir),
        "nets_dir": str(settings.nets_dir) if settings.nets_dir else None,
        "address": settings.address,
        "library_versions": json.loads(library_versions()),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(to_table(whole), sink)
    store.files.write(f"{folder}/spec.yaml", spec.text.encode())
    store.files.write(f"{folder}/env.json", json.dumps(env, indent=1).encode())
    store.files.write(f"{folder}/plan.parquet", sink.getvalue().to_pybytes())


@contextmanager
def _interrupts(stop: Stop, progress: Progress) -> Iterator[None]:
    """First Ctrl-C (or SIGTERM) drains, the second stops now."""

    def interrupt(_: int, __: FrameType | None) -> None:
        stop.asked += 1
        if stop.asked == 1:
            progress.say("stopping: waiting for running jobs; press Ctrl-C again to stop now")
        elif stop.interruptible:
            raise KeyboardInterrupt

    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
