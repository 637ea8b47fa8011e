"""What a run of a sweep would do: of each kind, and of each measurement, and why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from robsweep.orchestrator.plan.cost import Costs
from robsweep.orchestrator.plan.groups import group_notes
from robsweep.orchestrator.plan.next_jobs import is_complete, missing_ranges
from robsweep.orchestrator.plan.plan import Places, Plan, Planned, asked_for, plan
from robsweep.orchestrator.plan.recorded import recorded_plan
from robsweep.orchestrator.plan.table import PlanRow, from_table, to_table
from robsweep.orchestrator.plan.why import Standing, reasons
from robsweep.orchestrator.ranges import Ranges, intersect, total, union
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

    @property
    def expected_seconds(self) -> float:
        return total(self.left) * self.sample_seconds


@dataclass(frozen=True)
class Outlook:
    """What a sweep still asks for, in the order of its file."""

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
    whole = plan(spec, Places(settings.data_dir, settings.nets_dir), snapshot.coverage)
    planned = asked_for(whole, kinds, rerun)
    jobs = past_jobs(store, snapshot) if store else []
    costs = Costs.of(jobs)
    open_rows = past_rows(planned, store, snapshot)
    rows = from_table(to_table(planned))
    measurements = [
        _of(row, one, planned, snapshot, open_rows, costs.expected(one))
        for row, one in zip(rows, planned.measurements.values(), strict=True)
    ]
    standing = Standing(
        left={m.row.measurement_id: m.left for m in measurements},
        coverage=snapshot.coverage,
        failed=given_up(planned, jobs, frozenset()),
    )
    why = reasons(rows, recorded_plan(store, spec.name), standing)
    return Outlook(measurements, why, group_notes(planned), data_warnings(spec))


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
