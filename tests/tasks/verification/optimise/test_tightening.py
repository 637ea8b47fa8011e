import json
import time

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds as Limits
from scipy.optimize import LinearConstraint, milp
from torch import Tensor, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import crown, unstable_relus
from robsweep.tasks.verification.optimise import solver, tightening
from robsweep.tasks.verification.optimise.milp import encode
from robsweep.tasks.verification.optimise.solver import Deadline
from robsweep.tasks.verification.optimise.tightening import Effort, effort_of, tightened
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.torch.module import read
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from tests.tasks.verification.small_nets import (
    MILP,
    ball,
    convolutional,
    dense,
    points_in,
    smallest_margin,
)

pytest.importorskip("ortools")
EPS = 0.3


def _tightened(network: Network, bounds: list[Bounds], method: str) -> list[Bounds]:
    deadline = Deadline(time.monotonic(), 60.0)
    return tightened(network, bounds, "gscip", Effort(method), deadline)


def _deep(seed: int) -> tuple[Network, Tensor, list[Bounds]]:
    """A network of three hidden layers, an image, and CROWN's bounds around it."""
    network = read(dense(seed, 3, 10, 10, 6, 3), (3,))
    x = torch.rand(1, 3)
    return network, x, crown(network, ball(x, EPS))


def _width(bounds: list[Bounds]) -> float:
    return sum(float((upper - lower).sum()) for lower, upper in bounds)


def _nested(inner: list[Bounds], outer: list[Bounds]) -> bool:
    return all(
        bool((a.lower >= b.lower).all() and (a.upper <= b.upper).all())
        for a, b in zip(inner, outer, strict=True)
    )


def _exact_ranges(network: Network, bounds: list[Bounds], value: int) -> np.ndarray:
    """Smallest and largest value of each unit, by one exact program each: (2, units)."""
    prefix = Network(network.layers[:value], network.shapes[: value + 1], network.inputs[:value])
    program = encode(prefix, bounds[: value + 1])
    rows = LinearConstraint(program.rows, program.row_lower, program.row_upper)
    limits = Limits(program.lower, program.upper)
    ends = [
        [
            sign
            * milp(sign * cost, integrality=program.integer, bounds=limits, constraints=rows).fun
            for cost in program.logits.toarray()
        ]
        for sign in (1, -1)
    ]
    return np.array(ends) + program.offset


@pytest.mark.parametrize("seed", range(4))
def test_bounds_are_nested_and_hold_the_exact_range(seed: int) -> None:
    network, x, before = _deep(seed)
    by_lp, by_mip = (_tightened(network, before, method) for method in ("lp", "mip"))
    assert _nested(by_lp, before)
    assert _nested(by_mip, by_lp)
    assert _width(by_lp) <= _width(before)
    assert seed == 1 or _width(by_lp) < _width(before)  # CROWN is as tight there
    assert unstable_relus(network, by_mip) <= unstable_relus(network, by_lp)
    assert unstable_relus(network, by_lp) <= unstable_relus(network, before)
    for value in (1, 3, 5):
        lower, upper = _exact_ranges(network, before, value)
        for found in (by_lp[value], by_mip[value]):
            assert (found.lower[0].numpy() <= lower + 1e-6).all()
            assert (found.upper[0].numpy() >= upper - 1e-6).all()
    for points in points_in(x, EPS, 50):
        for found, inside in zip(by_mip, evaluate(network, points), strict=True):
            assert ((found.lower <= inside) & (inside <= found.upper)).all()


@pytest.mark.parametrize("seed", [4, 5])
def test_mip_leaves_no_unit_undecided_that_is_decided(seed: int) -> None:
    network, _, before = _deep(seed)
    by_lp, by_mip = (_tightened(network, before, method) for method in ("lp", "mip"))
    assert unstable_relus(network, by_mip) < unstable_relus(network, by_lp)
    for value in (3, 5):
        lower, upper = _exact_ranges(network, before, value)
        stable = torch.from_numpy((lower > 1e-4) | (upper < -1e-4))
        undecided = (by_mip[value].lower < 0) & (by_mip[value].upper > 0)
        assert not undecided[0, stable].any()


@pytest.mark.parametrize("name", ["functional", "pooled", "averaged", "residual", "rearranged"])
def test_values_of_images_stay_inside(name: str) -> None:
    module, shape = convolutional(name)
    network = read(module, shape)
    x, eps = torch.rand(1, *shape), 0.3
    before = crown(network, ball(x, eps))
    after = _tightened(network, before, "mip")
    assert _nested(after, before)
    if name in ("pooled", "residual", "rearranged"):  # on the others CROWN is as tight
        assert _width(after) < _width(before)
    for points in points_in(x, eps, 100):
        for found, inside in zip(after, evaluate(network, points), strict=True):
            assert ((found.lower <= inside) & (inside <= found.upper)).all()


