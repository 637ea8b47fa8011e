"""`plan` and `run` with values set on the command line, and runs that run nothing."""

import pytest

from robsweep.orchestrator.store.store import Store
from tests.stores import all_rows
from tests.sweeps import TINY, sweep


def test_a_dry_run_is_a_plan_and_writes_nothing(robsweep, tmp_path):
    sweep()
    before = sorted(tmp_path.rglob("*"))
    planned = robsweep("plan", "sweep.yaml")
    assert planned[0] == 0
    assert robsweep("run", "sweep.yaml", "--dry-run", "--address", "127.0.0.1:1") == planned
    assert sorted(tmp_path.rglob("*")) == before


def test_a_dry_run_shows_only_what_would_run(robsweep):
    sweep()
    code, out, _ = robsweep("run", "sweep.yaml", "--dry-run", "--only", "attack")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == ["train", "attack"]
    code, _, err = robsweep("run", "sweep.yaml", "--dry-run", "--only", "atack")
    assert code == 2
    assert "did you mean 'attack'" in err


def test_what_is_set_is_what_ran(robsweep, tmp_path):
    sweep()
    sets = ["--set", "attacks.pgd.eps=[0.2]", "--set", "name=other", "--set", "verification="]
    code, _, err = robsweep("run", "sweep.yaml", *sets)
    assert code == 0, err
    assert set(all_rows("results", "attacks")["eps"].to_pylist()) == {0.2}
    text = Store.open("results").files.read("sweeps/other/spec.yaml").decode()
    assert "--set attacks.pgd.eps=[0.2]" in text
    jobs = all_rows(tmp_path / "results", "jobs").num_rows
    code, _, err = robsweep("retry", "other")  # nothing is missing of what ran
    assert code == 0, err
    assert all_rows(tmp_path / "results", "jobs").num_rows == jobs
    out = robsweep("show", "other", "--table", "attacks", "--format", "csv")[1]
    assert "0.2" in out
    assert "0.05" not in out


@pytest.mark.parametrize("command", ["plan", "run"])
def test_what_cannot_be_set_ends_before_anything_is_written(robsweep, tmp_path, command):
    code, out, err = robsweep(command, sweep(), "--set", "attacks.pgd.epss=1")
    assert (code, out) == (2, "")
    assert err.startswith("robsweep: --set attacks.pgd.epss=1: attacks.pgd.epss: unknown key")
    assert not (tmp_path / "results").exists()


def test_the_file_is_left_alone(robsweep, tmp_path):
    sweep()
    robsweep("plan", "sweep.yaml", "--set", "seeds=[9]")
    assert (tmp_path / "sweep.yaml").read_text() == TINY
