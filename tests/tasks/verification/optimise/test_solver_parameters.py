import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.optimise.solver import checked_parameters, solver_named
from robsweep.tasks.verification.optimise.tightening import Effort
from robsweep.tasks.verification.solve import solve_one
from tests.tasks.verification.optimise.test_tightening import _question
from tests.tasks.verification.small_nets import MILP, dense

pytest.importorskip("ortools")

_TAKEN = {
    "scip": {
        "separating/maxrounds": 5,
        "limits/nodes": 10**10,
        "separating/minefficacy": 1,
        "numerics/feastol": 1e-7,
        "constraints/linear/aggregatevariables": False,
        "nodeselection/childsel": "p",
        "visual/vbcfilename": "-",
    },
    "highs": {
        "mip_feasibility_tolerance": 1e-7,
        "mip_rel_gap": 0,
        "mip_max_nodes": 10,
        "mip_detect_symmetry": False,
        "presolve": "off",
    },
}
_REFUSED = [
    ("scip", "separating/maxroundz", 5, "it has no such parameter"),
    ("scip", "separating/maxrounds", 0.5, "of another type"),
    ("scip", "numerics/feastol", -1.0, "the value is not allowed"),
    ("highs", "mip_feasability_tolerance", 1e-7, "option name was unknown"),
    ("highs", "mip_feasibility_tolerance", -1.0, "option value not valid"),
]


@pytest.mark.parametrize("name", _TAKEN)
def test_parameters_of_every_type_are_taken(name: str) -> None:
    found = checked_parameters(name, _TAKEN[name])
    assert dict(found) == _TAKEN[name]


@pytest.mark.parametrize(("name", "parameter", "value", "why"), _REFUSED)
def test_what_the_solver_refuses_is_wrong_input(
    name: str, parameter: str, value: float, why: str
) -> None:
    with pytest.raises(InputError, match=rf"{name} refuses {parameter} = {value}: .*{why}"):
        checked_parameters(name, {parameter: value})


@pytest.mark.parametrize("parameter", ["limits/primal", "limits/dual", "limits/time"])
def test_limits_that_would_harm_are_refused(parameter: str) -> None:
    with pytest.raises(InputError, match=parameter):
        checked_parameters("scip", {parameter: 1.0})


def _hard(parameters: dict[str, object]) -> tuple[str, str]:
    net = dense(2, 2, 5, 4, 3)
    effort = Effort("none", tuple(parameters.items()))  # type: ignore[arg-type]
    row, _ = solve_one(
        _question(net, torch.rand(1, 2), 0.3), MILP._replace(tightening=effort), 60.0
    )
    assert row.decided_by in (None, "milp")
    return row.verdict, str(row.solver_status)


def test_parameters_reach_the_solver() -> None:
    assert _hard({})[0] in ("verified", "falsified")
    assert _hard({"limits/nodes": 0})[0] == "unknown"


def test_a_parameter_refused_in_a_solve_is_an_error_with_the_solvers_words() -> None:
    verdict, status = _hard({"separating/maxroundz": 5})
    assert verdict == "error"
    assert "separating/maxroundz = 5: it has no such parameter" in status


def test_gurobi_is_available_or_said_to_be_missing_before_any_solve() -> None:
    try:
        assert solver_named("gurobi") == "gurobi"
    except InputError as error:
        assert "solver gurobi is not available here" in str(error)  # noqa: PT017 (both may be)
