"""The driver loop: keeps a window of jobs running, commits what comes back, retries, stops."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from robsweep.orchestrator.errors import InputError, RobsweepError
from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.next_jobs import is_complete, missing_ranges, next_jobs
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.ranges import Ranges, subtract, total, union
from robsweep.orchestrator.run.executor import Executor
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.progress import KindProgress, Progress
from robsweep.orchestrator.run.work import RUNNER, Outcome, Workplace
from robsweep.orchestrator.spec.fields import Rerun
from robsweep.orchestrator.store.writer import Finished, Writer
from robsweep.tasks.job import Inputs, Job

FLUSH_SECONDS = 2.0
FLUSH_BYTES = 64 * 2**20
WINDOW = 512


@dataclass
class Stop:
    """How the user asks to stop: once drains (running jobs end), twice stops now."""

    asked: int = 0
    interruptible: bool = False  # while the driver waits: then KeyboardInterrupt breaks nothing


@dataclass(frozen=True)
class Options:
    retry: frozenset[str] = frozenset()  # of failed, timeout, unknown, error
    rerun: Rerun | None = None  # in place of what the verification entries say
    limit: int | None = None  # at most so many jobs
    fail_fast: bool = False
    runner: str = RUNNER


DEFAULT = Options()


@dataclass
class Summary:
    """What a run did."""

    jobs: int = 0
    failures: list[tuple[Job, str]] = field(default_factory=list)  # with the error's last line
    stopped: bool = False
    waiting: int = 0  # measurements that could not start, as what they need is not there
    left: int = 0  # samples and models that the store still has not


def preflight(plan: Plan, executor: Executor, reader: InputReader) -> list[Finished]:
    """Loads and calls each model on each data set once, before anything is written.

    Says what it warns of.

    Raises:
        InputError: Models or data sets are not what the sweep takes them for: all of these.
    """
    jobs = [Job(p.measurement, 0, 1, p.setting) for p in plan.preflights]
    for job in jobs:
        file = job.measurement.model.weights
        executor.submit(job, reader.of(job) if file else Inputs(), Workplace())
    finished: list[Finished] = []
    refused, told = dict[str, None](), dict[str, None]()  # each once, in their order
    left = len(jobs)
    while left:
        for job, outcome in executor.wait(1.0):
            left -= 1
            if outcome.status != "done":
                where = f"model {job.measurement.name!r} on {job.measurement.dataset}"
                reason = (outcome.error or "").strip()
                refused[outcome.bad_input or f"{where}: {reason}"] = None
                continue
            told.update(dict.fromkeys(warnings_of(job, outcome)))
            finished.append(_finished(job, outcome, plan.name, 0))
    for text in told:
        print(f"{plan.name}: {text}", file=sys.stderr)
    if refused:
        several = f"{len(refused)} things are wrong:\n- " if len(refused) > 1 else ""
        raise InputError(several + "\n- ".join(refused))
    return finished


def warnings_of(job: Job, outcome: Outcome) -> list[str]:
    """What a job has to say of its model, by name."""
    m = job.measurement
    name = m.model.name or m.model.arch
    trained = f" ({m.name}, seed {m.seed})" if m.kind == "train" else ""
    return [f"model {name!r}{trained}: {text}" for text in outcome.warnings]


def drive(
    plan: Plan,
    writer: Writer,
    executor: Executor,
    reader: InputReader,
    past_jobs: Sequence[Mapping[str, Any]],
    *,
    options: Options = DEFAULT,
    stop: Stop | None = None,
    progress: Progress | None = None,
    finished: Sequence[Finished] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Runs whatever of a plan the store has not; returns when all is done, failed or stopped.

    Args:
        past_jobs: Rows of the jobs table: what failed before, and what things cost.
        finished: Attempts to commit with the first ones (the preflight's).

    Raises:
        FencedError: Another driver took over the sweep; what was committed stays.
    """
    driver = _Driver(plan, writer, executor, reader, past_jobs, options, progress, clock)
    driver.pending.extend(finished)
    return driver.run(stop or Stop())


