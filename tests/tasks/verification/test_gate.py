"""The gate: of what has a counterexample, nothing may be proved, whoever does not find it.

Every `sat` instance at hand is asked about with the attack and the search for counterexamples
switched off, so that only proofs are left to be had. One is a wrong proof.
"""

import csv
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification import instance
from robsweep.tasks.verification.cascade import Cascade
from robsweep.tasks.verification.optimise.solver import Deadline
from robsweep.tasks.verification.problem import Method, Problem
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.onnx.model import load
from robsweep.tasks.verification.search.counterexamples import Checked, subject_of
from tests.tasks.verification.reading.onnx_files import ball_file, declared, dense_file, write
from tests.tasks.verification.small_nets import dense

for library in ("onnx", "ortools"):
    pytest.importorskip(library)

_PROOFS = frozenset(STAGES) - {"attack"}


@pytest.fixture(autouse=True)
def _nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: object, point: Tensor) -> tuple[Tensor, Checked]:
        return point[0], Checked("not looked at", 1.0, False)

    monkeypatch.setattr(instance, "_confirmed", none)


def _proved(onnx: str, vnnlib: str, limit: float) -> bool:
    answer = instance.verify(onnx, vnnlib, limit, stages=_PROOFS).answer
    assert answer != "sat"
    return answer == "unsat"


def test_the_gate_lets_proofs_through(tmp_path: Path) -> None:
    net = dense(0, 2, 4, 3)
    file = dense_file(tmp_path / "net.onnx", net)
    x = torch.rand(1, 2)
    ball = ball_file(tmp_path / "p.vnnlib", x, 1e-5, int(net(x).argmax()), 3)
    assert _proved(file, ball, 30.0)


# A few seconds each, for a solver's process to begin.
@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_balls_that_hold_a_counterexample(seed: int, tmp_path: Path) -> None:
    """As narrow as a search can find them: the ball just reaches the point that it found."""
    net = dense(seed, 3, 6, 4, 3)
    torch.manual_seed(seed)
    x = torch.rand(1, 3)
    label = int(net(x).argmax())
    points = torch.rand(200_000, 3)
    logits = net.double()(points.double())
    wrong = points[logits.argmax(1) != label]
    eps = float((wrong - x).abs().amax(1).min()) + 1e-6
    file = dense_file(tmp_path / "net.onnx", net.float())
    assert not _proved(file, ball_file(tmp_path / "p.vnnlib", x, eps, label, 3), 4.0)


OPERATORS = ["LeakyRelu", "Abs", "Clip", "Sign", "Tanh", "Floor", "HardSigmoid", "Max", "Softmax"]


@pytest.mark.parametrize("kind", OPERATORS)
def test_planted_outputs_of_random_operators(kind: str, tmp_path: Path) -> None:
    """An output that is reached, at a point that is not told, is never proved to be unreachable."""
    from onnx import helper

    random = np.random.default_rng([*kind.encode()])
    net: list[object] = [helper.make_node("Gemm", ["x", "w", "b"], ["h"])]
    inputs = ["h", "c"] if kind == "Max" else ["h"]
    attributes = {"alpha": 0.1} if kind == "LeakyRelu" else {}
    if kind == "Clip":
        inputs = ["h", "low", "high"]
    last = "g" if kind == "Softmax" else "y"
    middle = "a" if kind != "Softmax" else "h"
    if kind != "Softmax":
        net.append(helper.make_node(kind, inputs, ["a"], **attributes))
    net.append(helper.make_node("Gemm", [middle, "v", "d"], [last]))
    if kind == "Softmax":
        net.append(helper.make_node("Softmax", ["g"], ["y"]))
    constants = {
        "w": random.normal(size=(2, 5)),
        "b": random.normal(size=5),
        "v": random.normal(size=(5, 2)),
        "d": random.normal(size=2),
        "c": random.normal(size=5),
        "low": np.array(-0.4),
        "high": np.array(0.5),
    }
    used = {name for node in net for name in node.input}  # type: ignore[attr-defined]
    file = write(
        tmp_path / "net.onnx", net, {k: v for k, v in constants.items() if k in used}, [1, 2]
    )
    system_file = tmp_path / "p.vnnlib"
    box = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(2))
    run = load(file).deployed
    points = random.uniform(-1, 1, (400, 2)).astype(np.float32)
    outputs = np.array([run(one) for one in points], dtype=np.float64)
    for j in (0, 1):
        top = float(outputs[:, j].max())
        system_file.write_text(declared(2, 2) + box + f"(assert (>= Y_{j} {top!r}))")
        assert not _proved(file, str(system_file), 2.0)
    best = int((outputs[:, 0] - outputs[:, 1]).argmax())
    if kind == "Softmax":
        text = "(assert (>= Y_0 Y_1))"
    else:
        gap = float(outputs[best, 0] - outputs[best, 1])
        text = f"(assert (>= (- Y_0 Y_1) {gap - 1e-9!r}))"
    if outputs[best, 0] >= outputs[best, 1] or kind != "Softmax":
        system_file.write_text(declared(2, 2) + box + text)
        assert not _proved(file, str(system_file), 2.0)


@pytest.mark.slow
@pytest.mark.data
def test_published_counterexamples(vnncomp_dir: Path) -> None:
    """Of every list at hand. Minutes: 10 seconds for each of them, of its own."""
    wrong, asked = [], 0
    for file in sorted(vnncomp_dir.rglob("instances.csv")):
        with file.open() as stream:
            rows = [row for row in csv.DictReader(stream) if row.get("expected") == "sat"]
        for row in rows:
            asked += 1
            if _proved(*(str(file.parent / row[key]) for key in ("onnx", "vnnlib")), 10.0):
                wrong.append((file, row))
    assert not wrong
    assert asked


def test_a_module_without_its_attack_is_not_verified_where_it_fails() -> None:
    """In sweeps too: a plain ball that holds a counterexample."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 5), nn.LeakyReLU(0.2), nn.Linear(5, 5), nn.Tanh(),
                        nn.Linear(5, 2)).eval().requires_grad_(False)  # fmt: skip
    x, points = torch.tensor([[0.5, 0.5]]), torch.rand(50_000, 2)
    label = int(net(x).argmax())

    def margins(some: Tensor) -> Tensor:
        logits = net(some)
        return logits[:, label] - logits[:, 1 - label]

    # half of what the margin falls by in the cube is what the label wins by
    net[-1].bias[1 - label] += (margins(x)[0] + margins(points).min()) / 2
    assert margins(x) > 0
    wrong = points[margins(points) < 0]
    eps = float((wrong - x).abs().amax(1).min()) + 1e-6
    subject = subject_of(net, (2,))
    posed = Robustness(eps).of(x, torch.tensor([label]), 2)
    problem = Problem(subject.network, posed.box, posed.unsafe)
    method = Method(_PROOFS)

    def none(point: Tensor) -> tuple[Tensor, Checked]:
        return point[0], Checked("not looked at", 1.0, False)

    row, found = Cascade(problem, method, Deadline(time.monotonic(), 5.0), none).run(x)
    assert found is None
    assert row.verdict != "verified"
