"""VNN-LIB 2.0: several networks, inputs, outputs and hidden nodes, and what relates them.

Verdicts are held against closed forms, and against sampling of the networks themselves.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.instance import Outcome, verify

pytest.importorskip("ortools")
pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper, save

HEAD = "(vnnlib-version <2.0>)\n"


def _file(
    path: Path, nodes: list[Any], ends: tuple[dict[str, list[int]], list[str]], **constants: Any
) -> str:
    kinds = [helper.make_tensor_value_info(n, TensorProto.FLOAT, d) for n, d in ends[0].items()]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ends[1]]
    weights = [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "net", kinds, outputs, weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return str(path)


def _asked(tmp_path: Path, files: Any, text: str, limit: float = 30.0) -> Outcome:
    (tmp_path / "q.vnnlib").write_text(HEAD + text)
    return verify(files, str(tmp_path / "q.vnnlib"), limit)


def _box(name: str, low: float, high: float, *indices: str) -> str:
    return "".join(
        f"(assert (>= {name}[{i}] {low}))(assert (<= {name}[{i}] {high}))" for i in indices
    )


@pytest.fixture
def two_ended(tmp_path: Path) -> str:
    """`a` (1, 2) and `b` (2, 1), a column -> `d` = a - W b, and `s` = relu(d) + 3."""
    nodes = [
        helper.make_node("MatMul", ["w", "b"], ["wb"]),
        helper.make_node("Transpose", ["wb"], ["row"]),
        helper.make_node("Sub", ["a", "row"], ["d"]),
        helper.make_node("Relu", ["d"], ["r"]),
        helper.make_node("Add", ["r", "three"], ["s"]),
    ]
    ends = ({"a": [1, 2], "b": [2, 1]}, ["d", "s"])
    return _file(tmp_path / "two.onnx", nodes, ends, w=[[1, 0], [0, 2]], three=[3.0])


NETWORK = """(declare-network N (declare-input P float32 [1, 2]{})
 (declare-input Q float32 [2, 1]{}) {} (declare-output D float32 [1, 2]{})
 (declare-output S real [1, 2]{}))"""
INSIDE = _box("P", 0, 1, "0,0", "0,1") + _box("Q", 0, 1, "0,0", "1,0")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("(assert (<= D[0,1] -1.99))", "sat"),
        ("(assert (<= D[0,1] -2.01))", "unsat"),
        ("(assert (<= D[0,0] -1.01))", "unsat"),
        ("(assert (>= S[0,0] 3.9))(assert (<= D[0,1] -1.9))", "sat"),
        ("(assert (>= S[0,0] 4.1))", "unsat"),
        ("(assert (>= S[0,0] 3.1))(assert (<= D[0,0] 0))", "unsat"),
        # inputs beside outputs: d = p - q
        ("(assert (>= (+ D[0,0] Q[0,0]) (+ P[0,0] 0.01)))", "unsat"),
        ("(assert (>= (+ D[0,0] Q[0,0] 0.01) P[0,0]))", "sat"),
        ("(assert (=> (<= P[0,0] 0.5) (<= D[0,0] -2)))(assert (<= P[0,0] 0.4))", "unsat"),
        ("(assert (not (or (<= D[0,0] 0.8) (>= Q[0,0] 0.1))))", "sat"),
        # several inputs at once
        ("(assert (<= (+ P[0,0] Q[0,0]) 1))(assert (>= (+ P[0,0] Q[0,0]) 1))"
         "(assert (>= D[0,0] 0.98))", "sat"),
        ("(assert (>= (- Q[0,0] P[0,0]) 0.2))(assert (>= S[0,0] 3.01))", "unsat"),
        ("(assert (!= D[0,0] 0))(assert (== P[0,0] Q[0,0]))(assert (>= D[0,0] 0.01))", "unsat"),
        ("(assert (> P[0,0] 1))(assert (<= D[0,0] 0))", "unsat"),
    ],
)  # fmt: skip
def test_what_relates_inputs_and_outputs(
    two_ended: str, text: str, answer: str, tmp_path: Path
) -> None:
    found = _asked(tmp_path, two_ended, NETWORK.format("", "", "", "", "") + INSIDE + text)
    assert found.answer == answer
    if found.counterexample is not None:
        p, q = np.split(found.counterexample.inputs, 2)
        names = {v.name: values for v, values in found.counterexample.variables}
        assert list(names) == ["P", "Q", "D", "S"]
        np.testing.assert_allclose(names["D"], p - [1, 2] * q, atol=1e-6)
        np.testing.assert_array_equal(names["Q"], q)


def test_variables_are_found_by_name_and_hidden_ones_too(two_ended: str, tmp_path: Path) -> None:
    text = """(declare-network N (declare-input Q float32 [2, 1] "b")
 (declare-input P float32 [1, 2] "a") (declare-hidden H float32 [1, 2] "r")
 (declare-output S float32 [1, 2] "s") (declare-output D float32 [1, 2] "d"))"""
    text += INSIDE
    assert _asked(tmp_path, two_ended, text + "(assert (>= H[0,0] 1.01))").answer == "unsat"
    found = _asked(tmp_path, two_ended, text + "(assert (>= (+ H[0,0] S[0,1]) 4.9))")
    assert found.answer == "sat"
    assert found.counterexample is not None
    lines = found.counterexample.assignment().splitlines()
    assert [line for line in lines if line[0].isalpha()] == [
        "Q float32 [2,1]", "P float32 [1,2]", "H float32 [1,2]", "S float32 [1,2]",
        "D float32 [1,2]",
    ]  # fmt: skip
    values = {v.name: x for v, x in found.counterexample.variables}
    np.testing.assert_allclose(values["S"], values["H"] + 3, atol=1e-6)
    np.testing.assert_allclose(values["H"], np.maximum(values["D"], 0), atol=1e-6)


def _dense(path: Path, weight: Any, bias: Any) -> str:
    """Relu(x @ W + b) summed up."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "c"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("ReduceSum", ["r", "axes"], ["y"], keepdims=1),
    ]
    n = len(weight)
    constants = [numpy_helper.from_array(np.array(v, np.float32), k) for k, v in
                 (("w", weight), ("c", bias))]  # fmt: skip
    constants.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, n])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", given, out, constants)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return str(path)


