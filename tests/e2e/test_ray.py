"""Real sweeps through a real Ray cluster on this machine: killed, resumed, run side by side."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.store.store import Store
from tests.orchestrator.plan.test_ensembles import WHOLE
from tests.stores import all_rows, same_rows
from tests.sweeps import SMALL

ROOT = Path(__file__).parents[2]
TABLES = ("models", "training", "predictions", "attacks", "ood_scores", "calibration")
WHOLE_SWEEP = (
    SMALL.replace("steps: 2", "steps: 2, group_size: 25")
    .replace("seeds:", "resources: {attack: {samples_per_job: 25}}\nseeds:")
    .replace("eps: 0.02, samples: 100", "eps: 0.02, samples: 20")
)
SWEEP = WHOLE_SWEEP.split("verification:", maxsplit=1)[0]

HOSTILE = {
    "models": '  theirs: {arch: "hostile:normalised"}\n',
    "trainings": '  theirs: {training: "hostile:training", epochs: 1}\n',
    "attacks": '  theirs: {attack: "tasks:my_attack", norm: linf, eps: 0.1, group_size: 25}\n',
    "ood": '  theirs: {scorer: "hostile:score", sets: [photo_patches]}\n',
}
SHIFT = 'shift:\n  theirs: {corruption: "hostile:darken", severity: 2}\n'

pytestmark = pytest.mark.ray


def start(folder, store, text=SWEEP, address="inline", python=()):
    """A driver in a process of its own, inline or on the cluster of these tests."""
    file = folder / f"{store}-{text.split()[1]}.yaml"
    file.write_text(text)
    command = [sys.executable, *python, "-m", "robsweep", "run", file, "--store", folder / store]
    command += ["--address", address]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / f"{file.stem}.log").open("a") as log:
        return subprocess.Popen([*map(str, command)], cwd=folder, env=env, stdout=log, stderr=log)


def finish(process, code=0, seconds=600):
    assert process.wait(seconds) == code


def wait_until_attacking(store, process, seconds=300):
    """Until some, not all, attack rows are committed."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if (store / "store.json").exists():
            found = sum(part.rows for part in Store.open(store).snapshot().parts("attacks"))
            if found:
                return
        time.sleep(0.05)
    raise AssertionError("no attack rows in time")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(start(folder, "store"))
    return folder / "store"


def test_inline_and_ray_write_the_same_rows(tmp_path):
    """With a cluster of its own, as `--address local` starts it."""
    finish(start(tmp_path, "inline", WHOLE_SWEEP))
    finish(start(tmp_path, "ray", WHOLE_SWEEP, "local"))
    same_rows(tmp_path / "inline", tmp_path / "ray", (*TABLES, "verification"))


