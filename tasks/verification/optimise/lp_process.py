"""Bounds linear forms over a linear program, in a process of its own: GLOP, certified by duals.

`python -m tasks.verification.lp_process` reads a problem as `solver_process` does and writes one
line for each form: [lower, upper]. The program is built once; only its cost changes.
"""

import json
import time
from typing import Any, Protocol

import numpy as np
from scipy import sparse

from robsweep.tasks.verification.optimise.duals import Array, Program, certified_lower
from robsweep.tasks.verification.optimise.solver_process import (
    answering,
    limit,
    model,
    problems,
)


def main() -> None:
    answers = answering()
    for problem in problems():
        bounded = Bounded(problem, _Glop(problem))
        for i in range(bounded.forms.shape[0]):
            ends = [bounded.least(i), -bounded.least(i, -1.0)]
            print(json.dumps(ends), file=answers, flush=True)


class Duals(Protocol):
    def duals(self, cost: Array) -> Array:
        """Of minimising cost @ v; zeros where the solver gives none."""


class Bounded:
    """A linear program, the forms that are bounded over it, and a solver of it."""

    def __init__(self, problem: dict[str, Any], solver: Duals) -> None:
        variables, constraints = len(problem["lower"]), len(problem["row_lower"])
        entries = problem["value"], (problem["row"], problem["column"])
        rows = sparse.csr_array(entries, shape=(constraints, variables))
        lower, upper = problem["lower"], problem["upper"]
        self.program = Program(lower, upper, rows, problem["row_lower"], problem["row_upper"])
        entries = problem["form_value"], (problem["form_row"], problem["form_column"])
        self.forms = sparse.csr_array(entries, shape=(int(problem["forms"]), variables))
        self.solver = solver

    def least(self, i: int, sign: float = 1.0) -> float:
        """A lower bound on a form, or on its negative."""
        form = sign * self.forms[[i]].toarray()[0]
        return certified_lower(self.program, form, self.solver.duals(form))


class _Glop:
    """One linear program, solved for one cost after the other."""

    def __init__(self, problem: dict[str, Any]) -> None:
        from ortools.math_opt import parameters_pb2
        from ortools.math_opt.core.python import solver as mathopt

        relaxed = np.zeros(len(problem["lower"]), dtype=bool)
        self.settings = parameters_pb2.SolveParametersProto()
        self.deadline = float(problem["deadline"])
        self.rows = len(problem["row_lower"])
        self.cost = np.zeros(len(problem["lower"]))
        self.solver = mathopt.new(
            parameters_pb2.SOLVER_TYPE_GLOP,
            model(problem, relaxed),
            parameters_pb2.SolverInitializerProto(),
        )

    def duals(self, cost: Array) -> Array:
        from ortools.math_opt import callback_pb2, model_parameters_pb2, model_update_pb2

        changed = np.flatnonzero(cost != self.cost)
        update = model_update_pb2.ModelUpdateProto()
        update.objective_updates.linear_coefficients.ids.extend(changed)
        update.objective_updates.linear_coefficients.values.extend(cost[changed])
        if not self.solver.update(update):
            raise SystemExit("GLOP does not take a new objective")
        self.cost = cost
        limit(self.settings, self.deadline - time.monotonic())
        result = self.solver.solve(
            self.settings,
            model_parameters_pb2.ModelSolveParametersProto(),
            None,
            callback_pb2.CallbackRegistrationProto(),
            None,
            None,
        )
        duals = np.zeros(self.rows)
        if result.solutions:
            values = result.solutions[0].dual_solution.dual_values
            duals[np.array(values.ids, dtype=np.int64)] = np.array(values.values)
        return duals


if __name__ == "__main__":
    main()
