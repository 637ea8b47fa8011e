"""Why a measurement would run: its reasons, from the plan of now and the recorded one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from robsweep.orchestrator.identity import MADE_HERE
from robsweep.orchestrator.plan.changes import changes, references, untold
from robsweep.orchestrator.plan.table import PlanRow
from robsweep.orchestrator.ranges import Ranges, aligned, intersect, subtract, total
from robsweep.orchestrator.spec.selection import without_axes

_Slot = tuple[str, str, str, str, str | None, int | None, str, str]


@dataclass(frozen=True)
class Standing:
    """What the store has of a plan."""

    left: Mapping[str, Ranges]  # measurement id -> what it still has to compute
    coverage: Callable[[str], Ranges]
    failed: Mapping[str, Ranges]  # what the sweep has failed at, and a run does not try again


def reasons(
    now: Sequence[PlanRow], before: Sequence[PlanRow], standing: Standing
) -> dict[str, list[str]]:
    """Measurement id -> in words why it would run, in the order of the plan; else not there.

    | begins with | what it is |
    |---|---|
    | `new` | the recorded plan has no such entry, model, training or seed |
    | `new parameter`, `NAME: OLD -> NEW` | the entry is there with other parameters |
    | `code changed in`, `weights changed in` | so is it, with another file behind it |
    | `version of` | this robsweep computes such rows in another way |
    | `more samples` | the rest is there |
    | `resumed` | an earlier run left it unfinished |
    | `solved again` | earlier solves have not decided samples, and may try longer |
    | `failed before` | a job of it failed; only a retry tries again |
    | `needs` | what it is measured on, or reads, is new or has to run first |

    Args:
        now: The plan, in its order; its first row is about the sweep's own data.
        before: As recorded when the sweep last ran; empty if it never did.
    """
    earlier = _Earlier(now, before)
    known = {row.measurement_id: row for row in before}
    found: dict[str, list[str]] = {}
    for row in now:
        key = row.measurement_id
        left = standing.left.get(key, ())
        first = [need for need in row.needs if row.kind == "solve" and standing.left.get(need)]
        if not left and not first:
            continue
        if key in known or standing.coverage(key) or standing.failed.get(key):
            why = _rest(row, known.get(key), left, standing)
        elif (old := earlier.of(row)) is None:
            why = [earlier.novelty(row)]
        else:
            why = _changed(old, row, standing)
        why += [f"needs {need} first: what it leaves open is solved" for need in first]
        why += [
            f"needs {need}, which failed before"
            for need in row.needs
            if intersect(standing.left.get(need, ()), standing.failed.get(need, ()))
        ]
        found[key] = why
    return found


def _changed(before: PlanRow, now: PlanRow, standing: Standing) -> list[str]:
    why = changes(before, now)
    for need in references(before, now):
        runs = need.startswith(MADE_HERE) or need.startswith("predict-")
        anew = runs and standing.left.get(need)
        why.append(f"needs {need}, which {'runs anew' if anew else 'is another than before'}")
    return why or [untold(before, now)]


def _rest(row: PlanRow, before: PlanRow | None, left: Ranges, standing: Standing) -> list[str]:
    """Of a measurement that was planned or begun before: what of it was not done, and why."""
    key = row.measurement_id
    size = total(aligned(row.wanted, row.group, row.size))
    why = []
    if failed := intersect(left, standing.failed.get(key, ())):
        why.append(f"failed before: {total(failed)} of {size}, tried again by robsweep retry")
        left = subtract(left, failed)
    if row.kind == "solve" and (tried := intersect(left, standing.coverage(key))):
        why.append(_again(total(tried), before, row))
        left = subtract(left, tried)
    asked = row.wanted if before is None else before.wanted
    if before is None:  # begun by another sweep, which has wanted what is there
        asked = standing.coverage(key)
    if more := total(subtract(left, aligned(asked, row.group, row.size))):
        why.append(f"more samples: {more} more of {size}")
    if rest := total(intersect(left, aligned(asked, row.group, row.size))):
        why.append(f"resumed: {rest} of {size} not done yet")
    return why


def _again(samples: int, before: PlanRow | None, now: PlanRow) -> str:
    text = f"solved again: {samples} that earlier solves left open"
    old = None if before is None else before.time_limit_seconds
    if old != now.time_limit_seconds and None not in {old, now.time_limit_seconds}:
        text += f", time_limit_seconds: {old:g} -> {now.time_limit_seconds:g}"
    return text


class _Earlier:
    """The recorded plan, by what a sweep file calls its measurements."""

    def __init__(self, now: Sequence[PlanRow], before: Sequence[PlanRow]) -> None:
        self._before = before
        self._own_now = now[0].dataset if now else ""
        self._own_before = before[0].dataset if before else ""
        wanted = {row.measurement_id for row in now}
        self._exact: dict[_Slot, PlanRow] = {}
        self._loose: dict[_Slot, list[PlanRow]] = {}
        for row in before:
            self._exact.setdefault(_slot(row, self._own_before), row)
            if row.measurement_id not in wanted:  # else it is a value beside another
                self._loose.setdefault(_loose(row, self._own_before), []).append(row)

    def of(self, row: PlanRow) -> PlanRow | None:
        """The measurement of the same entry, or of one that differs in its axes alone."""
        exact = self._exact.get(_slot(row, self._own_now))
        if exact is not None:
            return exact
        near = self._loose.get(_loose(row, self._own_now), [])
        return min(near, key=lambda old: len(changes(old, row)), default=None)

    def novelty(self, row: PlanRow) -> str:
        """What of a measurement the recorded plan has not."""
        same = self._before
        if not same:
            return "new: the sweep has no recorded plan in this store"
        for what, name in (("model", row.model), ("training", row.training), ("seed", row.seed)):
            same = [old for old in same if getattr(old, what) == name]
            if not same:
                return f"new: {what} {name}" + (f" of {row.label}" if what != "model" else "")
        entry = row.entry if row.entry == row.section else f"{row.section}.{row.entry}"
        where = "" if row.dataset == self._own_now else f" on {row.dataset}"
        return f"new: {entry}{where}"


def _slot(row: PlanRow, own: str) -> _Slot:
    data = "" if row.dataset == own else row.dataset
    return (
        row.kind,
        row.section,
        row.entry,
        row.model,
        row.training,
        row.seed,
        data,
        row.split,
    )


def _loose(row: PlanRow, own: str) -> _Slot:
    """Without axes, and a user's data set without its hash."""
    data = "" if row.dataset == own else row.dataset.partition(":")[0]
    return (
        row.kind,
        row.section,
        without_axes(row.entry).partition(":")[0],
        without_axes(row.model),
        None if row.training is None else without_axes(row.training),
        row.seed,
        data,
        row.split,
    )
