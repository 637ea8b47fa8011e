"""How far a plan is: what is there, what is left, what waits, and what has been given up."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from robsweep.orchestrator.plan.next_jobs import Coverage, is_complete, missing_ranges
from robsweep.orchestrator.plan.plan import Plan, Planned
from robsweep.orchestrator.ranges import Ranges, subtract, total, union
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.run.progress import KindProgress
from robsweep.tasks.job import Job


class Counts:
    """Progress of a run, per kind of its plan."""

    def __init__(
        self,
        plan: Plan,
        coverage: Coverage,
        open_rows: OpenRows,
        expected: Callable[[Planned], float],
    ) -> None:
        """Counts what a plan wants and what of it is there before the run.

        Args:
            expected: Seconds that one sample of a measurement takes.
        """
        self.kinds: dict[str, KindProgress] = {}
        for key, planned in plan.measurements.items():
            kind = self.kinds.setdefault(planned.measurement.kind, KindProgress())
            if planned.measurement.kind == "solve":
                kind.total += len(open_rows.open[key])
                continue
            missing = total(missing_ranges(planned, coverage(key)))
            wanted = total(missing_ranges(planned, ()))
            kind.total += wanted
            kind.before += wanted - missing
            kind.remaining_seconds += missing * expected(planned)

    def done(self, job: Job, seconds: float) -> None:
        kind = self.kinds[job.measurement.kind]
        kind.done += job.stop - job.start
        kind.seconds += seconds
        missing = max(0, kind.total - kind.before - kind.done - kind.failed)
        kind.remaining_seconds = missing * kind.seconds / max(kind.done, 1)

    def failed(self, job: Job) -> None:
        self.kinds[job.measurement.kind].failed += job.stop - job.start

    def solves(self, open_rows: OpenRows) -> None:
        """Counts again what verification leaves open, which no plan knows."""
        if "solve" in self.kinds:
            solve = self.kinds["solve"]
            solve.total = solve.done + sum(map(len, open_rows.open.values()))


def given_up(
    plan: Plan, past_jobs: Iterable[Mapping[str, Any]], retry: frozenset[str]
) -> dict[str, Ranges]:
    """Samples that this sweep has failed at before, and is not asked to try again."""
    found: dict[str, Ranges] = {}
    for job in past_jobs:
        key, status = job["measurement_id"], job["status"]
        if (
            status in {"failed", "timeout"}
            and status not in retry
            and job["sweep"] == plan.name
            and key in plan.measurements
        ):
            found[key] = union([*found.get(key, ()), (job["start"], job["stop"])])
    return found


def count_left(plan: Plan, coverage: Coverage, open_rows: OpenRows) -> int:
    """Samples and models that a plan wants and the store has not."""
    return sum(
        len(open_rows.open[key])
        if planned.measurement.kind == "solve"
        else total(subtract(planned.wanted, coverage(key)))
        for key, planned in plan.measurements.items()
    )


def count_waiting(plan: Plan, coverage: Coverage) -> int:
    """Measurements that miss samples and cannot start, as what they need is not there."""
    measurements = plan.measurements
    return sum(
        planned.measurement.kind != "solve"
        and bool(missing_ranges(planned, coverage(key)))
        and not all(is_complete(measurements[need], coverage) for need in planned.needs)
        for key, planned in measurements.items()
    )
