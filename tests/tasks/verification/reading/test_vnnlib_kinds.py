"""VNN-LIB as it is written out there: each form of a number, a constraint, a declaration."""

import gzip
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.properties import margin
from robsweep.tasks.verification.reading.vnnlib.file import Case, read_vnnlib
from tests.tasks.verification.reading.onnx_files import declared

BOX = "".join(f"(assert (>= X_{i} 0))\n(assert (<= X_{i} 1))\n" for i in (0, 1))
HEAD = declared(2, 3) + BOX


def _read(tmp_path: Path, text: str | bytes) -> list[Case]:
    file = tmp_path / "p.vnnlib"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_vnnlib(str(file), 2, 3)


def _one(tmp_path: Path, text: str) -> Case:
    (case,) = _read(tmp_path, HEAD + text)
    return case


def _agrees(case: Case, formula: Any, seed: int = 0) -> None:
    """The region, exactly and as margins, is what a formula of our own says of random points."""
    random = np.random.default_rng(seed)
    points = random.integers(-3, 4, (300, 3)).astype(np.float64)
    for y in points:
        wanted = bool(formula(*y))
        assert case.reached(y.tolist()) == wanted, y
        if wanted:  # the closed region holds the open one
            assert margin(case.unsafe, torch.from_numpy(y)[None]).item() <= 0


@pytest.mark.parametrize(
    "text",
    [
        "\ufeff" + HEAD + "(assert (>= Y_0 2.5))",
        (HEAD + "(assert (>= Y_0 2.5))").replace("\n", "\r\n"),
        (HEAD + "; (assert (<= Y_0 9)) ) \n(assert ; here too (\n(>= Y_0 2.5))").replace(
            "\n", "\r"
        ),
        "(set-logic QF_LRA)\n(set-info :source |a (b|)\n"
        + HEAD
        + "(assert(>= Y_0 2.5))(check-sat)",
        HEAD.replace("declare-const", "declare-fun").replace(" Real", " () Real")
        + "(assert (<= 2.5e0 Y_0))",
        HEAD + "\t(assert\n(\n>=\tY_0\n25E-1)\n)\n\n",
        HEAD
        + "(assert (and (>= Y_0 2.5) true (<= 0 1)))(assert (>= Y_0 2.5))(assert (>= Y_00 +2.5))",
        HEAD + "(assert (not (< Y_0 (/ 5 2))))",
        HEAD + "(assert (>= (- Y_0 2.5) (- 0.0)))(declare-const X_0 Real)",
        HEAD + "(assert (=> (>= Y_0 2.5) false))(assert (>= Y_0 0))",
    ],
    ids=[
        "mark",
        "crlf",
        "cr",
        "commands",
        "functions",
        "spaces",
        "twice",
        "not",
        "minus",
        "implies",
    ],
)
def test_ways_to_write_the_same(text: str, tmp_path: Path) -> None:
    (case,) = _read(tmp_path, text)
    np.testing.assert_array_equal([*case.lower, *case.upper], [0, 0, 1, 1])
    implies = "=>" in text
    for value in (2.0, 2.5, 3.0):
        assert case.reached([value, 0, 0]) == ((value >= 2.5) != implies)


@pytest.mark.parametrize(
    ("text", "formula"),
    [
        ("(<= Y_0 Y_1 Y_2)", lambda a, b, c: a <= b <= c),
        ("(< (+ Y_0 Y_1 1) (* 2 Y_2))", lambda a, b, c: a + b + 1 < 2 * c),
        ("(> (* -1 (- Y_0 Y_1)) (- Y_2))", lambda a, b, c: b - a > -c),
        ("(= Y_0 (+ Y_1 1))", lambda a, b, _: a == b + 1),
        ("(or (and (< Y_0 Y_1) (or (> Y_2 1) (< Y_2 -1))) (and (= Y_0 2) (not (<= Y_1 0))))",
         lambda a, b, c: (a < b and (c > 1 or c < -1)) or (a == 2 and b > 0)),
        ("(and (or (<= Y_0 0) (<= Y_1 0)) (or (>= Y_2 1) (>= Y_1 2)) (not (and (< Y_0 -1))))",
         lambda a, b, c: (a <= 0 or b <= 0) and (c >= 1 or b >= 2) and not a < -1),
        ("(and (<= Y_0 1) (<= Y_0 1) (<= Y_0 2))", lambda a, *_: a <= 1),
        ("(<= (/ Y_0 2) (* Y_1 0.5))", lambda a, b, _: a <= b),
        ("(=> (> Y_0 0) (> Y_1 0))", lambda a, b, _: a <= 0 or b > 0),
    ],
)  # fmt: skip
def test_constraints_mean_what_they_say(text: str, formula: Any, tmp_path: Path) -> None:
    _agrees(_one(tmp_path, f"(assert {text})"), formula)


