from pathlib import Path

import numpy as np
import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.properties import margin
from robsweep.tasks.verification.reading.vnnlib.file import read_vnnlib
from tests.tasks.verification.reading.onnx_files import ball_file, declared

pytest.importorskip("vnnlib")

BOX = "(assert (>= X_0 -1))(assert (<= X_0 1.5e0))(assert (<= .25 X_1))(assert (<= X_1 +5E-1))\n"


def _read(tmp_path: Path, text: str) -> list:  # type: ignore[type-arg]
    file = tmp_path / "p.vnnlib"
    file.write_text(text)
    return read_vnnlib(str(file), 2, 3)


def _unsafe(case, *outputs: float) -> bool:  # type: ignore[no-untyped-def]
    return margin(case.unsafe, torch.tensor([outputs])).item() <= 0


def test_a_box_and_a_conjunction(tmp_path: Path) -> None:
    text = declared(2, 3) + BOX + "(assert (<= Y_0 Y_1)) ; a comment\n(assert (>= (+ Y_1 Y_2) 2))"
    (case,) = _read(tmp_path, text)
    np.testing.assert_array_equal(case.lower, [-1, 0.25])
    np.testing.assert_array_equal(case.upper, [1.5, 0.5])
    assert _unsafe(case, 0, 1, 1)
    assert _unsafe(case, 1, 1, 1)
    assert not _unsafe(case, 0, 1, 0.5)
    assert not _unsafe(case, 2, 1, 1)


def test_an_or_of_ands(tmp_path: Path) -> None:
    either = (
        "(assert (or (and (<= Y_0 -1) (>= Y_1 (* 2 Y_2))) (>= Y_2 3) (and (= Y_0 5) (<= Y_2 0))))"
    )
    (case,) = _read(tmp_path, declared(2, 3) + BOX + either)
    assert case.unsafe.bias.shape == (1, 3, 3)
    for outputs, unsafe in (
        ((-1, 2, 1), True),
        ((-1, 1, 1), False),
        ((9, 0, 3), True),
        ((5, 0, 0), True),
        ((5.1, 0, 0), False),
    ):
        assert _unsafe(case, *outputs) == unsafe


def test_boxes_inside_an_or_are_cases_of_their_own(tmp_path: Path) -> None:
    text = declared(2, 3) + "(assert (>= X_1 0))(assert (<= X_1 1))(assert (or "
    text += "(and (>= X_0 0) (<= X_0 1) (>= Y_0 1)) (and (>= X_0 2) (<= X_0 3) (>= Y_1 1)) "
    text += "(and (>= X_0 0) (<= X_0 1) (>= Y_2 1)) (and (>= X_0 9) (<= X_0 8) (>= Y_2 0))))"
    first, second = _read(tmp_path, text)
    assert (first.upper[0], second.upper[0]) == (1, 3)
    assert _unsafe(first, 0, 0, 1)
    assert not _unsafe(first, 0, 1, 0)
    assert _unsafe(second, 0, 1, 0)


def test_version_2(tmp_path: Path) -> None:
    text = "(vnnlib-version <2.0>)(declare-network N (declare-input A float32 [1, 2]) "
    text += "(declare-output B float32 [3]))(assert (or (and (>= A[0, 0] 0.0) (<= A[0, 0] 1.0) "
    text += "(>= A[0, 1] 0.5) (<= A[0, 1] 0.5) (> B[1] B[0]))))"
    (case,) = _read(tmp_path, text)
    np.testing.assert_array_equal(case.lower, [0, 0.5])
    assert _unsafe(case, 0, 1, 5)


def test_ball_files_keep_every_digit(tmp_path: Path) -> None:
    x = torch.rand(2)
    file = ball_file(tmp_path / "ball.vnnlib", x, 1e-5, 0, 3)
    (case,) = read_vnnlib(file, 2, 3)
    np.testing.assert_array_equal(case.upper, x.double().numpy() + 1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (declared(2, 4) + BOX + "(assert (<= Y_3 0))", "Y_3 does not exist.*3 outputs"),
        (declared(3, 3) + BOX + "(assert (<= X_2 0))", "X_2 does not exist.*2 inputs"),
        (declared(2, 2) + BOX + "(assert (<= Y_2 0))", "Y_2 is not declared"),
        (declared(2, 3) + BOX + "(assert (<= X_0 -2))(assert (<= Y_0 0))", "X_0 >= -1.* <= -2"),
        (declared(2, 3) + "(assert (<= X_0 1))(assert (<= Y_0 0))", "X_0 has no lower"),
        (declared(2, 3) + BOX, "nothing about the outputs"),
        (declared(2, 3) + BOX + "(assert (<= X_0 Y_0))", "inputs beside outputs"),
        (declared(2, 3) + BOX + "(assert (<= X_0 X_1))(assert (<= Y_0 0))", "several inputs"),
        (declared(2, 3) + BOX + "(assert (<= (* Y_0 Y_1) 0))", "linear"),
        (declared(2, 3) + BOX + "(assert (xor (<= Y_0 0)))", "cannot be verified"),
        (declared(2, 3) + BOX + "(assert (<= Y_0 0)", "syntax error"),
        ("(declare-const Z Real)", "declares 'Z'"),
    ],
)
def test_wrong_properties_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _read(tmp_path, text)
