"""What a run would do, before, between and after runs of the same store."""

from pathlib import Path

import pytest

from robsweep.orchestrator.cli.plan import summary
from robsweep.orchestrator.plan.next_jobs import missing_ranges
from robsweep.orchestrator.ranges import total
from robsweep.orchestrator.run.outlook import outlook
from robsweep.orchestrator.settings import Settings
from tests.orchestrator.run.test_drive import drive_once
from tests.sweeps import TINY, plan_of, spec_of


@pytest.fixture
def look(tmp_path):
    settings = Settings(tmp_path / "s", Path("data"), None, "inline", False)
    return lambda text=TINY: outlook(spec_of(text), settings)


def test_before_the_first_run_everything_is_left(look):
    found = look()
    planned = plan_of(TINY).measurements
    assert [m.row.measurement_id for m in found.measurements] == [*planned]
    for m in found.measurements:
        one = planned[m.row.measurement_id]
        assert m.settled == m.covered == 0
        if m.row.kind == "solve":
            assert m.undetermined
            assert not m.left
        else:
            assert m.left == missing_ranges(one, ())
            assert m.expected_seconds == total(m.left) * m.sample_seconds
    assert set(found.reasons) == {*planned}
    assert sum(k.samples for k in found.kinds) == sum(m.computed for m in found.measurements)


def test_after_a_run_nothing_is_left(look, tmp_path):
    drive_once(plan_of(TINY), tmp_path / "s")
    found = look()
    assert found.reasons == {}
    for m in found.measurements:
        assert not m.left
        assert m.settled == total(m.row.wanted)
    assert all(k.expected_seconds == 0 for k in found.kinds)


def test_a_run_that_was_cut_off_is_resumed(look, tmp_path):
    drive_once(plan_of(TINY), tmp_path / "s", limit=3)
    found = look()
    assert len(found.reasons) > 3
    assert not [w for why in found.reasons.values() for w in why if w.startswith("new")]
    assert any(w.startswith("resumed") for why in found.reasons.values() for w in why)


def test_what_failed_is_told_apart(look, tmp_path):
    text = TINY.replace("samples: 100\n", "samples: 500\n", 1).replace(", group_size: 50", "")
    text = text.replace("seeds:", "resources: {attack: {samples_per_job: 250}}\nseeds:")
    drive_once(plan_of(text), tmp_path / "s", runner="failing_rows")
    found = look(text)
    (attack,) = [m for m in found.measurements if m.row.kind == "attack"]
    assert attack.left == attack.failed == ((250, 500),)
    assert attack.timed_out == ()
    assert attack.sample_seconds > 0
    assert all(m.expected_seconds == 0 for m in found.measurements), "a run does nothing more"
    assert not any(m.waits for m in found.measurements)
    assert "\n250 failed: robsweep retry small --store " in summary(found)
    assert "timed out" not in summary(found)
    assert found.reasons == {
        attack.row.measurement_id: ["failed before: 250 of 500, tried again by robsweep retry"]
    }


def test_what_waits_for_a_failed_training_costs_nothing_yet(look, tmp_path):
    drive_once(plan_of(TINY), tmp_path / "s", runner="failing_training")
    found = look()
    (train,) = [m for m in found.measurements if m.row.kind == "train"]
    assert train.failed == train.left == ((0, 1),)
    waiting = [m for m in found.measurements if m.row.kind not in {"train", "solve"}]
    assert all(m.waits for m in waiting), "all are of this model"
    assert all(k.expected_seconds == 0 for k in found.kinds)
    text = summary(found)
    assert f"\n{len(waiting)} measurements wait for these" in text
    assert "\n1 failed: robsweep retry small" in text


def test_a_store_of_screened_samples_says_which_are_open(look, tmp_path):
    plan = plan_of(TINY)
    measurements = {k: p for k, p in plan.measurements.items() if not k.startswith("solve")}
    drive_once(type(plan)(plan.name, measurements, ()), tmp_path / "s")
    (solve,) = [m for m in look().measurements if m.row.kind == "solve"]
    assert not solve.undetermined
    assert 0 < total(solve.left) < 100
    assert solve.settled + total(solve.left) == 100
