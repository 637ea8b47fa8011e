"""Bounds linear forms over a linear program, in a process of its own: HiGHS, certified by duals.

`python -m tasks.verification.highs_process` reads problems as `solver_process` does. It answers
each by a line for every form's upper bound, then one for every lower bound: `null` where the upper
one is at most `enough`. Each program starts from where the one before it ended.

OR-tools' HiGHS starts anew each time, which takes several times as long, so this is SciPy's; the
two must not be in one process.
"""

import json
import time
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize._highspy import _core

from robsweep.tasks.verification.optimise.duals import Array
from robsweep.tasks.verification.optimise.lp_process import Bounded
from robsweep.tasks.verification.optimise.solver_process import answering, problems


def main() -> None:
    answers = answering()
    for problem in problems():
        bounded, enough = Bounded(problem, _Highs(problem)), problem["enough"]
        upper = []
        for i in range(len(enough)):
            upper.append(-bounded.least(i, -1.0))
            print(json.dumps(upper[i]), file=answers, flush=True)
        for i in range(len(enough)):
            lower = bounded.least(i) if upper[i] > enough[i] else None
            print(json.dumps(lower), file=answers, flush=True)


class _Highs:
    """One linear program, solved for one cost after the other."""

    def __init__(self, problem: dict[str, Any]) -> None:
        shape = len(problem["row_lower"]), len(problem["lower"])
        entries = problem["value"], (problem["row"], problem["column"])
        columns = sparse.csc_array(entries, shape=shape)
        program = _core.HighsLp()
        program.num_row_, program.num_col_ = shape
        program.col_cost_ = np.zeros(shape[1])
        program.col_lower_, program.col_upper_ = problem["lower"], problem["upper"]
        program.row_lower_, program.row_upper_ = problem["row_lower"], problem["row_upper"]
        program.a_matrix_.num_row_, program.a_matrix_.num_col_ = shape
        program.a_matrix_.format_ = _core.MatrixFormat.kColwise
        program.a_matrix_.start_, program.a_matrix_.index_ = columns.indptr, columns.indices
        program.a_matrix_.value_ = columns.data
        self.columns = np.arange(shape[1], dtype=np.int32)
        self.rows, self.deadline = shape[0], float(problem["deadline"])
        self.highs = _core._Highs()
        self.highs.setOptionValue("output_flag", False)
        self.highs.setOptionValue("threads", 1)
        self.highs.passModel(program)

    def duals(self, cost: Array) -> Array:
        left = self.deadline - time.monotonic()
        if left <= 0:
            return np.zeros(self.rows)
        self.highs.setOptionValue("time_limit", self.highs.getRunTime() + left)
        self.highs.changeColsCost(len(cost), self.columns, cost)
        self.highs.run()
        found = np.array(self.highs.getSolution().row_dual)
        return found if found.size == self.rows else np.zeros(self.rows)


if __name__ == "__main__":
    main()
