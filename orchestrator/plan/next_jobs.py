"""What to do next: one pure function for first run, resume, retry and two-step verification."""

from collections.abc import Callable, Iterator, Mapping

from robsweep.orchestrator.plan.plan import Plan, Planned
from robsweep.orchestrator.ranges import Range, Ranges, aligned, slices, subtract, union
from robsweep.tasks.job import Job

Coverage = Callable[[str], Ranges]
_MODELS = ("train", "ensemble")


def next_jobs(
    plan: Plan,
    coverage: Coverage,
    claimed: Mapping[str, Ranges],
    open_rows: Mapping[str, Mapping[int, float]],
    expected: Callable[[Planned], float],
) -> Iterator[Job]:
    """Jobs that can start now, cut one by one as they are asked for.

    Models come first, since all else waits for them; then the longest expected job first.

    Args:
        coverage: Measurement id -> samples that the store has.
        claimed: Samples in flight, or given up after a failure.
        open_rows: Solve measurement -> samples that no row decides, with expected seconds.
        expected: Seconds that one sample of a measurement takes.
    """
    pieces: list[tuple[int, float, int, Planned, tuple[Range, ...]]] = []
    for order, (key, planned) in enumerate(plan.measurements.items()):
        kind = planned.measurement.kind
        busy = claimed.get(key, ())
        if kind == "solve":
            wanted = open_rows.get(key, {})
            for sample, seconds in wanted.items():
                if not _holds(busy, sample):
                    pieces.append((1, -seconds, order, planned, ((sample, sample + 1),)))
            continue
        missing = missing_ranges(planned, coverage(key), busy)
        if missing and all(
            is_complete(plan.measurements[need], coverage) for need in planned.needs
        ):
            seconds = expected(planned) * planned.per_job
            pieces.append((0 if kind in _MODELS else 1, -seconds, order, planned, missing))
    pieces.sort(key=lambda piece: piece[:3])
    for _, _, _, planned, ranges in pieces:
        for start, stop in slices(ranges, planned.per_job):
            yield Job(planned.measurement, start, stop, planned.setting)


def missing_ranges(planned: Planned, covered: Ranges, busy: Ranges = ()) -> Ranges:
    """The whole groups that a measurement still has to compute."""
    wanted = aligned(planned.wanted, planned.group, planned.size)
    have = union([*covered, *busy]) if busy else covered
    return subtract(wanted, have)


def is_complete(planned: Planned, coverage: Coverage) -> bool:
    """Whether the store has all that is wanted of a measurement."""
    return not subtract(planned.wanted, coverage(planned.measurement.measurement_id))


def _holds(ranges: Ranges, sample: int) -> bool:
    return any(start <= sample < stop for start, stop in ranges)
