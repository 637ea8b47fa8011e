import csv
from pathlib import Path

import pytest
import torch

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.instance import Outcome, verify
from tests.tasks.verification.reading.onnx_files import ball_file, declared, dense_file, write
from tests.tasks.verification.small_nets import dense, smallest_margin

for library in ("onnx", "vnnlib", "ortools"):
    pytest.importorskip(library)


@pytest.mark.parametrize("seed", range(6))
def test_the_answer_is_that_of_brute_force(seed: int, tmp_path: Path) -> None:
    net = dense(seed, 2, 4, 3, 3)
    x, eps = torch.rand(1, 2), 0.05 + 0.1 * (seed % 3)
    label = int(net(x).argmax())
    exact = smallest_margin(net, x[0], label, eps)
    onnx = dense_file(tmp_path / "net.onnx", net)
    vnnlib = ball_file(tmp_path / "p.vnnlib", x, eps, label, 3)
    outcome = verify(onnx, vnnlib, 60.0)
    assert outcome.answer == ("unsat" if exact > 0 else "sat")
    if outcome.counterexample is not None:
        inputs = torch.from_numpy(outcome.counterexample.inputs)
        logits = net.double()(inputs[None])[0]
        assert logits[label] <= logits[[c for c in range(3) if c != label]].max()


SPIKE = (
    [("Gemm", ["x", "w", "b"], ["h"]), ("Relu", ["h"], ["r"]), ("Gemm", ["r", "v", "c"], ["y"])],
    {
        "w": [[1000.0, 1000.0, 1000.0]],
        "b": [-699.0, -700.0, -701.0],
        "v": [[0.0, 1.0], [0.0, -2.0], [0.0, 1.0]],
        "c": [0.5, 0.0],
    },
)


def _spike(tmp_path: Path, text: str, stages: frozenset[str] = frozenset(STAGES)) -> Outcome:
    """Output 1 is above output 0 within 1e-3 of input 0.7 only."""
    from onnx import helper

    nodes = [helper.make_node(*node) for node in SPIKE[0]]
    onnx = write(tmp_path / "spike.onnx", nodes, SPIKE[1], [1, 1])
    (tmp_path / "p.vnnlib").write_text(declared(1, 2) + text)
    return verify(onnx, str(tmp_path / "p.vnnlib"), 60.0, stages=stages)


def test_a_planted_narrow_counterexample_is_found_and_written(tmp_path: Path) -> None:
    box = "(assert (>= X_0 0.2))(assert (<= X_0 {}))(assert (>= Y_1 Y_0))"
    assert _spike(tmp_path, box.format(0.8)).answer == "sat"
    outcome = _spike(tmp_path, box.format(0.8), frozenset(STAGES) - {"attack"})
    assert (outcome.answer, outcome.decided_by) == ("sat", "milp")
    assert outcome.counterexample is not None
    words = outcome.counterexample.text().replace("(", " ").replace(")", " ").split()
    assert words[::2] == ["X_0", "Y_0", "Y_1"]
    x, first, second = map(float, words[1::2])
    assert abs(x - 0.7) < 1e-3
    assert second >= first
    assert _spike(tmp_path, box.format(0.69)).answer == "unsat"


def test_one_case_of_several_is_enough(tmp_path: Path) -> None:
    case = "(and (>= X_0 {}) (<= X_0 {}) (>= Y_1 Y_0))"
    cases = [case.format(*ends) for ends in ((0.1, 0.4), (0.65, 0.75), (0.8, 0.9))]
    assert _spike(tmp_path, f"(assert (or {' '.join(cases)}))").answer == "sat"
    del cases[1]
    assert _spike(tmp_path, f"(assert (or {' '.join(cases)}))").answer == "unsat"


def test_a_tie_is_unsafe(tmp_path: Path) -> None:
    box = "(assert (>= X_0 0))(assert (<= X_0 0.5))"
    assert _spike(tmp_path, box + "(assert (<= Y_0 0.5))").answer == "sat"
    assert _spike(tmp_path, box + "(assert (<= Y_0 0.499))").answer == "unsat"


