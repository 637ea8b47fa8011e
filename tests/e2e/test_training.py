"""Trainings through a real Ray cluster: killed and resumed, and by two workers at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from robsweep.orchestrator.store.store import Store
from tests.stores import all_rows

ROOT = Path(__file__).parents[2]
LONG = """
name: long
dataset: digits
models: {mlp: {arch: mlp, hidden: [32]}}
trainings: {noise: {epochs: 120, batch_size: 32, ema: 0.9, std: 0.1}}
resources: {train: {checkpoint_seconds: 0.2}}
"""
BY_TWO = """
name: by_two
dataset: digits
models: {mlp: {arch: mlp, hidden: [32]}}
trainings: {standard: {epochs: 4, batch_size: 50, optimizer: sgd, lr: 0.1}}
resources: {train: {workers: WORKERS, num_cpus: 1}}
"""

pytestmark = pytest.mark.ray


def start(folder: Path, store: str, text: str, address: str) -> subprocess.Popen[bytes]:
    file = folder / f"{store}.yaml"
    file.write_text(text)
    command = [sys.executable, "-m", "robsweep", "run", file, "--store", folder / store]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "ROBSWEEP_ADDRESS": address}
    with (folder / f"{store}.log").open("a") as log:
        return subprocess.Popen(
            [*map(str, command), "--only", "train"], cwd=folder, env=env, stdout=log, stderr=log
        )


def weights_of(store: Path) -> tuple[str, dict[str, torch.Tensor]]:
    (row,) = all_rows(store, "models").to_pylist()
    return row["weights_sha256"], load(Store.open(store).weights(row["model_id"]))


def workers_of(parent: int) -> list[int]:
    """Processes below `parent` that run a job."""
    table = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    )
    rows = [line.split(maxsplit=2) for line in table.stdout.splitlines()[1:]]
    below, found = {parent}, []
    for _ in range(4):
        below |= {int(pid) for pid, above, _ in rows if int(above) in below}
    for pid, _, args in rows:
        if int(pid) in below and args.startswith("ray::_run"):
            found.append(int(pid))
    return found


@pytest.mark.parametrize("kill", ["worker", "driver"])
def test_a_killed_training_ends_with_the_weights_of_an_undisturbed_one(
    cluster: str, tmp_path: Path, kill: str
) -> None:
    assert start(tmp_path, "undisturbed", LONG, "inline").wait(300) == 0
    process = start(tmp_path, "store", LONG, cluster)
    folder = tmp_path / "store" / "checkpoints"
    end = time.monotonic() + 300
    while not list(folder.glob("train-*.pt")) and time.monotonic() < end:
        time.sleep(0.02)
    assert list(folder.glob("train-*.pt")), "no checkpoint in time"
    if kill == "worker":
        for pid in workers_of(os.getpid()):
            os.kill(pid, signal.SIGKILL)
    else:
        process.kill()
        process.wait(60)
        assert list(folder.glob("train-*.pt")), "kept for the next run"
        process = start(tmp_path, "store", LONG, cluster)
    assert process.wait(300) == 0, (tmp_path / "store.log").read_text()
    assert weights_of(tmp_path / "store")[0] == weights_of(tmp_path / "undisturbed")[0]
    assert not list(folder.glob("train-*.pt")), "dropped once the result is in the store"
    if kill == "worker":
        jobs = all_rows(tmp_path / "store", "jobs").to_pylist()
        attempts = [job["status"] for job in jobs if job["kind"] == "train"]
        assert sorted(attempts) == ["cancelled", "done"]


def test_two_workers_train_what_one_trains(cluster: str, tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        name = f"by_{workers}"
        text = BY_TWO.replace("WORKERS", str(workers))
        process = start(tmp_path, name, text, cluster if workers > 1 else "inline")
        assert process.wait(300) == 0, (tmp_path / f"{name}.log").read_text()
        found.append((weights_of(tmp_path / name), all_rows(tmp_path / name, "training")))
    (one, one_rows), (two, two_rows) = found
    assert one[0] != two[0]  # sums in another order: equal up to rounding only
    for name, value in one[1].items():
        assert torch.allclose(value, two[1][name], atol=1e-4), name
    for column in ("loss", "train_accuracy", "val_accuracy"):
        assert one_rows[column].to_pylist() == pytest.approx(two_rows[column].to_pylist(), abs=2e-3)


@pytest.mark.slow
def test_a_training_that_fails_in_two_workers_says_why(cluster: str, tmp_path: Path) -> None:
    text = BY_TWO.replace("WORKERS", "2").replace("lr: 0.1", "lr: 1e30")
    assert start(tmp_path, "store", text, cluster).wait(300) == 1
    jobs = [j for j in all_rows(tmp_path / "store", "jobs").to_pylist() if j["kind"] == "train"]
    assert [job["status"] for job in jobs] == ["failed"]
    assert "FloatingPointError" in jobs[0]["error"]
    assert "try a smaller lr" in jobs[0]["error"]


def test_more_workers_than_the_machine_has_are_refused(tmp_path: Path) -> None:
    text = BY_TWO.replace("WORKERS", "5000")
    assert start(tmp_path, "store", text, "local").wait(120) == 2
    assert "asks for 5000 workers" in (tmp_path / "store.log").read_text()
