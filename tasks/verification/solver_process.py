"""Runs a MILP solver in a process of its own, which may die or hang without harm to the worker.

`python -m tasks.verification.solver_process` reads one problem from stdin (8 bytes of length, then
an npz) and writes one line of JSON for each disjunct as soon as it is answered. It ends itself when
stdin closes, so it never outlives its parent. Imports neither torch nor, before `main`, ortools.
"""

import datetime
import io
import json
import os
import sys
import threading
import time
from typing import Any, TextIO

import numpy as np

_MARGINS = ("margins", "margin_bounds")


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a solver that prints must not write between the answers
    size = int.from_bytes(sys.stdin.buffer.read(8), "little")
    with np.load(io.BytesIO(sys.stdin.buffer.read(size))) as arrays:
        problem = dict(arrays)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _solve_all(problem, answers)


def _end_with_parent() -> None:
    os.read(0, 1)  # not through the buffer, whose lock would abort the interpreter's own end
    os._exit(1)


def _solve_all(problem: dict[str, Any], answers: TextIO) -> None:
    from ortools.math_opt import callback_pb2, model_parameters_pb2, parameters_pb2, result_pb2
    from ortools.math_opt.core.python import solver as mathopt

    kind = {
        "gscip": parameters_pb2.SOLVER_TYPE_GSCIP,
        "highs": parameters_pb2.SOLVER_TYPE_HIGHS,
    }[str(problem["solver"])]
    first = 0
    for count in problem["counts"]:
        margins, bounds = (problem[key][first : first + count] for key in _MARGINS)
        first += count
        started = time.monotonic()
        settings = parameters_pb2.SolveParametersProto()
        if kind == parameters_pb2.SOLVER_TYPE_GSCIP:
            settings.solution_limit = 1
        left = float(problem["deadline"]) - started
        if left < np.inf:
            settings.time_limit.FromTimedelta(datetime.timedelta(seconds=max(left, 0.001)))
        result = mathopt.solve(
            _model(problem, margins, bounds),
            kind,
            parameters_pb2.SolverInitializerProto(),
            settings,
            model_parameters_pb2.ModelSolveParametersProto(),
            None,
            callback_pb2.CallbackRegistrationProto(),
            None,
            None,
        )
        ended = result.termination
        status = result_pb2.TerminationReasonProto.Name(ended.reason)
        limit = result_pb2.LimitProto.Name(ended.limit)
        answer = {
            "status": status.removeprefix("TERMINATION_REASON_").lower(),
            "limit": limit.removeprefix("LIMIT_").lower(),
            "nodes": result.solve_stats.node_count,
            "seconds": time.monotonic() - started,
            "pixels": _pixels(result, int(problem["pixels"])),
        }
        print(json.dumps(answer), file=answers, flush=True)


def _model(problem: dict[str, Any], margins: Any, bounds: Any) -> Any:
    """The encoded network and the rows margins @ v <= bounds."""
    from ortools.math_opt import model_pb2, sparse_containers_pb2

    rows, columns = np.nonzero(margins)
    size = len(problem["row_lower"])
    model = model_pb2.ModelProto()
    model.variables.ids.extend(range(len(problem["lower"])))
    model.variables.lower_bounds.extend(problem["lower"])
    model.variables.upper_bounds.extend(problem["upper"])
    model.variables.integers.extend(problem["integer"])
    model.linear_constraints.ids.extend(range(size + len(bounds)))
    model.linear_constraints.lower_bounds.extend([*problem["row_lower"], *[-np.inf] * len(bounds)])
    model.linear_constraints.upper_bounds.extend([*problem["row_upper"], *bounds])
    model.linear_constraint_matrix.CopyFrom(
        sparse_containers_pb2.SparseDoubleMatrixProto(
            row_ids=np.append(problem["row"], size + rows),
            column_ids=np.append(problem["column"], columns),
            coefficients=np.append(problem["value"], margins[rows, columns]),
        )
    )
    return model


def _pixels(result: Any, n: int) -> list[float] | None:
    """The image part of the first feasible point; values that are absent are 0."""
    if not result.solutions:
        return None
    values = result.solutions[0].primal_solution.variable_values
    pixels = np.zeros(n)
    ids = np.array(values.ids)
    pixels[ids[ids < n]] = np.array(values.values)[ids < n]
    return [float(pixel) for pixel in pixels]


if __name__ == "__main__":
    main()
