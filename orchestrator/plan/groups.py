"""What whole groups compute beyond what is wanted, said in words."""

from collections.abc import Sequence
from math import gcd

from robsweep.orchestrator.plan.plan import Plan, Planned
from robsweep.orchestrator.ranges import Ranges, aligned

_NAMED = 3  # entries in one line


def group_notes(plan: Plan) -> Sequence[str]:
    """One line per choice of samples that whole groups exceed, with the entries that make it."""
    found: dict[tuple[str, int, int | None], dict[str, None]] = {}
    for planned in plan.measurements.values():
        wanted = planned.wanted
        if aligned(wanted, planned.group, planned.size) != wanted:
            entry = planned.entry
            name = entry if planned.section == entry else f"{planned.section}.{entry}"
            enough = _enough(planned) if _has_group_size(planned) else None
            found.setdefault((_samples(wanted), planned.group, enough), {})[name] = None
    return [
        f"{_list([*names])}: samples: {samples}, computed in groups of {group}"
        + ("" if enough is None else f": group_size: {enough} computes no more")
        for (samples, group, enough), names in found.items()
    ]


def _has_group_size(planned: Planned) -> bool:
    """Predictions on data as they are belong to all sweeps, in groups that are always the same."""
    return planned.measurement.kind != "predict" or planned.section == "shift"


def _enough(planned: Planned) -> int:
    """The largest group, up to the one there is, whose borders are those of the wanted samples."""
    borders = [border for piece in planned.wanted for border in piece if border != planned.size]
    common = gcd(*borders)
    return max(size for size in range(1, planned.group + 1) if common % size == 0)


def _samples(wanted: Ranges) -> str:
    """As a sweep file says it."""
    if len(wanted) == 1 and wanted[0][0] == 0:
        return str(wanted[0][1])
    return ", ".join(f"[{start}, {stop}]" for start, stop in wanted)


def _list(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