PAIR = """(declare-network f (declare-input X float32 [1,2]) (declare-output Y float32 [1,1]))
(declare-network g {} (declare-input U float32 [1,2]) (declare-output V float32 [1,1]))"""


def test_a_network_is_monotone(tmp_path: Path) -> None:
    """U >= X in one input, the other one equal; f rises in the first, and falls in the second."""
    file = _dense(tmp_path / "f.onnx", [[1.0, 0.5], [-1.0, -0.25]], [0.5, 0.25])
    text = PAIR.format("(equal-to f)") + _box("X", -1, 1, "0,0", "0,1") + _box("U", -1, 1, "0,0")
    rises = text + "(assert (== U[0,1] X[0,1]))(assert (<= X[0,0] U[0,0]))"
    beyond = "(assert (<= V[0,0] (- Y[0,0] 0.001)))"
    assert _asked(tmp_path, {"f": file}, rises + beyond).answer == "unsat"
    # the bounds of U[0,1] follow from those of X[0,1]
    falls = text + "(assert (== U[0,0] X[0,0]))(assert (<= X[0,1] U[0,1]))"
    falls += "(assert (<= U[0,1] (+ X[0,1] 0.5)))"
    found = _asked(tmp_path, {"f": file}, falls + beyond)
    assert found.answer == "sat"
    assert found.counterexample is not None
    x, u = np.split(found.counterexample.inputs, 2)
    assert x[0] == u[0]
    assert x[1] <= u[1] <= x[1] + 0.5
    y, v = found.counterexample.outputs
    assert v <= y - 0.001