def test_strict_inequalities_are_satisfied_as_they_are_written(tmp_path: Path) -> None:
    from onnx import helper

    onnx = write(tmp_path / "net.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, [1, 1])
    box = declared(1, 1) + "(assert (>= X_0 -1))(assert ({} X_0 0.5))(assert ({} Y_0 {}))"
    answers = {}
    for words in (
        ("<=", ">=", 0.5),
        ("<", ">=", 0.5),
        ("<", ">", 0.499),
        ("<=", "<", 0),
        ("<=", "<=", 0),
    ):
        (tmp_path / "p.vnnlib").write_text(box.format(*words))
        outcome = verify(onnx, str(tmp_path / "p.vnnlib"), 30.0)
        answers[words] = outcome.answer
        if outcome.counterexample is not None and words[0] == "<":
            assert outcome.counterexample.inputs[0] < 0.5
    # what only the closed region holds is neither reached nor excluded
    assert list(answers.values()) == ["sat", "unknown", "sat", "unknown", "sat"]


def test_what_runs_in_float64_is_answered_in_float64(tmp_path: Path) -> None:
    import onnx as library
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.DOUBLE, [1, 1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "net", ends[:1], ends[1:])
    library.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]),
                 str(tmp_path / "net.onnx"))  # fmt: skip
    # between two float32 numbers
    box = "(assert (>= X_0 1.00000003))(assert (<= X_0 1.00000004))(assert (>= Y_0 1.00000002))"
    (tmp_path / "p.vnnlib").write_text(declared(1, 1) + box)
    outcome = verify(str(tmp_path / "net.onnx"), str(tmp_path / "p.vnnlib"), 30.0)
    assert outcome.answer == "sat"
    assert outcome.counterexample is not None
    assert 1.00000003 <= outcome.counterexample.inputs[0] <= 1.00000004
    assert outcome.counterexample.outputs[0] == outcome.counterexample.inputs[0]


def test_curves_are_unsat_sat_or_unknown(tmp_path: Path) -> None:
    """The largest output is 0.5, at 0."""
    from onnx import helper

    nodes = [
        helper.make_node("Tanh", ["x"], ["t"]),
        helper.make_node("Mul", ["t", "t2"], ["u"]),
        helper.make_node("Sigmoid", ["u"], ["s"]),
        helper.make_node("Sub", ["s", "t"], ["y"]),
    ]
    onnx = write(tmp_path / "net.onnx", nodes, {"t2": [4.0]}, [1, 1])
    for least, answers in (
        (1.5, {"unsat"}),
        (0.501, {"unsat"}),
        (0.5000001, {"unknown", "timeout"}),
        (0.4, {"sat"}),
    ):
        text = "(assert (>= X_0 0))(assert (<= X_0 1))" + f"(assert (>= Y_0 {least}))"
        (tmp_path / "p.vnnlib").write_text(declared(1, 1) + text)
        limit = 2.0 if "timeout" in answers else 30.0
        assert verify(onnx, str(tmp_path / "p.vnnlib"), limit).answer in answers


def test_a_time_limit_must_be_above_0_and_a_solver_known() -> None:
    with pytest.raises(InputError, match="time limit 0"):
        verify("absent.onnx", "absent.vnnlib", 0)
    with pytest.raises(InputError, match=r"cp_sat.*scip, highs"):
        verify("absent.onnx", "absent.vnnlib", 1, "cp_sat")


def test_no_time_is_a_timeout(tmp_path: Path) -> None:
    net = dense(0, 2, 4, 3, 3)
    onnx = dense_file(tmp_path / "net.onnx", net)
    vnnlib = ball_file(tmp_path / "p.vnnlib", torch.tensor([[0.2, 0.9]]), 0.01, 0, 3)
    assert verify(onnx, vnnlib, 1e-9).answer in ("timeout", "sat")


@pytest.mark.slow
@pytest.mark.data
def test_published_instances(vnncomp_dir: Path) -> None:
    with (vnncomp_dir / "instances.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 17
    for row in rows:
        files = [str(vnncomp_dir / row[key]) for key in ("onnx", "vnnlib")]
        outcome = verify(*files, float(row["timeout_seconds"]))
        assert outcome.answer == row["expected"], row
