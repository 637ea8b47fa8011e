"""ONNX files on the command line and in sweep files."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.stores import all_rows
from tests.sweeps import plan_of, sweep
from tests.tasks.models.test_onnx_file import skip_file
from tests.tasks.verification.reading.onnx_files import dense_file

pytest.importorskip("ortools")
pytest.importorskip("foolbox")

SWEEP = """\
name: exported
dataset: digits
samples: 50
models:
  mynet: {weights: net.onnx}
attacks:
  pgd: {attack: LinfPGD, eps: [0.05], steps: 3}
"""


def fitted(seed: int = 0) -> nn.Sequential:
    """A net of flat inputs that has learned the digits a little."""
    from robsweep.tasks.data.load import load

    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))
    images, labels = load("digits", "train", "")
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images.flatten(1)), labels).backward()
        optimizer.step()
    return net.requires_grad_(False)


def test_eval_attacks_and_verifies_a_file(robsweep, tmp_path):
    dense_file(Path("net.onnx"), fitted())
    words = ["--eps", "0.05", "--samples", "50", "--verify", "10", "--time-limit", "5"]
    code, out, err = robsweep("eval", "net.onnx", "--dataset", "digits", *words)
    assert code == 0, err
    assert "no --weights" not in err
    assert "verified_accuracy" in out
    attacks = all_rows("results", "attacks").to_pylist()
    assert {row["attack"] for row in attacks} == {"LinfPGD", "LinfFastGradient", "apgd_targeted"}
    broken = [row for row in attacks if row["attack"] == "LinfPGD" and row["success"]]
    assert 5 < len(broken) < 50  # gradients flow, and it is no chance network
    verdicts = {row["verdict"] for row in all_rows("results", "verification").to_pylist()}
    assert {"verified", "falsified"} <= verdicts
    (name,) = {path.name for path in (tmp_path / "results" / "sweeps").iterdir()}
    code, out, err = robsweep("recheck", name, "--sample", "10")
    assert code == 0, out + err


def test_a_sweep_names_a_file(robsweep):
    skip_file(Path("net.onnx"))
    code, out, err = robsweep("run", sweep(SWEEP))
    assert code == 0, err
    assert "mynet" in out
    first = model_id()
    skip_file(Path("net.onnx"), seed=1)
    assert model_id() != first


def model_id() -> str:
    ids = {p.measurement.model.model_id for p in plan_of(SWEEP).measurements.values()}
    return ids.pop()


@pytest.mark.parametrize("command", ["eval", "run"])
@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [(63, 10, "takes inputs of shape (63,), the data set has (1, 8, 8)"), (64, 7, "(2, 7)")],
)
def test_a_file_for_other_data(robsweep, tmp_path, command, inputs, outputs, message):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(inputs, outputs)).requires_grad_(False)
    dense_file(Path("net.onnx"), net)
    words = ["net.onnx", "--dataset", "digits"] if command == "eval" else [sweep(SWEEP)]
    code, out, err = robsweep(command, *words)
    assert (code, out) == (2, ""), err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "results").exists()
