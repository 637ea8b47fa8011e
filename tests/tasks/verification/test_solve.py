import sys

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue import VERIFIERS
from robsweep.tasks.catalogue.values import CHOICES
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs
from robsweep.tasks.verification.optimise import solver
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve, solve_one
from tests.tasks.digit_jobs import MLP, NO_FILES, job_of
from tests.tasks.verification.small_nets import MILP, Skip, convolutional, dense, smallest_margin

pytest.importorskip("ortools")


def _question(net: nn.Module, x: Tensor, eps: float) -> Question:
    return Question(subject_of(net, tuple(x.shape[1:])), x, net(x).argmax(1), Robustness(eps))


METHODS = {
    "all": Method(),
    "intervals": Method(frozenset({"interval", "milp"})),
    "scip": MILP,
    "highs": MILP._replace(solver="highs"),
    "branching": Method(frozenset({"crown", "branching"})),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(6))
def test_verdict_is_that_of_brute_force(seed: int, method: str) -> None:
    net = dense(seed, 2, 4, 3, 3)
    x, eps = torch.rand(1, 2), 0.02 + 0.1 * (seed % 3)
    question = _question(net, x, eps)
    exact = smallest_margin(net, x[0], int(question.label), eps)
    row, found = solve_one(question, METHODS[method], 60.0)
    possible = {"verified" if exact > 0 else "falsified"}
    if method == "branching":  # whose last parts, without any open ReLU, take a linear program
        possible.add("unknown")
    assert row.verdict in possible
    assert row.upper_bound is not None
    if row.decided_by == "attack":
        return
    assert row.lower_bound is not None
    assert row.lower_bound <= exact + 1e-9 <= row.upper_bound + 1e-8
    assert (found is not None) == (row.verdict == "falsified")
    if found is not None:
        assert row.counterexample_check == "ok"
        assert net(found[None]).argmax(1) != question.label


@pytest.mark.parametrize("seed", range(4))
def test_a_residual_network_gets_the_verdict_of_brute_force_on_its_chain(seed: int) -> None:
    chain = dense(seed, 2, 5, 2, 3)
    net = Skip(chain).eval().requires_grad_(False)
    x, eps = torch.rand(1, 2), 0.05 + 0.1 * (seed % 3)
    torch.testing.assert_close(net(x), chain(x))
    question = _question(net, x, eps)
    exact = smallest_margin(chain, x[0], int(question.label), eps)
    row, _ = solve_one(question, MILP, 60.0)
    assert row.verdict == ("verified" if exact > 0 else "falsified")
    assert row.lower_bound is not None
    assert row.lower_bound <= exact + 1e-9


def test_curves_are_proved_by_bounds_or_left_open() -> None:
    net, shape = convolutional("curved")
    x = torch.full((1, *shape), 0.5)
    close = solve_one(_question(net, x, 1e-4), MILP, 60.0)[0]
    assert (close.verdict, close.decided_by) == ("verified", "crown")
    wide = _question(net, x, 0.5)
    proved = solve_one(wide, MILP, 60.0)[0].lower_bound
    assert proved is not None
    # between what bounds can prove and what is true: 0.65 is the least of many points
    asked = wide._replace(asked=Robustness(0.5, margin=(proved + 0.65) / 2))
    far = solve_one(asked, MILP, 60.0)[0]
    assert (far.verdict, far.decided_by) == ("unknown", None)


