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
SWEEP = SMALL.replace("steps: 2", "steps: 2, group_size: 25").replace(
    "seeds:", "resources: {attack: {samples_per_job: 25}}\nseeds:"
)

HOSTILE = {
    "models": '  theirs: {arch: "hostile:normalised"}\n',
    "trainings": '  theirs: {training: "hostile:training", epochs: 1}\n',
    "attacks": '  theirs: {attack: "tasks:my_attack", norm: linf, eps: 0.1, group_size: 25}\n',
    "ood": '  theirs: {scorer: "hostile:score", sets: [photo_patches]}\n',
}
SHIFT = 'shift:\n  theirs: {corruption: "hostile:darken", severity: 2}\n'

pytestmark = pytest.mark.ray


def start(folder, store, text=SWEEP, *options, python=()):
    file = folder / f"{store}-{text.split()[1]}.yaml"
    file.write_text(text)
    command = [sys.executable, *python, "-m", "robsweep", "run", file, "--store", folder / store]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "ROBSWEEP_ADDRESS": "local"}
    with (folder / f"{file.stem}.log").open("a") as log:
        return subprocess.Popen(
            [*map(str, command), *options], cwd=folder, env=env, stdout=log, stderr=log
        )


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


def test_inline_and_ray_write_the_same_rows(undisturbed, tmp_path):
    finish(start(tmp_path, "store", SWEEP, "--address", "inline"))
    same_rows(undisturbed, tmp_path / "store", (*TABLES, "verification"))


