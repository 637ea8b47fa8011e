"""Sweeps from Python: what `robsweep plan` and `robsweep run` do, with a file or a mapping."""

import random
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl

from robsweep.orchestrator.errors import ContradictionError, InputError
from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.results import report
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.run import session
from robsweep.orchestrator.run.drive import Options, Summary
from robsweep.orchestrator.run.outlook import KindOutlook, MeasurementOutlook, outlook
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec import yaml_file
from robsweep.orchestrator.spec.fields import Rerun
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import did_you_mean
from robsweep.store import OpenStore
from robsweep.tasks.catalogue import KINDS

Sweep = str | PathLike[str] | Mapping[str, Any]
Folder = str | PathLike[str] | None

_AGAIN = ("failed", "timeout", "unknown", "error")


@dataclass(frozen=True, repr=False)
class Outlook:
    """What a sweep would run, what is already done, and the expected cost."""

    name: str
    kinds: tuple[KindOutlook, ...]
    measurements: pl.DataFrame  # one row each: `measurement_id, kind, model, entry, section, ...`
    reasons: Mapping[str, tuple[str, ...]]  # measurement id -> why it would run; else not there
    notes: tuple[str, ...]  # what whole groups compute beyond what is wanted
    warnings: tuple[str, ...]  # what looks wrong in data sets that are the user's files

    @property
    def frame(self) -> pl.DataFrame:
        """One row per kind of job: `measurements, samples, covered, expected_seconds`.

        `samples` are all that are wanted and `covered` those that the store has; of `solve`, only
        what the screen has left open so far.
        """
        columns = {
            "kind": pl.String,
            "measurements": pl.Int64,
            "samples": pl.Int64,
            "covered": pl.Int64,
            "expected_seconds": pl.Float64,
        }
        return pl.DataFrame([vars(kind) for kind in self.kinds], schema=columns)

    @property
    def expected_seconds(self) -> float:
        """CPU-seconds of work; what a screen will leave open comes on top."""
        return sum(kind.expected_seconds for kind in self.kinds)

    def __repr__(self) -> str:
        table = report.render(self.frame.with_columns(pl.col("expected_seconds").round(1)), "text")
        work = f"about {self.expected_seconds:.0f} CPU-seconds of work"
        said = [f"warning: {text}" for text in self.warnings]
        return "\n".join([f"sweep {self.name}\n{table}{work}", *self.notes, *said])


@dataclass(frozen=True, repr=False)
class Ran:
    """A sweep after a run."""

    name: str
    summary: Summary  # of this run: jobs, failures, stopped, left
    store: OpenStore  # as it was afterwards

    def table(self, name: str = "leaderboard") -> pl.DataFrame:
        """As `OpenStore.table`."""
        return self.store.table(self.name, name)

    def rows(self, table: str) -> pl.DataFrame:
        """As `OpenStore.rows`, of this sweep."""
        return self.store.rows(table, self.name)

    def __repr__(self) -> str:
        done = self.summary
        lines = [f"sweep {self.name} in {self.store.path}: {done.jobs} jobs run"]
        if done.failures:
            job, error = done.failures[0]
            lines.append(f"{len(done.failures)} failed, the first one {job.name}: {error}")
        if done.left:
            lines.append(f"{done.left} samples or models are still missing")
        return "\n".join([*lines, report.leaderboard_text(self.table()).rstrip()])


def plan(
    sweep: Sweep,
    *,
    store: Folder = None,
    data_dir: Folder = None,
    nets_dir: Folder = None,
    folder: Folder = None,
) -> Outlook:
    """What a sweep would run, what is already done, and the expected cost; runs nothing.

    Args:
        sweep: A sweep file, or its content as a mapping.
        store: Without one, `ROBSWEEP_STORE`, else `./results`; so are the other places settings.
        folder: Where modules and files that the sweep names lie; without one, where the sweep file
            is, or, of a mapping, the working directory.

    Raises:
        InputError: The sweep is wrong; says in which line of the file, or at which key.
    """
    spec = _spec(sweep, folder)
    settings = _settings(store, data_dir, nets_dir)
    found = outlook(spec, settings)
    return Outlook(
        spec.name,
        tuple(found.kinds),
        _measurements(found.measurements),
        {key: tuple(why) for key, why in found.reasons.items()},
        tuple(found.notes),
        tuple(found.warnings),
    )