class _Driver:
    def __init__(
        self,
        plan: Plan,
        writer: Writer,
        executor: Executor,
        reader: InputReader,
        past_jobs: Sequence[Mapping[str, Any]],
        options: Options,
        progress: Progress | None,
        clock: Callable[[], float],
    ) -> None:
        self.plan, self.writer, self.executor, self.reader = plan, writer, executor, reader
        self.options, self.progress, self.clock = options, progress, clock
        self.costs = Costs.of(past_jobs)
        self.claimed: dict[str, Ranges] = {}
        for key, ranges in given_up(plan, past_jobs, options.retry).items():
            self.claimed[key] = ranges
        self.open_rows = OpenRows(plan, options.retry)
        for rows in reader.verification_rows(plan):
            self.open_rows.add(rows, past=True)
        self.pending: list[Finished] = []
        self.pending_bytes = 0
        self.in_flight: dict[tuple[str, int, int], int] = {}  # job -> log end when it was cut
        self.summary = Summary()
        self.kinds: dict[str, KindProgress] = {}
        self.mean_seconds = 1.0
        self.place = Workplace(
            str(writer.store.root), writer.store.store_id, plan.name, writer.writer, options.runner
        )
        self._places: dict[str, Workplace] = {}
        for key, planned in plan.measurements.items():  # a killed worker may have left one
            if planned.measurement.kind == "train" and is_complete(
                planned, writer.snapshot.coverage
            ):
                writer.store.drop_checkpoint(key)
        self._count_kinds()

    def run(self, stop: Stop) -> Summary:
        jobs: Iterator[Job] = iter(())
        stale, exhausted = True, False  # whether `jobs` has seen the newest coverage; has ended
        flushed = self.clock()
        while True:
            if stop.asked >= 2:
                self.summary.stopped = True
                self.executor.close()
                self._flush()
                break
            draining = stop.asked > 0 or self._limit_reached() or self._failed_fast()
            if not draining:
                if stale:
                    jobs, stale, exhausted = self._next(), False, False
                exhausted = self._fill(jobs) or exhausted
            if not self.in_flight:
                self._flush()
                if draining or not (self._next_exists() or self.pending):
                    self.summary.stopped = stop.asked > 0
                    break
                stale = True
                continue
            for job, outcome in self._wait(stop):
                self._ended(job, outcome)
            starving = exhausted and len(self.in_flight) < self.executor.slots
            now = self.clock()
            if self.pending and (
                starving or now - flushed >= FLUSH_SECONDS or self.pending_bytes >= FLUSH_BYTES
            ):
                self._flush()
                flushed, stale = now, True
            self._show()
        self._show(final=True)
        self.summary.waiting = self._waiting()
        self.summary.left = self._left()
        return self.summary

    def _wait(self, stop: Stop) -> list[tuple[Job, Outcome]]:
        stop.interruptible = True
        try:
            return self.executor.wait(0.25)
        except KeyboardInterrupt:
            stop.asked = 2
            return []
        finally:
            stop.interruptible = False

    def _next(self) -> Iterator[Job]:
        coverage = self.writer.snapshot.coverage
        return next_jobs(
            self.plan, coverage, self.claimed, self.open_rows.open, self.costs.expected
        )

    def _next_exists(self) -> bool:
        return next(self._next(), None) is not None

    def _fill(self, jobs: Iterator[Job]) -> bool:
        """Submits jobs until the window is full; says whether there were too few."""
        slots = self.executor.slots
        # About two seconds of work ahead: fine-grained jobs need a deep queue, long ones must not
        # wait behind each other while a slot is free.
        window = min(WINDOW, max(slots + 1, math.ceil(2.0 * slots / max(self.mean_seconds, 1e-4))))
        while len(self.in_flight) < window:
            job = next(jobs, None)
            if job is None:
                return True
            if self._limit_reached():
                return False
            key = job.measurement.measurement_id
            self._claim(key, job.start, job.stop)
            self.summary.jobs += 1
            self._submit(job)
        return False

    def _submit(self, job: Job) -> None:
        key = job.measurement.measurement_id
        self.in_flight[key, job.start, job.stop] = self.writer.snapshot.seq
        place = self._places.get(key)
        if place is None:
            seconds = self.plan.measurements[key].resources.time_limit_seconds
            place = replace(self.place, deadline_seconds=seconds) if seconds else self.place
            self._places[key] = place
        try:
            inputs = self.reader.of(job)
        except (OSError, RobsweepError) as error:  # e.g. its weights are gone from the store
            failed = Outcome("failed", 0.0, datetime.now(UTC), error=f"no inputs: {error}")
            self._ended(job, failed)
            return
        self.executor.submit(job, inputs, place)

    def _ended(self, job: Job, outcome: Outcome) -> None:
        key = job.measurement.measurement_id
        kind = self.kinds[job.measurement.kind]
        cut_seq = self.in_flight.pop((key, job.start, job.stop))
        attempts = self.plan.measurements[key].resources.attempts
        again = outcome.status == "died" and job.attempt < attempts
        status = outcome.status
        if status == "died":  # only a last attempt counts as failed: a resume must not give up
            status = "cancelled" if again else "failed"
        self.pending.append(
            _finished(job, replace(outcome, status=status), self.plan.name, cut_seq)
        )
        if again:
            self._submit(replace(job, attempt=job.attempt + 1))
            return
        samples = job.stop - job.start
        if status == "done":
            if self.progress is not None:
                for text in warnings_of(job, outcome):
                    self.progress.say(text)
            self.mean_seconds += 0.05 * (outcome.seconds - self.mean_seconds)
            self.costs.add(
                key, job.measurement.kind, job.measurement.name, outcome.seconds, samples
            )
            self.pending_bytes += sum(rows.nbytes for rows in outcome.tables.values())
            kind.done += samples
            kind.seconds += outcome.seconds
            kind.remaining_seconds = (
                max(0, kind.total - kind.before - kind.done - kind.failed)
                * kind.seconds
                / max(kind.done, 1)
            )
        else:
            kind.failed += samples
            lines = (outcome.error or status).strip().splitlines()
            self.summary.failures.append((job, lines[-1] if lines else status))

    def _flush(self) -> None:
        if not self.pending:
            return
        self.writer.commit(self.pending)
        for job in self.pending:
            if "models" in job.tables:  # only now can a training not be lost any more
                self.writer.store.drop_checkpoint(job.measurement_id)
            if "verification" in job.tables:
                self.open_rows.add(job.tables["verification"], past=False)
            for part in job.staged:
                if part.table == "verification":
                    self.open_rows.add(self.reader.part(part.path), past=False)
        for part in self.writer.news:  # what other sweeps have screened or solved meanwhile
            if part.table == "verification":
                self.open_rows.add(self.reader.part(part.path), past=False)
        self.writer.news.clear()
        self.pending.clear()
        self.pending_bytes = 0
        if "solve" in self.kinds:
            solve = self.kinds["solve"]
            solve.total = solve.done + sum(len(open_) for open_ in self.open_rows.open.values())

    def _claim(self, key: str, start: int, stop: int) -> None:
        self.claimed[key] = union([*self.claimed.get(key, ()), (start, stop)])

    def _limit_reached(self) -> bool:
        return self.options.limit is not None and self.summary.jobs >= self.options.limit

    def _failed_fast(self) -> bool:
        return self.options.fail_fast and bool(self.summary.failures)

    def _waiting(self) -> int:
        coverage = self.writer.snapshot.coverage
        measurements = self.plan.measurements
        return sum(
            planned.measurement.kind != "solve"
            and bool(missing_ranges(planned, coverage(key)))
            and not all(is_complete(measurements[need], coverage) for need in planned.needs)
            for key, planned in measurements.items()
        )

    def _left(self) -> int:
        return count_left(self.plan, self.writer.snapshot.coverage, self.open_rows)

    def _count_kinds(self) -> None:
        for key, planned in self.plan.measurements.items():
            kind = self.kinds.setdefault(planned.measurement.kind, KindProgress())
            if planned.measurement.kind == "solve":
                kind.total += len(self.open_rows.open[key])
                continue
            missing = total(missing_ranges(planned, self.writer.snapshot.coverage(key)))
            wanted = total(missing_ranges(planned, ()))
            kind.total += wanted
            kind.before += wanted - missing
            kind.remaining_seconds += missing * self.costs.expected(planned)

    def _show(self, *, final: bool = False) -> None:
        if self.progress is not None:
            self.progress.show(self.kinds, final=final)


