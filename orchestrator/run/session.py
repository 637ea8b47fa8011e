"""One run of one sweep, from its spec to the last committed row."""

import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.next_jobs import missing_ranges, next_jobs
from robsweep.orchestrator.plan.plan import Places, Plan, asked_for, plan
from robsweep.orchestrator.plan.recorded import attacks_on, is_recorded, record
from robsweep.orchestrator.results.check import past_jobs
from robsweep.orchestrator.run.counting import count_left, given_up
from robsweep.orchestrator.run.drive import DEFAULT, Options, Stop, Summary, drive, preflight
from robsweep.orchestrator.run.executor import Executor, InlineExecutor
from robsweep.orchestrator.run.inputs import InputReader, past_rows
from robsweep.orchestrator.run.progress import Progress
from robsweep.orchestrator.run.work import library_versions
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.data_warnings import data_warnings
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.catalogue.code.install import how_to_install


def run(
    spec: SweepSpec,
    settings: Settings,
    options: Options = DEFAULT,
    only: frozenset[str] = frozenset(),
) -> Summary:
    """Runs what a sweep still misses.

    Args:
        only: Measurements of these kinds, and what they need; all, if there are none.

    Raises:
        InputError: Before anything is written.
        FencedError: Another driver took the sweep over.
    """
    store = Store.existing(settings.store)
    snapshot = store.snapshot() if store else Snapshot()
    whole = plan(
        spec,
        Places(settings.data_dir, settings.nets_dir, attacks_on(store, snapshot)),
        snapshot.coverage,
    )
    say_data_warnings(spec)
    todo = asked_for(whole, only, options.rerun)
    jobs = past_jobs(store, snapshot) if store else []
    summary, finished = Summary(), []
    stop = Stop()
    with _executor(settings.address, spec, store, snapshot, todo, jobs, options) as executor:
        if executor is not None and _runs_models(todo, snapshot):
            finished = preflight(todo, executor, InputReader(todo, store, snapshot))
        store = Store.create(settings.store)
        record(store, spec, whole, settings, library_versions())
        if executor is None:
            snapshot = store.snapshot()  # what is recorded now is kept: see store/free.py
            open_rows = past_rows(todo, store, snapshot, options.retry)
            summary.left = count_left(todo, snapshot.coverage, open_rows)
            return summary
        writer = Writer(store, spec.name)
        while not is_recorded(store, whole):  # the sweep was deleted in between
            record(store, spec, whole, settings, library_versions())
            writer = Writer(store, spec.name)
        # not earlier: rows that nobody had recorded may have been freed until now
        finished = [_without_known_rows(job, writer.snapshot) for job in finished]
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
                    first=finished,
                )
        finally:
            progress.close()
    return summary


def _runs_models(todo: Plan, snapshot: Snapshot) -> bool:
    """Whether anything is left that is not made of stored rows alone."""
    return any(
        not one.from_rows and missing_ranges(one, snapshot.coverage(key))
        for key, one in todo.measurements.items()
    )


def say_data_warnings(spec: SweepSpec) -> None:
    """On stderr, what looks wrong in data sets that are the user's files."""
    for text in data_warnings(spec):
        print(f"{spec.name}: {text}", file=sys.stderr)


def _without_known_rows(job: Finished, snapshot: Snapshot) -> Finished:
    """A preflight whose imported model has its row already does not write it again."""
    known = any(job.measurement_id in part.covers for part in snapshot.parts("models"))
    return replace(job, tables={}) if known else job


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
    open_rows = past_rows(todo, store, snapshot, options.retry)
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
                f"--address {address} needs Ray ({error}): {how_to_install('cluster')}; "
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


@contextmanager
def _interrupts(stop: Stop, progress: Progress) -> Iterator[None]:
    """First Ctrl-C (or SIGTERM) drains, the second stops now.

    Only the main thread may handle signals: elsewhere they stay what they are.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

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
