"""`explain --run`: jobs of any kind, also after edits of the code that they ran."""

import sys

import pytest

from tests.stores import all_rows
from tests.sweeps import TINY, sweep

RAISES = "def attack(model, images, labels, eps):\n    raise ArithmeticError({why!r})\n"
WORKS = "def attack(model, images, labels, eps):\n    return images + eps / 2\n"
OWN = TINY.replace("attack: LinfPGD,", 'attack: "mine:attack", norm: linf,')
OWN = OWN.replace(", steps: 2", "").split("ood:")[0]


def jobs(kind):
    found = [row for row in all_rows("results", "jobs").to_pylist() if row["kind"] == kind]
    return [f"{row['measurement_id']}:{row['start']}-{row['stop']}" for row in found]


@pytest.fixture
def mine(tmp_path):
    def write(code):
        sys.modules.pop("mine", None)  # as in a process of its own
        (tmp_path / "mine.py").write_text(code)

    yield write
    sys.modules.pop("mine", None)


def test_preflights_run_again(robsweep):
    assert robsweep("run", sweep(TINY.split("ood:")[0]))[0] == 0
    for job in jobs("preflight"):
        code, out, err = robsweep("explain", job, "--run")
        assert (code, err) == (0, "")
        assert out == f"{job} works here: no rows\n"


def test_after_an_edit_the_new_code_runs_and_that_is_said(robsweep, mine):
    mine(RAISES.format(why="no luck"))
    assert robsweep("run", sweep(OWN))[0] == 1
    (job,) = {*jobs("attack")}
    mine(RAISES.format(why="still none"))
    with pytest.raises(ArithmeticError, match="still none"):
        robsweep("explain", job, "--run")
    mine(WORKS)
    code, out, err = robsweep("explain", job, "--run")
    assert code == 0
    assert "have changed since" in err
    assert f"{job} works here" in out
    assert "have changed since" in out
    assert robsweep("run", "sweep.yaml")[0] == 0  # now the plan that is recorded has another id
    code, out, err = robsweep("explain", job, "--run")
    assert code == 0
    assert "have changed since" in out


def test_model_and_attack_of_one_file_keep_the_weights(robsweep, mine):
    model = (
        "from torch import nn\n"
        "def net(shape, classes): return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))\n"
    )
    text = """\
name: own
dataset: digits
samples: 50
models: {mine: {arch: "mine:net"}}
trainings: {standard: {epochs: 1}}
attacks: {own: {attack: "mine:attack", norm: linf, eps: 0.05}}
"""
    mine(model + RAISES.format(why="no luck"))
    assert robsweep("run", sweep(text))[0] == 1
    (job,) = {*jobs("attack")}
    mine(model + WORKS)
    code, out, err = robsweep("explain", job, "--run")
    assert code == 0, err
    assert "with the recorded weights of train-" in err
    assert f"{job} works here" in out


def test_what_the_sweep_no_longer_asks_for_is_said(robsweep, mine):
    mine(RAISES.format(why="no luck"))
    robsweep("run", sweep(OWN))
    (job,) = {*jobs("attack")}
    assert robsweep("run", sweep(TINY.split("ood:")[0]))[0] == 0
    code, _, err = robsweep("explain", job, "--run")
    assert code == 2
    assert "asks for something else now" in err


def test_of_several_it_guesses_none(robsweep, mine):
    mine(RAISES.format(why="no luck"))
    robsweep("run", sweep(OWN))
    (job,) = {*jobs("attack")}
    mine(WORKS)
    line = next(line for line in OWN.splitlines() if "mine:attack" in line)
    two = OWN.replace(line, f"{line}\n{line.replace('pgd', 'again').replace('0.05', '0.04')}")
    assert robsweep("run", sweep(two))[0] == 0
    code, _, err = robsweep("explain", job, "--run")
    assert code == 2
    assert "mlp/pgd, mlp/again" in err