class _Spike(nn.Module):
    """The first of two classes wins but within 1e-3 of one point: narrower than gradients see."""

    def __init__(self) -> None:
        super().__init__()
        self.kink, self.out = nn.Linear(1, 3), nn.Linear(3, 2)
        with torch.no_grad():
            self.kink.weight[:] = 1000.0
            self.kink.bias[:] = torch.tensor([-699.0, -700.0, -701.0])
            self.out.weight[:] = torch.tensor([[0.0, 0.0, 0.0], [1.0, -2.0, 1.0]])
            self.out.bias[:] = torch.tensor([0.5, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.relu(self.kink(x)))
        return out


def test_a_planted_narrow_counterexample_is_found() -> None:
    net = _Spike().eval().requires_grad_(False)
    x = torch.tensor([[0.5]])
    row, found = solve_one(_question(net, x, 0.3), MILP, 60.0)
    assert (row.verdict, row.decided_by) == ("falsified", "milp")
    assert found is not None
    assert abs(found.item() - 0.7) < 1e-3
    row, found = solve_one(_question(net, x, 0.19), MILP, 60.0)
    assert row.verdict == "verified"


def _hard() -> Question:
    """One that bounds alone leave open."""
    net = _Spike().eval().requires_grad_(False)
    return _question(net, torch.tensor([[0.5]]), 0.3)


def _replace_child(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    monkeypatch.setattr(solver, "COMMAND", ("-c", program))


def test_a_child_that_is_killed_gives_an_error_row(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_child(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    row, found = solve_one(_hard(), MILP, 60.0)
    assert row.verdict == "error"
    assert "exit code -9" in str(row.solver_status)
    assert row.lower_bound is not None
    assert row.lower_bound <= 0
    assert found is None


def test_a_child_that_fails_leaves_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_child(monkeypatch, "raise SystemExit('Unrecognized scip status: 27')")
    row, _ = solve_one(_hard(), MILP, None)
    assert row.verdict == "error"
    assert "Unrecognized scip status: 27" in str(row.solver_status)


def test_a_child_that_hangs_is_killed_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    _replace_child(monkeypatch, "import time; time.sleep(600)")
    row, _ = solve_one(_hard(), MILP, 0.5)
    assert row.verdict == "timeout"
    assert row.lower_bound is not None
    assert row.seconds is not None
    assert row.seconds < 10


def test_a_tiny_time_limit_is_a_timeout() -> None:
    row, _ = solve_one(_hard(), MILP, 1e-9)
    assert row.verdict == "timeout"
    assert row.lower_bound is not None


def test_a_point_that_the_network_does_not_confirm_decides_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = {"status": "feasible", "limit": "solution", "nodes": 1, "seconds": 0, "pixels": [0.5]}
    _replace_child(monkeypatch, f"import json; print(json.dumps({answer!r}))")
    row, found = solve_one(_hard(), MILP, 60.0)
    assert row.verdict == "unknown"
    assert row.boundary
    assert row.counterexample_check == "float64 margin > 0"
    assert found is None


@pytest.mark.parametrize(
    ("status", "limit", "pixels", "expected"),
    [
        ("infeasible", "unspecified", None, "proof"),
        ("infeasible_or_unbounded", "unspecified", None, "open"),
        ("no_solution_found", "time", None, "timeout"),
        ("no_solution_found", "memory", None, "open"),
        ("numerical_error", "unspecified", None, "open"),
        ("imprecise", "unspecified", None, "open"),
        ("optimal", "unspecified", [0.0], "candidate"),
        ("feasible", "solution", [0.0], "candidate"),
        ("infeasible", "unspecified", [0.0], "candidate"),
    ],
)
def test_only_infeasible_is_a_proof(
    status: str, limit: str, pixels: list[float] | None, expected: str
) -> None:
    assert solver.meaning(solver.Answer(0, status, limit, 0, 0.0, pixels)) == expected


def test_the_catalogue_knows_the_solvers() -> None:
    assert CHOICES["solver"] == tuple(solver.SOLVERS)


def test_solvers_that_are_unknown_or_missing_are_wrong_input(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match=r"cp_sat.*scip, highs"):
        solver.solver_named("cp_sat")
    monkeypatch.setattr(solver.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[verification\]'"):
        solver.solver_named("scip")


def test_the_job_writes_a_row_and_its_counterexample(weights: Inputs) -> None:
    from safetensors.torch import load

    params = {
        "verifier": "milp",
        "property": "untargeted",
        "norm": "linf",
        "eps": 0.3,
        "parameters": VERIFIERS["milp"].solve_parameters,
    }
    output = solve(job_of("solve", params, 5, 7, model=MLP, setting=NO_FILES), weights)
    rows = output.tables["verification"].to_pylist()
    assert [row["sample"] for row in rows] == [5, 6]
    for row in rows:
        assert row["verdict"] == "falsified"
        assert (row["eps"], row["norm"], row["property"]) == (0.3, "linf", "untargeted")
    (content,) = output.artifacts.values()
    assert list(output.artifacts) == ["counterexamples/solve-0-5-7.safetensors"]
    assert load(content)["5"].shape == (1, 8, 8)
    assert "torch" not in _modules_of_the_child()


def _modules_of_the_child() -> set[str]:
    import subprocess

    code = "import sys, robsweep.tasks.verification.optimise.solver_process; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())
