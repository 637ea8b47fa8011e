"""Counterexamples that are there and hard to find: whatever is switched off, none is proved away.

A short draw of them runs always; all of them are 280 narrow ones and 160 operators.
"""

import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification import instance
from robsweep.tasks.verification.cascade import Cascade
from robsweep.tasks.verification.mipverify import Recipe, solve_one
from robsweep.tasks.verification.optimise.solver import Deadline
from robsweep.tasks.verification.problem import Method, Problem
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.search.counterexamples import Checked, subject_of
from robsweep.tasks.verification.solve import Question
from tests.tasks.verification.deciding import margin_at
from tests.tasks.verification.reading.onnx_configurations import KINDS as OPERATORS
from tests.tasks.verification.reading.onnx_files import declared
from tests.tasks.verification.reading.onnx_setups import saved
from tests.tasks.verification.test_planted import EPS, KINDS, PIXELS, Planted, planted

for library in ("onnx", "ortools"):
    pytest.importorskip(library)

_PROOFS = frozenset(STAGES) - {"attack"}
_LIMIT = 1.5  # seconds; a proof that is wrong comes at once or not at all
_NARROW, _OPERATORS = 280, 160


def _narrow(seed: int) -> Planted:
    """A corner, or a slab of 0.2 to 20 thousandths of the ball's diagonal, anywhere in it."""
    random = np.random.default_rng(seed)
    full = PIXELS * EPS
    if seed % 2:
        return planted(KINDS[seed // 2 % 4], seed, full - float(random.uniform(0.005, 0.1)))
    width = float(10 ** random.uniform(-3.5, -1.5))
    at = float(random.uniform(0.2, 0.95)) * (full - width)
    return planted(KINDS[seed // 2 % 4], seed, at, width)


def _nowhere(point: Tensor) -> tuple[Tensor, Checked]:
    return point[0], Checked("not looked at", 1.0, False)


@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(4, _NARROW), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_narrow_counterexamples(seeds: range) -> None:
    """By proofs alone, and by the recipe of one MILP. Seconds, as a solver has to begin."""
    wrong = []
    shares = torch.linspace(0, 1, 20_001).reshape(-1, 1, 1, 1)
    for seed in seeds:
        net = _narrow(seed)
        assert margin_at(net, net.image + EPS * shares * net.sign, 0).min() < 0  # it is there
        subject, label = subject_of(net, (1, 4, 4)), torch.tensor([0])
        asked = Robustness(EPS)
        posed = asked.of(net.image[None], label, 2)
        problem = Problem(subject.network, posed.box, posed.unsafe)
        deadline = Deadline(time.monotonic(), _LIMIT)
        row, _ = Cascade(problem, Method(_PROOFS), deadline, _nowhere).run(posed.region.start)
        other, _ = solve_one(Recipe(), Question(subject, net.image[None], label, asked), 20.0)
        if "verified" in (row.verdict, other.verdict):
            wrong.append((seed, row, other))
    assert not wrong


@cache
def _session(file: str) -> object:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(file, options)


@pytest.mark.parametrize(
    "seeds", [range(4), pytest.param(range(4, 400), marks=pytest.mark.slow)], ids=["few", "all"]
)
def test_outputs_that_onnxruntime_reaches(
    seeds: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highest of 200 points' outputs, of random operators, is not proved to be out of reach.

    Seconds, as what is not proved takes its time.
    """
    monkeypatch.setattr(instance, "_confirmed", lambda _, point: _nowhere(point))
    asked, wrong = 0, []
    for seed in seeds:
        if asked == (len(seeds) if len(seeds) < 10 else _OPERATORS):
            break
        kind = [*OPERATORS][seed % len(OPERATORS)]
        random = np.random.default_rng([seed, *kind.encode()])
        made = OPERATORS[kind](random)
        file = saved(tmp_path / f"net{seed}.onnx", made, np.float32)
        points = [random.uniform(-1, 1, made.dims).astype(np.float32) for _ in range(200)]
        try:
            session = _session(file)
            outputs = np.array([session.run(None, {"x": x})[0].ravel() for x in points])  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001  # of its own types: it does not run this file
            continue
        if not outputs.size or not np.isfinite(outputs).all():
            continue
        y = int(random.integers(outputs.shape[1]))
        size = int(np.prod(made.dims))
        box = "".join(f"(assert (>= X_{i} -1))(assert (<= X_{i} 1))" for i in range(size))
        reached = f"(assert (>= Y_{y} {float(outputs[:, y].astype(np.float64).max())!r}))"
        question = tmp_path / f"p{seed}.vnnlib"
        question.write_text(declared(size, outputs.shape[1]) + box + reached)
        try:
            answer = instance.verify(file, str(question), _LIMIT, stages=_PROOFS).answer
        except InputError:  # refused
            continue
        asked += 1
        if answer == "unsat":
            wrong.append((seed, kind, made))
    assert not wrong
    assert asked == _OPERATORS if len(seeds) > _OPERATORS else asked > 0
