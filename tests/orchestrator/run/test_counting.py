"""Counts of a run: they add up to the plan at every point."""

from robsweep.orchestrator.plan.next_jobs import missing_ranges
from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.run.counting import Counts, count_left, count_waiting, given_up
from robsweep.orchestrator.run.open_rows import OpenRows
from robsweep.tasks.job import Job
from tests.sweeps import SMALL, plan_of

PLAN = plan_of(SMALL)


def have(*kinds):
    """Coverage of a store that has all measurements of these kinds."""
    return lambda key: (
        missing_ranges(PLAN.measurements[key], ()) if key.split("-")[0] in kinds else ()
    )


def counts(*kinds, seconds=2.0):
    return Counts(PLAN, have(*kinds), OpenRows(PLAN), lambda planned: seconds)


def test_what_is_there_before_a_run_is_not_expected_again():
    found = counts("train", "predict").kinds
    assert found["train"].before == found["train"].total == 2
    assert found["predict"].remaining_seconds == 0
    attacks = [p for p in PLAN.measurements.values() if p.measurement.kind == "attack"]
    size = sum(total(missing_ranges(p, ())) for p in attacks)
    assert (found["attack"].before, found["attack"].total) == (0, size)
    assert found["attack"].remaining_seconds == 2.0 * size


def test_what_remains_is_expected_at_the_pace_of_what_is_done():
    found = counts()
    planned = next(p for k, p in PLAN.measurements.items() if k.startswith("attack"))
    found.failed(Job(planned.measurement, 250, 500, planned.setting))
    found.done(Job(planned.measurement, 0, 250, planned.setting), seconds=500.0)
    kind = found.kinds["attack"]
    assert (kind.done, kind.failed) == (250, 250)
    assert kind.remaining_seconds == 2.0 * (kind.total - 500)


def test_solves_are_counted_as_screens_leave_them_open():
    found, open_rows = counts(), OpenRows(PLAN)
    assert found.kinds["solve"].total == 0
    for rows in open_rows.open.values():
        rows.update({3: 1.0, 4: 1.0})
    found.solves(open_rows)
    assert found.kinds["solve"].total == 2 * len(open_rows.open)


def test_left_are_wanted_samples_and_open_ones():
    open_rows = OpenRows(PLAN)
    solves = len(open_rows.open)
    every = {key.split("-")[0] for key in PLAN.measurements}
    assert count_left(PLAN, have(*every), open_rows) == 0
    for rows in open_rows.open.values():
        rows[7] = 1.0
    assert count_left(PLAN, have(*every), open_rows) == solves
    assert count_left(PLAN, have(*every - {"calibrate"}), open_rows) == solves + 2


def test_waiting_is_what_misses_samples_and_its_needs():
    others = [p for p in PLAN.measurements.values() if p.needs and p.measurement.kind != "solve"]
    assert count_waiting(PLAN, have()) == len(others)
    assert count_waiting(PLAN, have("train")) == 6, "calibrations and scores wait for predictions"
    assert count_waiting(PLAN, have("train", "predict")) == 0


def test_a_cancelled_attempt_is_never_given_up_and_a_failed_one_until_a_retry():
    key = next(k for k in PLAN.measurements if k.startswith("attack"))
    jobs = [
        {"measurement_id": key, "sweep": PLAN.name, "status": status, "start": 0, "stop": 250}
        for status in ("cancelled", "failed", "timeout")
    ]
    further = {**jobs[1], "start": 250, "stop": 300}
    assert given_up(PLAN, jobs[:1], frozenset()) == {}
    assert given_up(PLAN, [jobs[1], further], frozenset()) == {key: ((0, 300),)}
    assert given_up(PLAN, jobs[2:], frozenset({"timeout"})) == {}
    assert given_up(PLAN, [{**jobs[1], "sweep": "other"}], frozenset()) == {}
    assert given_up(PLAN, [{**jobs[1], "measurement_id": "attack-0"}], frozenset()) == {}