def test_curves_are_left_alone() -> None:
    module, shape = convolutional("curved")
    network = read(module, shape)
    before = crown(network, ball(torch.rand(1, *shape), 0.1))
    assert _tightened(network, before, "mip") == before


def _question(net: nn.Module, x: Tensor, eps: float) -> Question:
    return Question(subject_of(net, tuple(x.shape[1:])), x, net(x).argmax(1), Robustness(eps))


@pytest.mark.parametrize("method", ["lp", "mip"])
@pytest.mark.parametrize("seed", range(4))
def test_verdict_is_that_of_brute_force(seed: int, method: str) -> None:
    net = dense(seed, 2, 4, 3, 3)
    x, eps = torch.rand(1, 2), 0.02 + 0.1 * (seed % 3)
    question = _question(net, x, eps)
    exact = smallest_margin(net, x[0], int(question.label), eps)
    row, _ = solve_one(question, MILP._replace(tightening=Effort(method)), 60.0)
    assert row.verdict == ("verified" if exact > 0 else "falsified")
    assert row.lower_bound is not None
    assert row.lower_bound <= exact + 1e-9


_GARBAGE = """
import numpy as np
from robsweep.tasks.verification.optimise import lp_process
generator = np.random.default_rng(0)
lp_process._Glop.duals = lambda self, cost: {duals}
lp_process.main()
"""


@pytest.mark.parametrize(
    "duals",
    [
        "generator.normal(size=self.rows)",
        "np.full(self.rows, np.nan)",
        "np.ones(self.rows) * 1e200",
    ],
)
def test_any_duals_leave_the_bounds_sound(duals: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tightening, "LP_COMMAND", ("-c", _GARBAGE.format(duals=duals)))
    network, x, before = _deep(1)
    after = _tightened(network, before, "lp")
    assert _nested(after, before)
    for points in points_in(x, EPS, 100):
        for found, inside in zip(after, evaluate(network, points), strict=True):
            assert ((found.lower <= inside) & (inside <= found.upper)).all()


@pytest.mark.parametrize(
    "program",
    ["import os; os.kill(os.getpid(), 9)", "print('[0.', end='')", "import time; time.sleep(600)"],
)
def test_a_child_that_fails_leaves_the_verdict_to_the_milp(
    program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = dense(2, 2, 5, 4, 3)
    x, eps = torch.rand(1, 2), 0.3
    question = _question(net, x, eps)
    exact = smallest_margin(net, x[0], int(question.label), eps)
    monkeypatch.setattr(tightening, "LP_COMMAND", ("-c", program))
    row, _ = solve_one(question, MILP._replace(tightening=Effort("lp")), 6.0)
    assert row.decided_by == "milp"
    assert row.verdict == ("verified" if exact > 0 else "falsified")


def test_bounds_found_before_the_child_died_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network, _, before = _deep(5)
    whole = _tightened(network, before, "lp")
    program = (
        "from robsweep.tasks.verification.optimise import lp_process as p\n"
        "real = p._Glop.duals; n = []\n"
        "def some(self, cost):\n"
        "    n.append(1)\n"
        "    if len(n) > 2: raise SystemExit('no more')\n"
        "    return real(self, cost)\n"
        "p._Glop.duals = some\n"
        "p.main()"
    )
    monkeypatch.setattr(tightening, "LP_COMMAND", ("-c", program))
    part = _tightened(network, before, "lp")
    assert _width(whole) < _width(part) < _width(before)


def test_a_deadline_that_has_passed_changes_nothing() -> None:
    network, _, before = _deep(0)
    over = Deadline(time.monotonic() - 5, 1.0)
    assert tightened(network, before, "gscip", Effort("mip"), over) == before


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "infeasible", "pixels": [0.5, 0.5, 0.5]},
        {"status": "infeasible_or_unbounded", "pixels": None},
        {"status": "optimal", "pixels": [0.5, 0.5, 0.5]},
        {"status": "no_solution_found", "pixels": None},
    ],
)
def test_only_a_proof_decides_a_unit(
    answer: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, _, before = _deep(0)
    by_lp = _tightened(network, before, "lp")
    line = json.dumps({**answer, "limit": "unspecified", "nodes": 0, "seconds": 0})
    monkeypatch.setattr(solver, "COMMAND", ("-c", f"print({line!r} + chr(10), end='')\n" * 40))
    for found, expected in zip(_tightened(network, before, "mip"), by_lp, strict=True):
        assert torch.equal(found.lower, expected.lower)
        assert torch.equal(found.upper, expected.upper)


def test_parameters_of_a_verifier_become_an_effort() -> None:
    given = {"solver": "scip", "tightening": "lp", "solver_parameters": {"limits/nodes": 9}}
    assert effort_of(given) == Effort("lp", (("limits/nodes", 9),))
    with pytest.raises(InputError, match="unknown tightening 'best'; known are none, lp, mip"):
        effort_of({**given, "tightening": "best"})
