"""Runs one job where the worker is: inline or in a Ray worker, the same code and the same rows.

This is the one place where a job's exception is caught.
"""

import importlib
import json
import os
import platform
import resource
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from types import FrameType
from uuid import uuid4

import pyarrow as pa

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.store.log import Part
from robsweep.orchestrator.store.parts import Stamp, write_part
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.catalogue import KINDS
from robsweep.tasks.job import Inputs, Job

RUNNER = "robsweep.tasks.jobs:run"
LARGE_BYTES = 16 * 2**20  # results above this are written by the worker, if it sees the store


class JobTimeoutError(Exception):
    """The job ran past its time limit."""


@dataclass(frozen=True)
class Outcome:
    """What came of one job attempt."""

    status: str  # done | failed | timeout | died (the worker did: the driver may try again)
    seconds: float
    started_at: datetime
    host: str = ""
    gpu: str | None = None
    peak_memory_bytes: int | None = None
    error: str | None = None  # the traceback
    bad_input: str | None = None  # the job found the user's input wrong: a message for the user
    library_versions: str | None = None
    tables: Mapping[str, pa.Table] = field(default_factory=dict)
    artifacts: Mapping[str, bytes] = field(default_factory=dict)
    staged: tuple[Part, ...] = ()
    warnings: tuple[str, ...] = ()  # of the job's model


@dataclass(frozen=True)
class Workplace:
    """What a worker needs to know besides the job."""

    store: str | None = None  # where a store may be seen, to write large results there
    store_id: str = ""
    sweep: str = ""
    writer: str = ""
    runner: str = RUNNER
    deadline_seconds: float | None = None


Run = Callable[[Job, Inputs, Workplace], Outcome]


def work(job: Job, inputs: Inputs, place: Workplace) -> Outcome:
    """Runs a job to its outcome; raises nothing but KeyboardInterrupt."""
    started_at, start = datetime.now(UTC), time.perf_counter()
    status, error, bad_input, output = "done", None, None, None
    staged: tuple[Part, ...] = ()
    artifacts: Mapping[str, bytes] = {}
    try:
        with deadline(place.deadline_seconds):
            output = _runner(place.runner)(_with_checkpoints(job, place), inputs)
        artifacts = output.artifacts
        staged, artifacts = _stage(job, output.tables, artifacts, place)
    except JobTimeoutError as problem:
        status, error = "timeout", str(problem)
    except InputError as problem:
        status, error, bad_input = "failed", traceback.format_exc(), str(problem)
    except Exception:  # noqa: BLE001 (any failure of a job is a row, not the end of the sweep)
        status, error = "failed", traceback.format_exc()
    return Outcome(
        status=status,
        seconds=time.perf_counter() - start,
        started_at=started_at,
        host=_host(),
        gpu=_gpu(),
        peak_memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        error=error,
        bad_input=bad_input,
        library_versions=library_versions(),
        tables=output.tables if output is not None and status == "done" and not staged else {},
        artifacts=artifacts if status == "done" else {},
        staged=staged,
        warnings=output.warnings if output is not None and status == "done" else (),
    )


def _with_checkpoints(job: Job, place: Workplace) -> Job:
    """A training keeps its checkpoints in the store, where the worker sees it."""
    if job.measurement.kind != "train" or place.store is None:
        return job
    store = _visible_store(place.store, place.store_id)
    if store is None:
        return job
    return replace(job, setting=replace(job.setting, checkpoint_dir=str(store.checkpoints)))


def _stage(
    job: Job, tables: Mapping[str, pa.Table], artifacts: Mapping[str, bytes], place: Workplace
) -> tuple[tuple[Part, ...], Mapping[str, bytes]]:
    """Writes large results into the store from here, where the worker sees it.

    Not new models, nor fits: whose file counts is for the log to decide, and an adopted row must
    never be without it.
    """
    if KINDS[job.measurement.kind].table in {"models", "fits"}:
        return (), artifacts
    size = sum(t.nbytes for t in tables.values()) + sum(len(a) for a in artifacts.values())
    if size < LARGE_BYTES or place.store is None:
        return (), artifacts
    store = _visible_store(place.store, place.store_id)
    if store is None:
        return (), artifacts
    for key, content in artifacts.items():
        store.files.write(f"artifacts/{key}", content)
    covers = {job.measurement.measurement_id: ((job.start, job.stop),)}
    stamp = Stamp(place.sweep, place.writer, uuid4().hex, len(tables))
    return tuple(
        write_part(store.files, table, rows, covers, stamp) for table, rows in tables.items()
    ), {}


@lru_cache(maxsize=1)
def _visible_store(location: str, store_id: str) -> Store | None:
    try:
        store = Store.open(location)
    except InputError:
        return None
    return store if store.store_id == store_id else None


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Raises JobTimeoutError in the job when its time is up (between Python instructions)."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_: int, __: FrameType | None) -> None:
        raise JobTimeoutError(f"stopped after its time limit of {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@lru_cache(maxsize=4)
def _runner(path: str):  # type: ignore[no-untyped-def]
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


@lru_cache(maxsize=1)
def _host() -> str:
    return socket.gethostname()


def _gpu() -> str | None:
    return os.environ.get("CUDA_VISIBLE_DEVICES") or None


@lru_cache(maxsize=1)
def library_versions() -> str:
    """JSON object of what decides a row's last bits: Python and the numeric libraries."""
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("robsweep", "torch", "numpy", "scipy", "foolbox", "ortools"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return json.dumps(versions, sort_keys=True)
