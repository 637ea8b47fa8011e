"""How far a number is: asked for or not, run or not, and on how many samples."""

from collections.abc import Sequence

from robsweep.orchestrator.ranges import Ranges, intersect, subtract, total, union
from robsweep.orchestrator.results.metrics.planned import (
    Asked,
    all_covered,
    all_wanted,
    any_covered,
    any_wanted,
)

NOT_ASKED, NOT_RUN, RUNNING, FAILED, DONE = "not asked", "not run", "running", "failed", "done"


def extent(
    name: str,
    every: Sequence[Asked] = (),
    one_of: Sequence[Asked] = (),
    *,
    unsolved: int = 0,
    failed: bool = False,
) -> dict[str, int | str | None]:
    """The columns `<name>_wanted` and `<name>_status` of a number.

    Args:
        every: Measurements that all have to speak of a sample.
        one_of: Measurements of which one has to, beside those.
        unsolved: Samples that are covered, and whose answer is still being sought.
        failed: What has run is of no use.
    """
    measurements = [*every, *one_of]
    if not measurements:
        return {f"{name}_wanted": None, f"{name}_status": NOT_ASKED}
    wanted = _both(all_wanted(every), every, any_wanted(one_of), one_of)
    covered = _both(all_covered(every), every, any_covered(one_of), one_of)
    missing = subtract(wanted, covered)
    if failed:
        status = FAILED
    elif not missing:
        status = RUNNING if unsolved else DONE
    elif intersect(missing, union(piece for a in measurements for piece in a.failed)) or any(
        a.blocked for a in measurements
    ):
        status = FAILED
    else:
        status = RUNNING if any(a.covered for a in measurements) else NOT_RUN
    return {f"{name}_wanted": total(wanted), f"{name}_status": status}


def _both(a: Ranges, every: Sequence[Asked], b: Ranges, one_of: Sequence[Asked]) -> Ranges:
    if every and one_of:
        return intersect(a, b)
    return a if every else b
