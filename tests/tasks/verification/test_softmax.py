"""Properties of probabilities: verdicts are those of the probabilities as onnxruntime has them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.instance import Outcome, verify
from tests.tasks.verification.reading.onnx_files import declared, write

for library in ("onnx", "ortools"):
    pytest.importorskip(library)
onnxruntime = pytest.importorskip("onnxruntime")

BOX = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in (0, 1))
WEIGHT = np.array([[1.0, -0.5, 0.25], [0.5, 1.0, -1.5]])


def _file(path: Path, scale: float = 1.0, **attributes: Any) -> str:
    from onnx import helper

    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Softmax", ["r"], ["y"], **attributes),
    ]
    return write(path, nodes, {"w": scale * WEIGHT}, [1, 2])


def _asked(tmp_path: Path, text: str, scale: float = 1.0, limit: float = 20.0) -> Outcome:
    file = _file(tmp_path / "net.onnx", scale)
    (tmp_path / "p.vnnlib").write_text(declared(2, 3) + BOX + text)
    return verify(file, str(tmp_path / "p.vnnlib"), limit)


@pytest.fixture(scope="module")
def probabilities(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """At a fine grid, as they run: (N, 3)."""
    file = _file(tmp_path_factory.mktemp("softmax") / "net.onnx")
    session = onnxruntime.InferenceSession(file)
    side = np.linspace(-1, 1, 81, dtype=np.float32)
    points = np.stack(np.meshgrid(side, side), -1).reshape(-1, 1, 2)
    return np.concatenate([session.run(None, {"x": one})[0] for one in points])


@pytest.mark.parametrize(("i", "j"), [(0, 1), (2, 0), (1, 2)])
def test_two_probabilities_compare_as_their_logits(
    i: int, j: int, probabilities: np.ndarray, tmp_path: Path
) -> None:
    reached = bool((probabilities[:, i] > probabilities[:, j] + 1e-6).any())
    assert reached
    assert _asked(tmp_path, f"(assert (>= Y_{i} Y_{j}))").answer == "sat"
    both = f"(assert (>= Y_{i} Y_{j}))(assert (>= X_0 0.9))(assert (<= X_1 -0.9))"
    corner = WEIGHT.T @ [0.95, -0.95]
    outcome = _asked(tmp_path, both)
    logits = np.maximum(corner, 0)
    if abs(logits[i] - logits[j]) > 0.3:
        assert outcome.answer == ("sat" if logits[i] > logits[j] else "unsat")


@pytest.mark.parametrize("j", range(3))
def test_a_probability_against_a_number(j: int, probabilities: np.ndarray, tmp_path: Path) -> None:
    most, least = float(probabilities[:, j].max()), float(probabilities[:, j].min())
    assert _asked(tmp_path, f"(assert (>= Y_{j} {most - 1e-3}))").answer == "sat"
    assert _asked(tmp_path, f"(assert (<= Y_{j} {least + 1e-3}))").answer == "sat"
    # sound, and not exact: the region of logits is larger
    for text in (f"(>= Y_{j} {most + 1e-3})", f"(<= Y_{j} {least - 1e-3})"):
        found = _asked(tmp_path, f"(assert {text})", limit=1.0)
        assert found.answer in ("unsat", "unknown", "timeout")
    assert _asked(tmp_path, f"(assert (>= Y_{j} {(1 + most) / 2 + 0.1}))").answer == "unsat"


def test_probabilities_lie_between_0_and_1(tmp_path: Path) -> None:
    outside = "(assert (or (< Y_0 0) (> Y_0 1) (< Y_2 -0.5) (> Y_1 2)))"
    for scale in (1.0, 1000.0):
        assert _asked(tmp_path, outside, scale).answer == "unsat"


def test_probabilities_that_vanish_in_float32_tie(tmp_path: Path) -> None:
    """Two of them are 0 there, whichever of the two logits is larger."""
    far = "(assert (>= X_0 0.9))(assert (>= X_1 0.5))(assert (>= Y_1 Y_0))(assert (<= X_1 0.51))"
    # logit 0 is above the others by 1000 and more, and 1 above 2
    assert _asked(tmp_path, far.replace("(>= Y_1 Y_0)", "(>= Y_2 Y_1)"), 2000.0).answer != "unsat"


def test_of_many_classes_probabilities_vanish_earlier(tmp_path: Path) -> None:
    """Two below 2^-126, which may be taken for 0: their logits lie within 80 of all others."""
    from onnx import helper

    weight, bias = np.zeros((2, 4000)), np.zeros(4000)
    weight[0, 1] = 0.01
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["h"])]
    nodes.append(helper.make_node("Softmax", ["h"], ["y"]))
    for classes, bias[:2], answer in ((4000, -79.9, "unknown"), (50, -75.0, "unsat")):
        constants = {"w": weight[:, :classes], "b": bias[:classes]}
        file = write(tmp_path / "net.onnx", nodes, constants, [1, 2])
        text = declared(2, classes) + BOX + "(assert (>= X_0 0.5))(assert (>= Y_0 Y_1))"
        (tmp_path / "p.vnnlib").write_text(text)
        found = verify(file, str(tmp_path / "p.vnnlib"), 20.0, stages=frozenset({"crown"}))
        assert found.answer == answer


def test_what_does_not_carry_over_is_refused(tmp_path: Path) -> None:
    for text, words in (
        ("(assert (>= (+ Y_0 Y_1) 0.5))", "two can be compared"),
        ("(assert (>= Y_0 (* 2 Y_1)))", "two can be compared"),
        ("(assert (>= Y_0 X_1))", "with something else"),
    ):
        with pytest.raises(InputError, match=words):
            _asked(tmp_path, text)
