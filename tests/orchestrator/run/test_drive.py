"""The driver loop over the inline executor and rows that need no torch."""

from dataclasses import replace

import pytest

from robsweep.orchestrator.errors import FencedError
from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.run.drive import Options, Stop, drive
from robsweep.orchestrator.run.executor import InlineExecutor
from robsweep.orchestrator.run.inputs import InputReader
from robsweep.orchestrator.store.store import Store
from robsweep.orchestrator.store.writer import Writer
from tests.drives import drive_once
from tests.stores import all_rows, same_rows
from tests.sweeps import SMALL, plan_of

TABLES = ("models", "training", "predictions", "attacks", "ood_scores", "calibration")


def statuses(location):
    return all_rows(location, "jobs")["status"].to_pylist()


def test_a_sweep_runs_once_and_then_never_again(tmp_path):
    plan = plan_of(SMALL)
    first = drive_once(plan, tmp_path / "s")
    assert first.jobs == len(statuses(tmp_path / "s")) > 20
    assert not first.failures
    again = drive_once(plan, tmp_path / "s")
    assert again.jobs == 0
    assert not check(Store.open(tmp_path / "s")).problems


def test_the_screen_decides_who_is_solved(tmp_path):
    drive_once(plan_of(SMALL), tmp_path / "s")
    rows = all_rows(tmp_path / "s", "verification")
    solved = {
        (row["model_id"], row["sample"]): row["verdict"]
        for row in rows.to_pylist()
        if row["measurement_id"].startswith("solve")
    }
    assert {sample for _, sample in solved} == set(range(0, 100, 10))
    assert all((v == "timeout") == (s % 20 == 0) for (_, s), v in solved.items())
    assert drive_once(plan_of(SMALL), tmp_path / "s").jobs == 0
    longer = plan_of(SMALL.replace("time_limit_seconds: 5", "time_limit_seconds: 50"))
    assert drive_once(longer, tmp_path / "s").jobs == 10  # five timeouts of each of two models
    assert drive_once(longer, tmp_path / "s", retry=frozenset({"timeout"})).jobs == 10


@pytest.mark.parametrize("limit", [1, 2, 5, 11])
def test_any_cut_and_resume_gives_the_same_rows(tmp_path, limit):
    plan = plan_of(SMALL)
    drive_once(plan, tmp_path / "whole")
    while drive_once(plan, tmp_path / "cut", limit=limit).jobs:
        pass
    same_rows(tmp_path / "whole", tmp_path / "cut", (*TABLES, "verification"))
    assert len(statuses(tmp_path / "cut")) == len(statuses(tmp_path / "whole"))


@pytest.mark.parametrize("size", [250, 500, 1000])
def test_any_slice_size_gives_the_same_rows(tmp_path, size):
    drive_once(plan_of(SMALL), tmp_path / "a")
    resources = (
        f"resources: {{attack: {{samples_per_job: {size}}}, predict: {{samples_per_job: {size}}}}}"
    )
    drive_once(plan_of(SMALL.replace("seeds:", f"{resources}\nseeds:")), tmp_path / "b")
    same_rows(tmp_path / "a", tmp_path / "b", (*TABLES, "verification"))


def test_more_samples_run_only_the_difference(tmp_path):
    few = SMALL.replace("steps: 2", "steps: 2, samples: 250")
    drive_once(plan_of(few), tmp_path / "s")
    before = len(statuses(tmp_path / "s"))
    assert drive_once(plan_of(SMALL), tmp_path / "s").jobs == 2  # 250:500 of two models
    assert len(statuses(tmp_path / "s")) == before + 2


def test_what_another_sweep_did_is_reused(tmp_path):
    drive_once(plan_of(SMALL), tmp_path / "s")
    other = SMALL.replace("name: small", "name: other").replace("seeds: [0, 1]", "seeds: [1]")
    assert drive_once(plan_of(other), tmp_path / "s").jobs == 0