def test_formulas_at_random_mean_what_they_say(tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def made(depth: int) -> tuple[str, Any]:
        if depth == 0 or random.random() < 0.2:
            i, j, c = (int(n) for n in random.integers(0, 3, 3))
            word = ["<=", "<", ">=", ">"][int(random.integers(4))]
            does = {"<=": np.less_equal, "<": np.less, ">=": np.greater_equal, ">": np.greater}[
                word
            ]
            return f"({word} (+ Y_{i} {c}) (* 2 Y_{j}))", lambda *y: bool(does(y[i] + c, 2 * y[j]))
        word = ["and", "or", "not"][int(random.integers(3))]
        parts = [made(depth - 1) for _ in range(1 if word == "not" else int(random.integers(1, 4)))]
        text = f"({word} {' '.join(part for part, _ in parts)})"
        if word == "not":
            return text, lambda *y: not parts[0][1](*y)
        pick = all if word == "and" else any
        return text, lambda *y: pick(part(*y) for _, part in parts)

    for seed in range(40):
        text, formula = made(3)
        cases = _read(tmp_path, HEAD + f"(assert {text})(assert (<= Y_0 9))")
        for case in cases:
            _agrees(case, formula, seed)


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("2.5e-310", 2.5e-310),
        ("4.9E-324", 5e-324),
        ("1e-400", 5e-324),
        ("-1e-400", -5e-324),
        ("1e308", 1e308),
        ("0.1000000000000000055511151231257827021181583404541015625", 0.1),
        ("0" * 400 + "7", 7.0),
        (".5", 0.5),
        ("3.", 3.0),
        ("-0.0", 0.0),
    ],
)
def test_numbers_of_any_size(number: str, value: float, tmp_path: Path) -> None:
    case = _one(tmp_path, f"(assert (>= Y_0 {number}))")
    assert case.unsafe.bias.item() == value
    assert case.reached([value, 0, 0])
    assert not case.reached([np.nextafter(value, -np.inf), 0, 0])


def test_strict_ends_are_closed_for_proofs_and_open_for_counterexamples(tmp_path: Path) -> None:
    text = "(assert (< X_0 0.5))(assert (> X_1 0.25))(assert (<= X_1 0.75))(assert (< Y_0 Y_1))"
    case = _one(tmp_path, text)
    np.testing.assert_array_equal(case.upper, [0.5, 0.75])
    low, high = case.inner()
    np.testing.assert_array_equal(low, [0, np.nextafter(0.25, 1)])
    np.testing.assert_array_equal(high, [np.nextafter(0.5, 0), 0.75])
    tie = [1.0, 1.0, 0.0]
    assert margin(case.unsafe, torch.tensor([tie])).item() == 0
    assert not case.reached(tie)


def test_ends_are_divided_exactly(tmp_path: Path) -> None:
    case = _one(
        tmp_path, "(assert (<= (* 3 X_0) (+ X_0 1)))(assert (>= (* -7 X_1) -1))(assert (<= Y_0 0))"
    )
    assert case.upper.tolist() == [0.5, float(Fraction(1, 7))]


def test_version_2_in_full(tmp_path: Path) -> None:
    text = "(vnnlib-version <2.0>)\n(declare-network f (declare-input in float64 [2])\n"
    text += " (declare-output out float64 [1,3]))\n(assert (and (<= 0.0 in[0]) (<= in[0] 1.0)"
    text += " (== in[1] 0.5)))\n(assert (or (> out[0, 2] out[0,1]) (<= out[ 0 , 0 ] -1e0)))"
    (case,) = _read(tmp_path, text)
    assert case.lower.tolist() == [0, 0.5]
    _agrees(case, lambda a, b, c: c > b or a <= -1)
    for wrong, words in (
        (text.replace("in[1]", "in[2]"), r"line 4: in\[2\] does not exist"),
        (text.replace("in float64", "in int64"), "line 2: in is of type int64"),
        (text.replace("float64 [1,3]", "float64 [4]"), "line 3: declares 4 outputs.*has 3"),
        (
            text.replace("(declare-output", "(declare-hidden h float64 [1])(declare-output"),
            "line 3",
        ),
        (text + text, "declares network 'f' twice"),
    ):
        with pytest.raises(InputError, match=words):
            _read(tmp_path, wrong)


def test_gzipped(tmp_path: Path) -> None:
    packed = gzip.compress((HEAD + "(assert (>= Y_0 2.5))").encode())
    (tmp_path / "q.vnnlib.gz").write_bytes(packed)
    for name in ("q.vnnlib.gz", "q.vnnlib"):
        (case,) = read_vnnlib(str(tmp_path / name), 2, 3)
        assert case.reached([2.5, 0, 0])
    with pytest.raises(InputError, match="cannot be unpacked"):
        _read(tmp_path, packed[:-20])