def _measurements(found: Iterable[MeasurementOutlook]) -> pl.DataFrame:
    """The columns of `robsweep plan --detail`; `undetermined`: a screen may leave more open."""
    columns = {
        "measurement_id": pl.String,
        "kind": pl.String,
        "model": pl.String,
        "entry": pl.String,
        "section": pl.String,
        "wanted": pl.Int64,
        "covered": pl.Int64,
        "left": pl.Int64,
        "undetermined": pl.Boolean,
        "sample_seconds": pl.Float64,
        "expected_seconds": pl.Float64,
    }
    rows = [
        (
            m.row.measurement_id,
            m.row.kind,
            m.row.label,
            m.row.entry,
            m.row.section,
            total(m.row.wanted),
            m.settled,
            total(m.left),
            m.undetermined,
            m.sample_seconds,
            m.expected_seconds,
        )
        for m in found
    ]
    return pl.DataFrame(rows, schema=columns, orient="row")


def run(
    sweep: Sweep,
    *,
    store: Folder = None,
    address: str | None = None,
    only: Iterable[str] = (),
    limit: int | None = None,
    fail_fast: bool = False,
    rerun: Rerun | None = None,
    retry: Iterable[str] = (),
    data_dir: Folder = None,
    nets_dir: Folder = None,
    folder: Folder = None,
) -> Ran:
    """Runs what a sweep still misses; called again, it runs only what is missing by then.

    A job that fails is a row of the jobs table, and the sweep goes on. Progress is on stderr. In
    the main thread, the first interrupt waits for running jobs, the second stops now; in another
    thread, signals are left as they are.

    Args:
        sweep: A sweep file, or its content as a mapping.
        store: Without one, `ROBSWEEP_STORE`, else `./results`; so are the other places settings.
        address: `inline` (in this process), `local`, `auto` or `HOST:PORT`; without one,
            `ROBSWEEP_ADDRESS`, else `local`.
        only: Kinds of jobs to run, and what these need.
        limit: At most so many jobs.
        fail_fast: Whether to stop after the first job that fails.
        rerun: Which past solves to do again: never, ambiguous, refine or always.
        retry: What to try again, of failed, timeout, unknown and error.
        folder: Where modules and files that the sweep names lie; without one, where the sweep file
            is, or, of a mapping, the working directory.

    Raises:
        InputError: The sweep is wrong, before anything is written; says in which line of the file,
            or at which key.
        FencedError: Another driver has taken the sweep over.
        ContradictionError: A sample is proved robust and yet broken. All rows are in the store.
    """
    spec = _spec(sweep, folder)
    settings = _settings(store, data_dir, nets_dir, address)
    kinds, again = _words("only", only, KINDS), _words("retry", retry, _AGAIN)
    if rerun is not None:
        _words("rerun", [rerun], get_args(Rerun))
    if limit is not None and limit < 1:
        raise InputError(f"limit={limit}: at least one job must be allowed")
    options = Options(retry=again, rerun=rerun, limit=limit, fail_fast=fail_fast)
    with undisturbed(settings.address):
        summary = session.run(spec, settings, options, kinds)
    results = Results.open(settings.store)
    alarms = results.alarms(spec.name)
    if alarms.height:
        raise ContradictionError(
            f"{alarms.n_unique(['model_id', 'norm', 'sample'])} samples are proved robust and yet "
            f"broken: a proof or an attack is wrong\n{report.render(alarms, 'text')}"
        )
    return Ran(spec.name, summary, OpenStore(results, settings))


@contextmanager
def undisturbed(address: str = "inline") -> Iterator[None]:
    """Keeps what jobs set for a whole process as the caller had it, where they run in his.

    These are the global random generators, torch's number of threads and its TF32 switch.
    """
    if address != "inline":
        yield
        return
    import torch

    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    path = list(sys.path)
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        if gpus:
            torch.cuda.set_rng_state_all(gpus)
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = tf32
        sys.path[:] = path


def _spec(sweep: Sweep, folder: Folder) -> SweepSpec:
    if isinstance(sweep, Mapping):
        document = yaml_file.from_mapping(sweep, "sweep")
        return from_document(document, Path(folder or ".").expanduser().resolve())
    file = Path(sweep).expanduser()
    place = file.parent if folder is None else Path(folder).expanduser()
    return from_document(yaml_file.read(file), place.resolve())


def _settings(*places: Folder) -> Settings:
    """Settings of a store, a data dir, a nets dir and an address."""
    return Settings.read(*(None if place is None else str(place) for place in places))


def _words(name: str, given: Iterable[str], known: Iterable[str]) -> frozenset[str]:
    words = [given] if isinstance(given, str) else list(given)
    for word in words:
        if word not in known:
            raise InputError(f"{name}: {word!r}{did_you_mean(str(word), known)}")
    return frozenset(words)