def test_ones_own_code_changes_nothing_but_its_own_rows(cluster, tmp_path):
    """Names like ours, and hostile code in the same sweep, on Ray as inline."""
    shutil.copy(ROOT / "tests" / "tasks" / "hostile.py", tmp_path)
    (tmp_path / "tasks.py").write_text("from hostile import attack as my_attack\n")
    for name in ("orchestrator", "dashboards", "robsweep", "random", "torch"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not to be imported')\n")
    with_it = SWEEP.replace("seeds: [0, 1]", "seeds: [0]\nsamples: 50")
    innocent = with_it.replace("name: small", "name: innocent")
    for section, entry in HOSTILE.items():
        with_it = with_it.replace(f"{section}:\n", f"{section}:\n{entry}")
    with_it += SHIFT
    # not as `python -m`, which would put this folder before Python's own modules
    finish(start(tmp_path, "ray", with_it, cluster, python=("-P",)))
    finish(start(tmp_path, "inline", with_it, python=("-P",)))
    same_rows(tmp_path / "ray", tmp_path / "inline", TABLES)
    finish(start(tmp_path, "alone", innocent, python=("-P",)))
    for table in TABLES:
        rows = all_rows(tmp_path / "alone", table)
        ids = pa.array(rows["measurement_id"].unique())
        among = all_rows(tmp_path / "ray", table)
        assert among.filter(pc.is_in(among["measurement_id"], ids)).equals(rows), table
        assert among.num_rows > rows.num_rows


def test_ensembles_and_what_starts_from_them_are_the_same_on_ray(cluster, tmp_path):
    finish(start(tmp_path, "ray", WHOLE, cluster))
    finish(start(tmp_path, "inline", WHOLE))
    same_rows(tmp_path / "ray", tmp_path / "inline", ("models", "predictions", "attacks"))


@pytest.mark.parametrize("kill", ["drain", pytest.param("now", marks=pytest.mark.slow), "kill -9"])
def test_a_killed_sweep_goes_on_where_it_stopped(cluster, undisturbed, tmp_path, kill):
    process = start(tmp_path, "store", SWEEP, cluster)
    wait_until_attacking(tmp_path / "store", process)
    if kill == "kill -9":
        process.kill()
        process.wait()
    else:
        process.send_signal(signal.SIGINT)
        if kill == "now":
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        assert process.wait(300) == 1
    kinds = all_rows(tmp_path / "store", "jobs")["kind"].to_pylist()
    before = sum(kind != "preflight" for kind in kinds)
    attacks = sum(p.rows for p in Store.open(tmp_path / "store").snapshot().parts("attacks"))
    finish(start(tmp_path, "store", SWEEP, cluster))
    same_rows(undisturbed, tmp_path / "store", TABLES)
    jobs = [
        job
        for job in all_rows(tmp_path / "store", "jobs").to_pylist()
        if job["kind"] != "preflight"
    ]
    # a busy machine may have had no more to do when the signal came
    assert 0 < before <= len(jobs)
    assert 0 < attacks <= all_rows(undisturbed, "attacks").num_rows
    done = [(j["measurement_id"], j["start"], j["stop"]) for j in jobs if j["status"] == "done"]
    assert len(done) == len(set(done))  # nothing that was covered ran again
    assert not check(Store.open(tmp_path / "store")).problems


def test_two_overlapping_sweeps_at_once_count_nothing_twice(cluster, undisturbed, tmp_path):
    one = SWEEP.replace("name: small", "name: one")
    two = SWEEP.replace("name: small", "name: two").replace("seeds: [0, 1]", "seeds: [1, 2]")
    processes = [start(tmp_path, "store", text, cluster) for text in (one, two)]
    for process in processes:
        finish(process)
    finish(start(tmp_path, "store"))  # the undisturbed sweep: nothing left to do
    store = Store.open(tmp_path / "store")
    report = check(store)
    assert not report.problems
    assert not [state for state in report.measurements if state.missing or state.failed]
    finish(start(tmp_path, "alone", two))
    for sweep, other in (("small", undisturbed), ("one", undisturbed), ("two", tmp_path / "alone")):
        assert leaderboard(tmp_path / "store", sweep) == leaderboard(
            other, "small" if other == undisturbed else sweep
        )


def leaderboard(store, sweep):
    from robsweep.orchestrator.results.results import Results

    return Results.open(store).table(sweep, "leaderboard").to_dicts()


@pytest.mark.parametrize(
    ("size", "workers"),
    [
        (250, 1),
        pytest.param(500, 2, marks=pytest.mark.slow),
        pytest.param(1000, 1, marks=pytest.mark.slow),
    ],
)
def test_slices_and_workers_change_no_row(cluster, tmp_path, undisturbed, size, workers):
    text = SWEEP.replace("samples_per_job: 25", f"samples_per_job: {size}")
    if workers == 1:
        text = text.replace(
            "resources: {attack: {",
            "resources: {predict: {num_cpus: 2, threads: 1}, attack: {num_cpus: 2, threads: 1, ",
        )
    finish(start(tmp_path, "store", text, cluster))
    same_rows(undisturbed, tmp_path / "store", TABLES)


def drive_with(location, runner, text=WHOLE_SWEEP):
    from robsweep.orchestrator.run import ray_executor
    from robsweep.orchestrator.run.drive import Options, drive
    from robsweep.orchestrator.run.inputs import InputReader
    from robsweep.orchestrator.store.writer import Writer
    from tests.sweeps import plan_of, spec_of

    plan = plan_of(text)
    store = Store.create(location)
    writer = Writer(store, plan.name)
    executor = ray_executor.RayExecutor(spec_of(text).resources)
    options = Options(runner=f"tests.runners:{runner}")
    reader = InputReader(plan, store, writer.snapshot)
    return drive(plan, writer, executor, reader, [], options=options)


@pytest.mark.usefixtures("cluster")
def test_a_worker_that_dies_costs_one_attempt(tmp_path):
    drive_with(tmp_path / "calm", "rows")
    summary = drive_with(tmp_path / "dying", "dying_once")
    assert not summary.failures
    same_rows(tmp_path / "calm", tmp_path / "dying", (*TABLES, "verification"))
    jobs = all_rows(tmp_path / "dying", "jobs").to_pylist()
    died = [job for job in jobs if job["status"] == "cancelled"]  # another attempt followed
    assert len(died) == 2
    assert all("died" in job["error"].lower() or "crash" in job["error"].lower() for job in died)


@pytest.mark.usefixtures("cluster")
def test_a_job_past_its_limit_is_stopped(tmp_path):
    slow = "samples_per_job: 500, time_limit_seconds: 0.2"
    text = WHOLE_SWEEP.replace("samples_per_job: 25", slow)
    summary = drive_with(tmp_path / "s", "hanging", text)
    assert len(summary.failures) == 2


@pytest.mark.usefixtures("cluster")
def test_large_results_are_written_by_the_worker(tmp_path):
    text = WHOLE_SWEEP.replace("samples_per_job: 25", "samples_per_job: 500")
    drive_with(tmp_path / "small", "rows", text)
    drive_with(tmp_path / "large", "large_rows", text)
    same_rows(tmp_path / "small", tmp_path / "large", ("attacks", "predictions"))
    stamped = [part.path for part in Store.open(tmp_path / "large").snapshot().parts("attacks")]
    assert len(stamped) == 2  # one a job: the driver would have written one for each measurement
    assert list((tmp_path / "large" / "artifacts" / "adversarials").iterdir())
    assert not check(Store.open(tmp_path / "large")).problems
