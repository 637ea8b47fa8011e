"""A user's files may be called as parts of robsweep are called: in a checkout and as a wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.stores import all_rows

ROOT = Path(__file__).parents[2]
SWEEP = """\
name: mine
dataset: digits
samples: 50
models:
  mlp: {hidden: [8]}
trainings:
  standard: {epochs: 1}
attacks:
  mine: {attack: "tasks:my_attack", norm: linf, eps: 0.1}
"""
ATTACK = """\
import orchestrator

def my_attack(model, images, labels, eps):
    return images + orchestrator.SIGN * eps
"""
RAISES = "raise RuntimeError('not to be imported')\n"


def called(folder, *words, path=(), program=("-m", "robsweep")):
    """Exit code and output of a command, in a process of its own in a folder."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, path)),
        "ROBSWEEP_ADDRESS": "inline",
    }
    done = subprocess.run(
        [sys.executable, *program, *map(str, words)],
        cwd=folder, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "sweep"
    folder.mkdir()
    (folder / "sweep.yaml").write_text(SWEEP)
    (folder / "tasks.py").write_text(ATTACK)
    (folder / "orchestrator.py").write_text("SIGN = 1\n")
    (folder / "dashboards.py").write_text(RAISES)
    return folder


# Each takes seconds: programs that load torch and run a sweep.
def test_files_named_as_our_houses(folder):
    code, out = called(folder, "run", "sweep.yaml", path=[ROOT])
    assert code == 0, out
    rows = all_rows(folder / "results", "attacks").to_pylist()
    assert {(row["attack"], row["check"]) for row in rows} == {("tasks:my_attack", "ok")}


def test_files_that_raise_beside_the_sweep_and_on_the_path(folder, tmp_path):
    own = SWEEP.replace('"tasks:my_attack", norm: linf', "LinfFastGradient")
    (folder / "sweep.yaml").write_text(own)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("tasks", "orchestrator", "dashboards"):
        for place in (folder, elsewhere):
            (place / f"{name}.py").write_text(RAISES)
    for verb in ("plan", "run"):
        code, out = called(folder, verb, "sweep.yaml", path=[elsewhere, ROOT])
        assert code == 0, out


def test_a_robsweep_of_ones_own_is_never_ours(folder):
    (folder / "robsweep.py").write_text(RAISES)
    main = ("-c", "from robsweep.orchestrator.cli.main import main; main()")  # as the program does
    code, out = called(folder, "plan", "sweep.yaml", path=[ROOT], program=("-P", *main))
    assert code == 0, out
    (folder / "sweep.yaml").write_text(SWEEP.replace("tasks:", "robsweep:"))
    code, out = called(folder, "plan", "sweep.yaml", path=[ROOT], program=("-P", *main))
    assert code == 2
    assert "give your own another name" in out
    code, out = called(folder, "plan", "sweep.yaml", path=[ROOT])
    assert code == 1  # Python runs the file that lies there, and nothing of ours
    assert "not to be imported" in out


def test_a_wheel_holds_one_package_and_runs(folder, tmp_path):
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"  # a build leaves folders where it builds
    for name in ("robsweep", "orchestrator", "tasks", "dashboards"):
        source.mkdir(exist_ok=True)
        subprocess.run(["cp", "-R", ROOT / name, source / name], check=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([sys.executable, *command, "-w", tmp_path, source], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("robsweep-*.whl")
    place = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    top = {path.name for path in place.iterdir() if not path.name.endswith(".dist-info")}
    assert top == {"robsweep"}
    for words in (("list", "attacks"), ("plan", "sweep.yaml"), ("run", "sweep.yaml")):
        code, out = called(folder, *words, path=[place])
        assert code == 0, out
    code, out = called(
        folder, path=[place], program=("-c", "import robsweep.tasks as t; print(t.__file__)")
    )
    assert out.strip().startswith(str(place))