def test_a_student_stays_near_its_teacher(tmp_path: Path) -> None:
    teacher = _dense(tmp_path / "f.onnx", [[1.0, 0.5], [-1.0, 0.25]], [0.5, 0.25])
    student = _dense(tmp_path / "g.onnx", [[1.1], [-0.9]], [0.5])
    text = PAIR.format("") + _box("X", 0, 1, "0,0", "0,1")
    text += "(assert (and (== X[0,0] U[0,0]) (== U[0,1] X[0,1])))"
    points = np.random.default_rng(0).random((20_000, 2))
    f = np.maximum(points @ [[1, 0.5], [-1, 0.25]] + [0.5, 0.25], 0).sum(1)
    g = np.maximum(points @ [[1.1], [-0.9]] + 0.5, 0)[:, 0]
    far = float(np.abs(f - g).max())
    apart = "(assert (or (>= (- Y[0,0] V[0,0]) {0}) (>= (- V[0,0] Y[0,0]) {0})))"
    files = {"f": teacher, "g": student}
    assert _asked(tmp_path, files, text + apart.format(far - 0.02)).answer == "sat"
    assert _asked(tmp_path, files, text + apart.format(far + 0.05)).answer == "unsat"


def test_files_that_do_not_fit_the_networks(tmp_path: Path) -> None:
    one = _dense(tmp_path / "f.onnx", [[1.0, 0.5], [-1.0, 0.25]], [0.5, 0.25])
    wide = _dense(tmp_path / "w.onnx", [[1.0, 0.5, 1], [-1.0, 0.25, 2]], [0.5, 0.25, 0])
    other = _dense(tmp_path / "o.onnx", [[1.0, 0.5], [-1.0, 0.5]], [0.5, 0.25])
    box = _box("X", 0, 1, "0,0", "0,1") + _box("U", 2, 3, "0,0", "0,1")
    text = PAIR + box + "(assert (>= Y[0,0] 100))"
    for declared, files, words in (
        ("", {"f": one}, "file of network 'g' is not given"),
        ("", one, "give the file of each"),
        ("", {"f": one, "g": one, "h": one}, "network 'h' is not in"),
        ("(equal-to f)", {"f": one, "g": other}, "'g' is equal to 'f', and not that file"),
        ("(isomorphic-to f)", {"f": one, "g": wide}, "'g' is not isomorphic to 'f'"),
        ("(equal-to h)", {"f": one}, "'h' is not declared before it"),
    ):
        with pytest.raises(InputError, match=words):
            _asked(tmp_path, files, text.replace("{}", declared))
    for declared, files in (
        ("(equal-to f)", {"f": one}),
        ("(equal-to f)", {"f": one, "g": one}),
        ("(isomorphic-to f)", {"f": one, "g": other}),
    ):
        assert _asked(tmp_path, files, text.replace("{}", declared)).answer == "unsat"


def test_types_must_be_those_of_the_file(two_ended: str, tmp_path: Path) -> None:
    text = NETWORK.format("", "", "", "", "") + INSIDE + "(assert (>= D[0,0] 2))"
    wrong = text.replace("P float32", "P float64")
    with pytest.raises(InputError, match=r"P is of type float64, in .* of float32"):
        _asked(tmp_path, two_ended, wrong)
    with pytest.raises(InputError, match="hidden node H needs its name"):
        _asked(tmp_path, two_ended, NETWORK.format("", "", "(declare-hidden H real [1])", "", ""))
    with pytest.raises(InputError, match="names some ONNX nodes, and others not"):
        _asked(tmp_path, two_ended, NETWORK.format(' "a"', "", "", "", ""))
    hidden = NETWORK.format("", "", '(declare-hidden H real [1] "nowhere")', "", "")
    with pytest.raises(InputError, match="the output needs 'nowhere', which nothing computes"):
        _asked(tmp_path, two_ended, hidden)
