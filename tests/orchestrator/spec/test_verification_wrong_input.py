"""Wrong input of verifications: one message, exit code 2, before anything is solved or written."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.sweeps import plan_of, sweep
from tests.tasks.verification.reading.onnx_files import declared, dense_file, write

pytest.importorskip("ortools")

SWEEP = """\
name: proofs
dataset: digits
models:
  plain: {hidden: [16], arch: mlp}
  mine: {arch: "mine:net"}
trainings:
  standard: {epochs: 1}
verification:
  linf: {verifier: milp, eps: 0.02, samples: 10, time_limit_seconds: 5}
"""
NETS = """\
import torch
from torch import nn

class Softsign(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return nn.functional.softsign(self.fc(x.flatten(1)))

def net(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Softshrink())

def called(shape, classes):
    return Softsign()
"""


@pytest.fixture(autouse=True)
def _never_solves(monkeypatch):
    """Any job but a preflight fails the test."""
    from robsweep.tasks import jobs

    def fail(job, inputs):
        pytest.fail(f"{job.name} was run")

    kinds = {kind: run if kind == "preflight" else fail for kind, run in jobs.JOBS.items()}
    monkeypatch.setattr(jobs, "JOBS", kinds)


def refused(robsweep, *words):
    code, out, err = robsweep(*words)
    assert (code, out) == (2, ""), err
    assert "Traceback" not in err
    assert not list(Path().rglob("store.json"))
    return err


@pytest.mark.parametrize(("name", "operator"), [("net", "Softshrink"), ("called", "softsign")])
def test_a_model_with_an_unknown_operator_is_named_before_it_is_trained(robsweep, name, operator):
    Path("mine.py").write_text(NETS)
    err = refused(robsweep, "run", sweep(SWEEP.replace("mine:net", f"mine:{name}")))
    assert "model 'mine' is to be verified and cannot be" in err
    assert operator in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("verification", "read"),
    [
        ("eps: 0.02, exclude: [mine]", {"plain"}),
        ("eps: 0.02, only: [plain]", {"plain"}),
        ("eps: 0.02, only: [mine/standard]", {"mine"}),
        ("eps: 0.02, exclude: [mine/other]", {"plain", "mine"}),
        ("eps: [0.01, 0.02], only: [other]", {"plain", "mine"}),
    ],
)
def test_a_model_is_read_if_some_training_of_it_is_verified(tmp_path, verification, read):
    (tmp_path / "mine.py").write_text(NETS)
    text = SWEEP.replace("eps: 0.02", verification).replace(
        "standard: {epochs: 1}", "standard: {epochs: 1}\n  other: {training: noise, std: 0.1}"
    )
    asked = {
        p.model for p in plan_of(text, tmp_path).preflights if p.measurement.params.get("engines")
    }
    assert asked == read


def test_imported_weights_that_are_not_finite(robsweep):
    torch.manual_seed(0)
    net = nn.Linear(64, 10)
    with torch.no_grad():
        net.weight[3, 5] = torch.nan
    save_file({"fc1.weight": net.weight, "fc1.bias": net.bias}, "net.safetensors")
    text = SWEEP.replace(
        """  mine: {arch: "mine:net"}""",
        """  mine: {arch: mlp, hidden: [], weights: net.safetensors}""",
    )
    err = refused(robsweep, "run", sweep(text))
    assert "net.safetensors" in err
    assert "'fc1.weight' is not finite" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("time_limit_seconds: 0", "time_limit_seconds"),
        ("time_limit_seconds: -1", "time_limit_seconds"),
        ("solver: hihgs", "did you mean 'highs'"),
        ("solver: 3", "expected a str"),
        ("verifier: marabou", "unknown verifier 'marabou'"),
        ("eps: 8", "pixels are 0 to 1"),
        ("eps: 1.001", "pixels are 0 to 1"),
        ("eps: .nan", "finite"),
        ("eps: -0.1", "must not be negative"),
        ("norm: l0", "verifies linf, l2, l1, not l0"),
        ("property: targeted", "property"),
        ("samples: 501", "501"),
        ("question: nearest", "'feasible', 'worst' or 'closest'"),
        ("question: closest", "leave out `eps:`"),
        ("curve: [0.1, 0.2]", "leave out `eps:`"),
        ("curve: [0.2, 0.1]", "0.1 comes after 0.2"),
        ("curve: [0.1, 0.1]", "0.1 comes after 0.1"),
        ("curve: 0.1", "two radii or more"),
        ("curve: [0.1, 8]", "pixels are 0 to 1"),
    ],
)
def test_wrong_entries_name_file_and_line(robsweep, given, message):
    key = given.split(":")[0]
    text = SWEEP.splitlines()
    body = {"verifier": "milp", "eps": "0.02", "samples": "10", "time_limit_seconds": "5"}
    body[key] = given.split(": ")[1]
    text[-1] = "  linf: {" + ", ".join(f"{k}: {v}" for k, v in body.items()) + "}"
    err = refused(robsweep, "run", sweep("\n".join(text)))
    assert err.startswith("robsweep: sweep.yaml:9")
    assert message in err
    assert err.count("\n") == 1


def test_an_attack_beyond_the_pixels_is_refused(robsweep):
    attack = "attacks:\n  pgd: {attack: LinfPGD, eps: [0.1, 8]}\n"
    assert "pixels are 0 to 1" in refused(robsweep, "run", sweep(SWEEP + attack))


def net_of(*widths):
    torch.manual_seed(0)
    layers = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


BOX = "(assert (>= X_0 0.1))(assert (<= X_0 0.2))(assert (>= X_1 0.1))(assert (<= X_1 0.2))"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOX + "(assert (>= Y_3 Y_0))", "Y_3 does not exist, the network has 3 outputs"),
        (BOX + "(assert (>= X_2 0.5))(assert (>= Y_1 Y_0))", "X_2 does not exist"),
        (BOX, "asserts nothing about the outputs"),
        ("(assert (>= X_0 0.1))(assert (>= Y_1 Y_0))", "no lower or no upper bound"),
        (BOX + "(assert (>= Y_1 Y_0)", ""),
        (BOX + "(assert (>= (* Y_1 Y_0) 1.0))", ""),
        ("", ""),
    ],
)
def test_properties_that_make_no_sense(robsweep, text, message):
    dense_file(Path("net.onnx"), net_of(2, 4, 3))
    Path("p.vnnlib").write_text(declared(2, 3) + text)
    err = refused(robsweep, "verify", "net.onnx", "p.vnnlib")
    assert message in err
    assert "p.vnnlib" in err
    assert err.count("\n") == 1


def test_networks_that_cannot_be_verified(robsweep):
    from onnx import helper

    Path("p.vnnlib").write_text(declared(2, 2) + BOX + "(assert (>= Y_1 Y_0))")
    operator = helper.make_node("Softsign", ["x"], ["y"], name="bend")
    write(Path("net.onnx"), [operator], {}, [1, 2])
    assert "operator Softsign (bend)" in refused(robsweep, "verify", "net.onnx", "p.vnnlib")
    gemm = helper.make_node("Gemm", ["x", "w", "b"], ["y"])
    weights = {"w": np.array([[1.0, np.nan], [0.0, 1.0]]), "b": [0.0, 0.0]}
    write(Path("net.onnx"), [gemm], weights, [1, 2])
    assert "weights 'w' are not finite" in refused(robsweep, "verify", "net.onnx", "p.vnnlib")
    Path("net.onnx").write_bytes(b"")
    assert "net.onnx" in refused(robsweep, "verify", "net.onnx", "p.vnnlib")


@pytest.mark.parametrize("limit", ["0", "-3"])
def test_time_limits_that_are_none(robsweep, limit):
    dense_file(Path("net.onnx"), net_of(2, 4, 3))
    Path("p.vnnlib").write_text(declared(2, 3) + BOX + "(assert (>= Y_1 Y_0))")
    err = refused(robsweep, "verify", "net.onnx", "p.vnnlib", "--time-limit", limit)
    assert "time limit" in err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("question: closest, norm: l0", "question closest of milp verifies linf, l1, l2, not l0"),
        ("question: closest, norm: l2, solver: highs", "highs minimises no l2 distance"),
        ("verifier: mipverify, eps: 0.1, norm: l2", "mipverify verifies linf, l1, not l2"),
        ("verifier: mipverify, question: worst, eps: 0.1", "mipverify answers no worst"),
        ("eps: 0.5, norm: l2, cross_check: 0.1", "leave out `cross_check:`"),
        ("region: cube, certificates: true", "leave out `certificates:`"),
        ("question: closest, margin: 0.1", "leave out `margin:`"),
        ("question: worst", "needs 'eps'"),
        ("question: worst, eps: 0.1, margin: 0.1", "leave out `margin:`"),
        ("question: worst, eps: 0.1, norm: l1", "question worst of milp verifies linf, not l1"),
        ("question: worst, curve: [0.1, 0.2]", "leave out `question: worst`"),
        ("curve: [0.1, 0.2], norm: l2", "question curve of milp verifies linf, not l2"),
    ],
)
def test_questions_that_ask_for_what_is_not_there(robsweep, given, message):
    text = SWEEP.replace("verifier: milp, ", "") if given.startswith("verifier") else SWEEP
    err = refused(robsweep, "run", sweep(text.replace("eps: 0.02", given)))
    assert err.startswith("robsweep: sweep.yaml:9")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("question", ["question: closest", "question: worst, eps: 0.02"])
def test_exactness_of_a_network_with_bounds_only_is_refused_before_it_is_trained(
    robsweep, question
):
    text = SWEEP.replace("""{arch: "mine:net"}""", "{arch: mlp, hidden: [8], activation: gelu}")
    err = refused(robsweep, "run", sweep(text.replace("eps: 0.02", question)))
    assert "model 'mine' has bounds only (gelu)" in err
    assert "leave `milp` out" in err
    bounds = question + ", stages: [attack, crown, branching]"
    preflights = plan_of(text.replace("eps: 0.02", bounds)).preflights
    assert not any(p.measurement.params.get("exact") for p in preflights)
