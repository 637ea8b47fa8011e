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
from robsweep.orchestrator.plan.next_jobs import next_jobs
from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.run.bookkeeping import Books, finished
from robsweep.orchestrator.run.counting import Counts, count_left, count_waiting, given_up
from robsweep.orchestrator.run.executor import Executor
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.progress import Progress
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
    attempts: list[Finished] = []
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
            attempts.append(finished(job, outcome, plan.name, 0))
    for text in told:
        print(f"{plan.name}: {text}", file=sys.stderr)
    if refused:
        several = f"{len(refused)} things are wrong:\n- " if len(refused) > 1 else ""
        raise InputError(several + "\n- ".join(refused))
    return attempts


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
    first: Sequence[Finished] = (),
    clock: Callable[[], float] = time.monotonic,
) -> Summary:
    """Runs whatever of a plan the store has not; returns when all is done, failed or stopped.

    Args:
        past_jobs: Rows of the jobs table: what failed before, and what things cost.
        first: Attempts to commit with the first ones (the preflight's).

    Raises:
        FencedError: Another driver took over the sweep; what was committed stays.
    """
    driver = _Driver(plan, writer, executor, reader, past_jobs, options, progress, clock)
    driver.books.pending.extend(first)
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
        self.open_rows = OpenRows(plan, options.retry)
        for rows in reader.verification_rows(plan):
            self.open_rows.add(rows, past=True)
        claimed = given_up(plan, past_jobs, options.retry)
        self.books = Books(plan, writer, reader, self.open_rows, claimed)
        coverage = writer.snapshot.coverage
        self.counts = Counts(plan, coverage, self.open_rows, self.costs.expected)
        self.summary = Summary()
        self.mean_seconds = 1.0
        self.place = Workplace(
            str(writer.store.root), writer.store.store_id, plan.name, writer.writer, options.runner
        )
        self._places: dict[str, Workplace] = {}

    def run(self, stop: Stop) -> Summary:
        jobs: Iterator[Job] = iter(())
        stale, exhausted = True, False  # whether `jobs` has seen the newest coverage; has ended
        flushed = self.clock()
        books = self.books
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
            if not books.in_flight:
                self._flush()
                if draining or not (self._next_exists() or books.pending):
                    self.summary.stopped = stop.asked > 0
                    break
                stale = True
                continue
            for job, outcome in self._wait(stop):
                self._ended(job, outcome)
            starving = exhausted and books.in_flight < self.executor.slots
            now = self.clock()
            if books.pending and (
                starving or now - flushed >= FLUSH_SECONDS or books.pending_bytes >= FLUSH_BYTES
            ):
                self._flush()
                flushed, stale = now, True
            self._show()
        self._show(final=True)
        coverage = self.writer.snapshot.coverage
        self.summary.waiting = count_waiting(self.plan, coverage)
        self.summary.left = count_left(self.plan, coverage, self.open_rows)
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
        coverage, claimed = self.writer.snapshot.coverage, self.books.claimed
        return next_jobs(self.plan, coverage, claimed, self.open_rows.open, self.costs.expected)

    def _next_exists(self) -> bool:
        return next(self._next(), None) is not None

    def _fill(self, jobs: Iterator[Job]) -> bool:
        """Submits jobs until the window is full; says whether there were too few."""
        slots = self.executor.slots
        # About two seconds of work ahead: fine-grained jobs need a deep queue, long ones must not
        # wait behind each other while a slot is free.
        window = min(WINDOW, max(slots + 1, math.ceil(2.0 * slots / max(self.mean_seconds, 1e-4))))
        while self.books.in_flight < window:
            job = next(jobs, None)
            if job is None:
                return True
            if self._limit_reached():
                return False
            self.books.claim(job)
            self.summary.jobs += 1
            self._submit(job)
        return False

    def _submit(self, job: Job) -> None:
        key = job.measurement.measurement_id
        self.books.start(job)
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
        m = job.measurement
        attempts = self.plan.measurements[m.measurement_id].resources.attempts
        again = outcome.status == "died" and job.attempt < attempts
        status = outcome.status
        if status == "died":  # only a last attempt counts as failed: a resume must not give up
            status = "cancelled" if again else "failed"
        self.books.end(job, replace(outcome, status=status))
        if again:
            self._submit(replace(job, attempt=job.attempt + 1))
        elif status == "done":
            if self.progress is not None:
                for text in warnings_of(job, outcome):
                    self.progress.say(text)
            self.mean_seconds += 0.05 * (outcome.seconds - self.mean_seconds)
            samples = job.stop - job.start
            self.costs.add(m.measurement_id, m.kind, m.name, outcome.seconds, samples)
            self.counts.done(job, outcome.seconds)
        else:
            self.counts.failed(job)
            lines = (outcome.error or status).strip().splitlines()
            self.summary.failures.append((job, lines[-1] if lines else status))

    def _flush(self) -> None:
        if self.books.pending:
            self.books.commit()
            self.counts.solves(self.open_rows)

    def _limit_reached(self) -> bool:
        return self.options.limit is not None and self.summary.jobs >= self.options.limit

    def _failed_fast(self) -> bool:
        return self.options.fail_fast and bool(self.summary.failures)

    def _show(self, *, final: bool = False) -> None:
        if self.progress is not None:
            self.progress.show(self.counts.kinds, final=final)
