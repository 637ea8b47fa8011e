"""What a run of a sweep would do: of each kind, and of each measurement, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.groups import group_notes
from robsweep.orchestrator.plan.next_jobs import is_complete, missing_ranges
from robsweep.orchestrator.plan.plan import Places, Plan, Planned, asked_for, plan
from robsweep.orchestrator.plan.recorded import attacks_on, recorded_plan
from robsweep.orchestrator.plan.table import PlanRow, from_table, to_table
from robsweep.orchestrator.plan.why import Standing, reasons
from robsweep.orchestrator.ranges import Ranges, intersect, subtract, total, union
from robsweep.orchestrator.results.check import past_jobs
from robsweep.orchestrator.run.counting import given_up
from robsweep.orchestrator.run.inputs import past_rows
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.data_warnings import data_warnings
from robsweep.orchestrator.spec.fields import Rerun
from robsweep.orchestrator.spec.spec import SweepSpec
from robsweep.orchestrator.store.log import Snapshot
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.catalogue import KINDS


@dataclass(frozen=True)
class KindOutlook:
    """What one kind of a plan still asks for."""

    kind: str
    measurements: int
    samples: int
    covered: int
    expected_seconds: float


@dataclass(frozen=True)
class MeasurementOutlook:
    """What one measurement of a plan still asks for."""

    row: PlanRow
    computed: int  # samples in all, whole groups; of a solve: those left open now
    covered: int  # of `computed`
    left: Ranges
    undetermined: bool  # a solve whose screen still has samples: more may be left open
    settled: int  # wanted samples that need no more work
    sample_seconds: float  # expected
    failed: Ranges = ()  # of `left`: a job failed before, and only a retry tries again
    timed_out: Ranges = ()  # likewise, and not in `failed`
    waits: bool = False  # for what has failed: a run cannot begin it

    @property
    def expected_seconds(self) -> float:
        """Of what a run would do."""
        if self.waits:
            return 0.0
        given = union([*self.failed, *self.timed_out])
        return total(subtract(self.left, given)) * self.sample_seconds


@dataclass(frozen=True)
class Outlook:
    """What a sweep still asks for, in the order of its file."""

    sweep: str
    store: Path
    measurements: Sequence[MeasurementOutlook]
    reasons: Mapping[str, Sequence[str]]  # measurement id -> why it would run
    notes: Sequence[str]  # what whole groups compute beyond what is wanted
    warnings: Sequence[str]  # what looks wrong in data sets that are the user's files

    @property
    def kinds(self) -> Sequence[KindOutlook]:
        found = []
        for kind in KINDS:
            mine = [m for m in self.measurements if m.row.kind == kind]
            samples, covered = sum(m.computed for m in mine), sum(m.covered for m in mine)
            seconds = sum(m.expected_seconds for m in mine)
            if mine:
                found.append(KindOutlook(kind, len(mine), samples, covered, seconds))
        return found


def outlook(
    spec: SweepSpec,
    settings: Settings,
    kinds: frozenset[str] = frozenset(),
    rerun: Rerun | None = None,
) -> Outlook:
    """What would run, what is done, and what it is expected to cost; runs nothing.

    Args:
        kinds: Only these, and what they need; all, if none is named.
        rerun: In place of what the verification entries say.
    """
    store = Store.existing(settings.store)
    snapshot = store.snapshot() if store else Snapshot()
    whole = plan(
        spec,
        Places(settings.data_dir, settings.nets_dir, attacks_on(store, snapshot)),
        snapshot.coverage,
    )
    planned = asked_for(whole, kinds, rerun)
    jobs = past_jobs(store, snapshot) if store else []
    costs = Costs.of(jobs)
    open_rows = past_rows(planned, store, snapshot)
    rows = from_table(to_table(planned))
    failed = given_up(planned, jobs, frozenset({"timeout"}))
    timed_out = given_up(planned, jobs, frozenset({"failed"}))
    measurements = _waiting(
        [
            _given_up(
                _of(row, one, planned, snapshot, open_rows, costs.expected(one)),
                failed.get(row.measurement_id, ()),
                timed_out.get(row.measurement_id, ()),
            )
            for row, one in zip(rows, planned.measurements.values(), strict=True)
        ],
        planned,
        snapshot,
    )
    standing = Standing(
        left={m.row.measurement_id: m.left for m in measurements},
        coverage=snapshot.coverage,
        failed=given_up(planned, jobs, frozenset()),
    )
    why = reasons(rows, recorded_plan(store, spec.name), standing)
    return Outlook(
        spec.name, settings.store, measurements, why, group_notes(planned), data_warnings(spec)
    )


def _given_up(m: MeasurementOutlook, failed: Ranges, timed_out: Ranges) -> MeasurementOutlook:
    mine = intersect(m.left, failed)
    return replace(m, failed=mine, timed_out=subtract(intersect(m.left, timed_out), mine))


def _waiting(
    measurements: Sequence[MeasurementOutlook], whole: Plan, snapshot: Snapshot
) -> Sequence[MeasurementOutlook]:
    """Marks what needs, over however many steps, samples that have been given up."""
    lacking = {
        m.row.measurement_id
        for m in measurements
        if intersect(
            subtract(m.row.wanted, snapshot.coverage(m.row.measurement_id)),
            union([*m.failed, *m.timed_out]),
        )
    }
    waits: set[str] = set()
    while True:
        more = {
            m.row.measurement_id
            for m in measurements
            if m.left
            and m.row.kind != "solve"  # what a part of its screen leaves open is solved already
            and not lacking.union(waits).isdisjoint(whole.measurements[m.row.measurement_id].needs)
        }
        if more <= waits:
            return [replace(m, waits=m.row.measurement_id in waits) for m in measurements]
        waits |= more


def _of(
    row: PlanRow,
    planned: Planned,
    whole: Plan,
    snapshot: Snapshot,
    open_rows: OpenRows,
    sample_seconds: float,
) -> MeasurementOutlook:
    coverage, key = snapshot.coverage, row.measurement_id
    if row.kind == "solve":  # known once the screen has run
        left = union((sample, sample + 1) for sample in open_rows.open[key])
        (screen,) = planned.needs
        screened = total(intersect(planned.wanted, coverage(screen)))
        undetermined = not is_complete(whole.measurements[screen], coverage)
        settled = max(0, screened - total(left))
        return MeasurementOutlook(row, total(left), 0, left, undetermined, settled, sample_seconds)
    computed = total(missing_ranges(planned, ()))
    left = missing_ranges(planned, coverage(key))
    settled = total(intersect(planned.wanted, coverage(key)))
    covered = computed - total(left)
    return MeasurementOutlook(row, computed, covered, left, False, settled, sample_seconds)