def test_a_failed_job_is_a_row_and_the_rest_goes_on(tmp_path):
    summary = drive_once(plan_of(SMALL), tmp_path / "s", "failing_rows")
    # slices of 500 start at 0: fail those that start at 250
    assert not summary.failures
    plan = plan_of(SMALL.replace("seeds:", "resources: {attack: {samples_per_job: 250}}\nseeds:"))
    summary = drive_once(plan, tmp_path / "t", "failing_rows")
    assert [error for _, error in summary.failures] == ["ArithmeticError: no luck"] * 2
    assert sorted(set(statuses(tmp_path / "t"))) == ["done", "failed"]
    failed = [r for r in all_rows(tmp_path / "t", "jobs").to_pylist() if r["status"] == "failed"]
    assert all("Traceback" in row["error"] for row in failed)
    counts = check(Store.open(tmp_path / "t")).measurements
    assert sum(state.failed for state in counts) == 500
    assert sum(state.missing for state in counts) == 0
    assert drive_once(plan, tmp_path / "t").jobs == 0  # failed is failed, until asked to retry
    assert drive_once(plan, tmp_path / "t", retry=frozenset({"failed"})).jobs == 2
    assert sum(s.failed for s in check(Store.open(tmp_path / "t")).measurements) == 0
    same_rows(tmp_path / "s", tmp_path / "t", TABLES)


def test_fail_fast_stops_after_the_first_failure(tmp_path):
    plan = plan_of(SMALL.replace("seeds:", "resources: {attack: {samples_per_job: 250}}\nseeds:"))
    summary = drive_once(plan, tmp_path / "s", "failing_rows", fail_fast=True)
    assert len(summary.failures) == 1


def test_a_job_past_its_limit_is_a_timeout(tmp_path):
    plan = plan_of(
        SMALL.replace("seeds:", "resources: {attack: {time_limit_seconds: 0.05}}\nseeds:")
    )
    summary = drive_once(plan, tmp_path / "s", "hanging")
    assert len(summary.failures) == 2
    assert statuses(tmp_path / "s").count("timeout") == 2


def test_draining_commits_what_ran_and_resumes(tmp_path):
    plan = plan_of(SMALL)
    stop = Stop(asked=1)
    assert drive_once(plan, tmp_path / "s", stop=stop).stopped
    assert drive_once(plan, tmp_path / "s").jobs > 20


def test_a_fenced_driver_stops(tmp_path):
    plan = plan_of(SMALL)
    store = Store.create(tmp_path / "s")
    writer = Writer(store, plan.name)
    Writer(store, plan.name)
    reader = InputReader(plan, store, writer.snapshot)
    with pytest.raises(FencedError):
        drive(
            plan, writer, InlineExecutor(), reader, [], options=Options(runner="tests.runners:rows")
        )


def test_lost_weights_fail_their_jobs_and_no_others(tmp_path):
    plan = plan_of(SMALL)
    drive_once(plan, tmp_path / "whole")
    drive_once(plan, tmp_path / "s", limit=2)  # the two trainings
    lost = next((tmp_path / "s" / "artifacts" / "models").iterdir())
    lost.unlink()
    summary = drive_once(plan, tmp_path / "s")
    assert summary.failures
    assert {job.measurement.model.model_id for job, _ in summary.failures} == {lost.stem}
    assert all("no inputs" in error for _, error in summary.failures)
    lost.write_bytes(b"weights")
    assert not drive_once(plan, tmp_path / "s", retry=frozenset({"failed"})).failures
    same_rows(tmp_path / "whole", tmp_path / "s", TABLES)


def test_what_another_sweep_screens_meanwhile_is_solved(tmp_path):
    """The second driver starts before the first has screened, and then finds it done."""
    plan = plan_of(SMALL)
    other = plan_of(SMALL.replace("name: small", "name: other"))
    store = Store.create(tmp_path / "s")
    late = Writer(store, other.name)
    reader = InputReader(other, store, late.snapshot)
    only_screen = {
        key: p for key, p in plan.measurements.items() if p.measurement.kind in {"train", "screen"}
    }
    drive_once(replace(plan, measurements=only_screen), tmp_path / "s")
    options = Options(runner="tests.runners:rows")
    summary = drive(other, late, InlineExecutor(), reader, [], options=options)
    assert summary.left == 0
    solved = [
        row
        for row in all_rows(tmp_path / "s", "verification").to_pylist()
        if row["measurement_id"].startswith("solve")
    ]
    assert len(solved) == 20