def given_up(
    plan: Plan, past_jobs: Sequence[Mapping[str, Any]], retry: frozenset[str]
) -> dict[str, Ranges]:
    """Samples that this sweep has failed at before, and is not asked to try again."""
    claimed: dict[str, Ranges] = {}
    for job in past_jobs:
        key, status = job["measurement_id"], job["status"]
        if (
            status in {"failed", "timeout"}
            and status not in retry
            and job["sweep"] == plan.name
            and key in plan.measurements
        ):
            claimed[key] = union([*claimed.get(key, ()), (job["start"], job["stop"])])
    return claimed


def count_left(plan: Plan, coverage: Callable[[str], Ranges], open_rows: OpenRows) -> int:
    """Samples and models that a plan wants and the store has not."""
    return sum(
        len(open_rows.open[key])
        if planned.measurement.kind == "solve"
        else total(subtract(planned.wanted, coverage(key)))
        for key, planned in plan.measurements.items()
    )


def _finished(job: Job, outcome: Outcome, sweep: str, cut_seq: int) -> Finished:
    m = job.measurement
    row = {
        "measurement_id": m.measurement_id,
        "model_id": m.model.model_id,
        "weights_sha256": m.model.weights_sha256,
        "dataset": m.dataset,
        "split": m.split,
        "seed": m.seed,
        "sweep": sweep,
        "kind": m.kind,
        "name": m.name,
        "start": job.start,
        "stop": job.stop,
        "status": outcome.status,
        "attempt": job.attempt,
        "started_at": outcome.started_at,
        "seconds": outcome.seconds,
        "host": outcome.host,
        "gpu": outcome.gpu,
        "peak_memory_bytes": outcome.peak_memory_bytes,
        "error": outcome.error,
        "library_versions": outcome.library_versions,
    }
    return Finished(
        m.measurement_id,
        job.start,
        job.stop,
        cut_seq,
        row,
        outcome.tables,
        outcome.artifacts,
        outcome.staged,
    )
