"""`init`: what it writes can be planned for every data set, and run."""

import json
import re

import numpy as np
import pytest

from robsweep.orchestrator.spec.sweep_file import load
from robsweep.tasks.catalogue import DATASETS


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_a_starter_can_be_planned_for(robsweep, dataset):
    code, out, err = robsweep("init", "my.yaml", "--dataset", dataset)
    assert (code, out) == (0, "")
    assert "robsweep plan my.yaml" in err
    code, out, err = robsweep("plan", "my.yaml")
    assert code == 0, err
    kinds = {line.split()[0] for line in out.splitlines()}
    assert {"predict", "attack", "screen"} <= kinds
    spec = load("my.yaml")
    assert (spec.name, spec.dataset.name) == ("my", dataset)
    for attack in spec.attacks.values():
        assert attack.eps is None or max(attack.eps) <= 0.3


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_what_is_commented_out_is_right_too(robsweep, tmp_path, dataset):
    """Each line without its mark gives a file that can be read; models need files of the user."""
    robsweep("init", "--dataset", dataset)
    lines = (tmp_path / "sweep.yaml").read_text().splitlines()
    code = re.compile(r"( *)# ( *\w+: ?($|\{.*))")
    whole = [code.sub(r"\1\2", line) if "my_nets" not in line else line for line in lines]
    whole = [line if "net.onnx" not in line else "" for line in whole]
    assert whole != lines
    (tmp_path / "all.yaml").write_text("\n".join(whole))
    spec = load("all.yaml")
    assert len(spec.attacks) > len(load("sweep.yaml").attacks)
    assert spec.resources


# four models are trained, attacked and verified: 15 s of CPU
def test_a_starter_runs(robsweep, tmp_path):
    assert robsweep("init", "--dataset", "digits", "--name", "first")[0] == 0
    few = ["--set", "samples=20", "--set", "verification.linf.samples=5"]
    few += ["--set", "attacks.closest.samples=5", "--set", "attacks.apgd.steps=5"]
    few += ["--set", "trainings.standard.epochs=2", "--set", "trainings.fgsm.epochs=2"]
    code, out, err = robsweep("run", "sweep.yaml", *few)
    assert code == 0, err
    assert "verified_accuracy" in out
    assert robsweep("status", "first")[0] == 0


def test_a_starter_for_data_of_ones_own(robsweep, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {}
    for split, count in (("train", 60), ("test", 12)):
        arrays[f"{split}_images"] = rng.random((count, 6, 6), np.float32)
        arrays[f"{split}_labels"] = np.arange(count) % 3
    np.savez(tmp_path / "mine.npz", **arrays)
    assert robsweep("init", "--dataset", "npz:mine.npz")[0] == 0
    assert robsweep("plan", "sweep.yaml")[0] == 0
    spec = load("sweep.yaml")
    assert spec.samples == (0, 12)
    assert not spec.calibration  # there is no validation split


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset", "digit"], "did you mean 'digits'?"),
        (["--dataset", "npz:absent.npz"], "absent.npz"),
        (["there.yaml", "--dataset", "digits"], "there.yaml is there already"),
        (["--dataset", "digits", "--name", "a/b"], "letters, digits"),
        (["no/such/folder.yaml", "--dataset", "digits"], "No such file"),
    ],
)
def test_wrong_input_writes_nothing(robsweep, tmp_path, words, message):
    (tmp_path / "there.yaml").write_text("mine")
    code, out, err = robsweep("init", *words)
    assert (code, out) == (2, "")
    assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.yaml"]
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_the_schema_is_printed(robsweep):
    code, out, err = robsweep("schema")
    assert (code, err) == (0, "")
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