def test_ones_own_code_changes_nothing_but_its_own_rows(tmp_path):
    """Names like ours, and hostile code in the same sweep, on Ray as inline."""
    shutil.copy(ROOT / "tests" / "tasks" / "hostile.py", tmp_path)
    (tmp_path / "tasks.py").write_text("from hostile import attack as my_attack\n")
    for name in ("orchestrator", "dashboards", "robsweep", "random", "torch"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('not to be imported')\n")
    with_it = SWEEP.replace("seeds: [0, 1]", "seeds: [0]\nsamples: 50")
    with_it = with_it.partition("verification:")[0]
    innocent = with_it.replace("name: small", "name: innocent")
    for section, entry in HOSTILE.items():
        with_it = with_it.replace(f"{section}:\n", f"{section}:\n{entry}")
    with_it += SHIFT
    # not as `python -m`, which would put this folder before Python's own modules
    options = ("-P",)
    finish(start(tmp_path, "ray", with_it, python=options))
    finish(start(tmp_path, "inline", with_it, "--address", "inline", python=options))
    same_rows(tmp_path / "ray", tmp_path / "inline", TABLES)
    finish(start(tmp_path, "alone", innocent, "--address", "inline", python=options))
    for table in TABLES:
        rows = all_rows(tmp_path / "alone", table)
        ids = pa.array(rows["measurement_id"].unique())
        among = all_rows(tmp_path / "ray", table)
        assert among.filter(pc.is_in(among["measurement_id"], ids)).equals(rows), table
        assert among.num_rows > rows.num_rows


def test_ensembles_and_what_starts_from_them_are_the_same_on_ray(tmp_path):
    finish(start(tmp_path, "ray", WHOLE))
    finish(start(tmp_path, "inline", WHOLE, "--address", "inline"))
    same_rows(tmp_path / "ray", tmp_path / "inline", ("models", "predictions", "attacks"))


@pytest.mark.parametrize("kill", ["drain", "now", "kill -9"])
def test_a_killed_sweep_goes_on_where_it_stopped(undisturbed, tmp_path, kill):
    process = start(tmp_path, "store")
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
    whole = kill == "drain"  # what is in flight may be all that is left
    kinds = all_rows(tmp_path / "store", "jobs")["kind"].to_pylist()
    before = sum(kind != "preflight" for kind in kinds)
    attacks = sum(p.rows for p in Store.open(tmp_path / "store").snapshot().parts("attacks"))
    finish(start(tmp_path, "store"))
    same_rows(undisturbed, tmp_path / "store", TABLES)
    jobs = [
        job
        for job in all_rows(tmp_path / "store", "jobs").to_pylist()
        if job["kind"] != "preflight"
    ]
    assert 0 < before < len(jobs) + whole
    assert 0 < attacks <= all_rows(undisturbed, "attacks").num_rows
    done = [(j["measurement_id"], j["start"], j["stop"]) for j in jobs if j["status"] == "done"]
    assert len(done) == len(set(done))  # nothing that was covered ran again
    assert not check(Store.open(tmp_path / "store")).problems


def test_two_overlapping_sweeps_at_once_count_nothing_twice(undisturbed, tmp_path):
    one = SWEEP.replace("name: small", "name: one")
    two = SWEEP.replace("name: small", "name: two").replace("seeds: [0, 1]", "seeds: [1, 2]")
    processes = [start(tmp_path, "store", text) for text in (one, two)]
    for process in processes:
        finish(process)
    finish(start(tmp_path, "store"))  # the undisturbed sweep: nothing left to do
    store = Store.open(tmp_path / "store")
    report = check(store)
    assert not report.problems
    assert not [state for state in report.measurements if state.missing or state.failed]
    alone = start(tmp_path, "alone", two)
    finish(alone)
    for sweep, other in (("small", undisturbed), ("one", undisturbed), ("two", tmp_path / "alone")):
        assert leaderboard(tmp_path / "store", sweep) == leaderboard(
            other, "small" if other == undisturbed else sweep
        )


def leaderboard(store, sweep):
    from robsweep.orchestrator.results.results import Results

    return Results.open(store).table(sweep, "leaderboard").to_dicts()


@pytest.mark.parametrize(("size", "workers"), [(250, 1), (500, 2), (1000, 1)])
def test_slices_and_workers_change_no_row(tmp_path, undisturbed, size, workers):
    text = SWEEP.replace("samples_per_job: 25", f"samples_per_job: {size}")
    if workers == 1:
        text = text.replace(
            "resources: {attack: {",
            "resources: {predict: {num_cpus: 2, threads: 1}, attack: {num_cpus: 2, threads: 1, ",
        )
    finish(start(tmp_path, "store", text))
    same_rows(undisturbed, tmp_path / "store", TABLES)


@pytest.fixture(scope="module")
def cluster():
    from robsweep.orchestrator.run import ray_executor

    os.environ["PYTHONPATH"] = str(ROOT)
    ray_executor.connect("local")
    yield ray_executor
    import ray

    ray.shutdown()


def drive_with(cluster, location, runner, text=SWEEP):
    from robsweep.orchestrator.run.drive import Options, drive
    from robsweep.orchestrator.run.inputs import InputReader
    from robsweep.orchestrator.store.writer import Writer
    from tests.sweeps import plan_of, spec_of

    plan = plan_of(text)
    store = Store.create(location)
    writer = Writer(store, plan.name)
    executor = cluster.RayExecutor(spec_of(text).resources)
    options = Options(runner=f"tests.runners:{runner}")
    reader = InputReader(plan, store, writer.snapshot)
    return drive(plan, writer, executor, reader, [], options=options)


def test_a_worker_that_dies_costs_one_attempt(cluster, tmp_path):
    drive_with(cluster, tmp_path / "calm", "rows")
    summary = drive_with(cluster, tmp_path / "dying", "dying_once")
    assert not summary.failures
    same_rows(tmp_path / "calm", tmp_path / "dying", (*TABLES, "verification"))
    jobs = all_rows(tmp_path / "dying", "jobs").to_pylist()
    died = [job for job in jobs if job["status"] == "cancelled"]  # another attempt followed
    assert len(died) == 2
    assert all("died" in job["error"].lower() or "crash" in job["error"].lower() for job in died)


def test_a_job_past_its_limit_is_stopped(cluster, tmp_path):
    text = SWEEP.replace("samples_per_job: 25", "samples_per_job: 500, time_limit_seconds: 0.2")
    summary = drive_with(cluster, tmp_path / "s", "hanging", text)
    assert len(summary.failures) == 2


def test_large_results_are_written_by_the_worker(cluster, tmp_path):
    text = SWEEP.replace("samples_per_job: 25", "samples_per_job: 500")
    drive_with(cluster, tmp_path / "small", "rows", text)
    drive_with(cluster, tmp_path / "large", "large_rows", text)
    same_rows(tmp_path / "small", tmp_path / "large", ("attacks", "predictions"))
    stamped = [part.path for part in Store.open(tmp_path / "large").snapshot().parts("attacks")]
    assert len(stamped) == 2  # one a job: the driver would have written one for each measurement
    assert list((tmp_path / "large" / "artifacts" / "adversarials").iterdir())
    assert not check(Store.open(tmp_path / "large")).problems