WRONG = [
    ("(declare-const X_0 Int)", "line 1: X_0 is of type Int"),
    ("(declare-const X_0 Bool)", "line 1: X_0 is of type Bool"),
    (HEAD + "\n(assert (<= Z_0 1))", "line 11: 'Z_0' is not declared"),
    (HEAD + "(assert\n(<= y_0 1))", "line 11: 'y_0' is not declared"),
    (HEAD + "(assert (<= Y_0 1..2))", "line 10: '1..2' is no number"),
    (HEAD + "(assert (<= Y_0 1e400))", "line 10: a number is beyond"),
    (HEAD + "(assert (<= Y_0 1e99999999999))", "line 10: .* out of range"),
    (HEAD + "(assert (<= Y_0 nan))", "line 10: 'nan' is not declared"),
    (HEAD + "(assert (<= Y_0))", r"line 10: \(<= ...\) cannot be verified"),
    (HEAD + "(assert)", "line 10: assert takes one constraint"),
    (HEAD + "(assert (let ((a 1)) (<= Y_0 a)))", r"line 10: \(let ...\)"),
    (HEAD + "(assert (distinct Y_0 Y_1))", r"line 10: \(distinct ...\)"),
    (HEAD + "(assert (<= (ite (<= Y_0 0) 1 2) 1))", r"line 10: \(ite ...\) is no linear"),
    (HEAD + "(assert (<= (/ 1 Y_0) 1))", "line 10: a quotient"),
    (HEAD + "(define-fun f () Real 1)", r"line 10: syntax error: \(define-fun"),
    (HEAD + "(assert (<= Y_0 1)))", r"line 10: syntax error: a \)"),
    (HEAD + "(assert\n\n(<= Y_0 1)", r"line 10: syntax error: a \( that is never closed"),
    (HEAD + "Y_0", "line 10: syntax error: 'Y_0' in no brackets"),
    (HEAD + '(assert "', "line 10: syntax error"),
    (HEAD + "(assert (or))", "no input satisfies it"),
    (HEAD + "(assert (<= 1 0))", "no input satisfies it"),
    (HEAD + "(assert (< X_0 0))(assert (<= Y_0 0))", r"X_0 >= 0.0 and X_0 < 0.0"),
    (HEAD + "(assert (or (<= X_0 2) (<= Y_0 0)))", "asserts nothing about the outputs"),
    ("(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 0))(assert (<= Y_0 0))",
     "X_0 has no lower or no upper bound"),
    (HEAD + "(assert (and " + " ".join("(or (<= Y_0 0) (<= Y_1 0))" for _ in range(40)) + "))",
     "line 10: more than 10000 cases"),
    (HEAD + "(assert (or (<= Y_0 0) (<= Y_1 0)))" * 40, "more than 10000 cases"),
    ("(" * 300, "line 1: more than 200 nested"),
    (b"\xff\xfe(\x00", "cannot be read"),
    ("", "no lower or no upper|asserts nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as caught:
        _read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    text = HEAD + "(assert (or (and (<= Y_0 -1e-3) (>= Y_1 (* 2 Y_2))) (not (>= Y_2 3))))"
    letters = '()<=>+-*/.0123456789eEXYZ_ \n;|"[]' + "\x00é"
    for _ in range(400):
        changed = list(text)
        for place in random.integers(0, len(changed), int(random.integers(1, 5))):
            changed[place] = random.choice([*letters, "", "(assert "])
        assert "\n" not in _said(tmp_path, "".join(changed))


def _said(tmp_path: Path, text: str) -> str:
    try:
        _read(tmp_path, text)
    except InputError as error:
        return str(error)
    return ""


def test_files_mean_what_another_parser_says(tmp_path: Path) -> None:
    """The `vnnlib` package, which reads version 2."""
    vnnlib = pytest.importorskip("vnnlib")
    text = "(vnnlib-version <2.0>)(declare-network N (declare-input X float64 [2]) "
    text += "(declare-output Y float64 [3]))"
    text += "(assert (and (>= X[0] 0.0) (<= X[0] 1.0) (>= X[1] 0.0) (<= X[1] 1.0)))"
    text += "(assert (or (and (<= Y[0] (+ Y[1] 0.5)) (>= (* 2.0 Y[2]) 1.0)) (> Y[1] Y[2])))"
    (case,) = _read(tmp_path, text)
    conjunctions = vnnlib.parse_query_string(text).assertions[1].expr.to_dnf()
    for y in np.random.default_rng(0).normal(size=(200, 3)):
        holds = any(all(_holds(vnnlib, one, y) for one in some) for some in conjunctions)
        assert case.reached(y.tolist()) == holds


def _holds(vnnlib: Any, comparison: Any, y: np.ndarray) -> bool:
    left, right = (
        side.constant + sum(term.coeff * y[term.var.indices[0]] for term in side.terms)
        for side in (comparison.lhs.to_linear_expr(), comparison.rhs.to_linear_expr())
    )
    match comparison:
        case vnnlib.LessEqual():
            return bool(left <= right)
        case vnnlib.GreaterEqual():
            return bool(left >= right)
        case vnnlib.GreaterThan():
            return bool(left > right)
    raise AssertionError(str(comparison))
