"""Runs a MILP solver in a process of its own, which may die or hang without harm to the worker.

`python -m tasks.verification.solver_process` reads problems from stdin (8 bytes of length, then an
npz) and writes one line of JSON for each disjunct as soon as it is answered. It ends itself when
stdin closes, so it never outlives its parent. Imports neither torch nor, before `main`, ortools.
"""

import datetime
import io
import json
import os
import queue
import threading
import time
from collections.abc import Generator
from typing import Any, TextIO

import numpy as np

_MARGINS = ("margins", "margin_bounds")


def main() -> None:
    answers = answering()
    for problem in problems():
        solve_all(problem, answers)


def answering() -> TextIO:
    """Where answers go."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a solver that prints must not write between the answers
    return answers


def problems() -> Generator[dict[str, Any], None, None]:
    """One after the other as they come; the process ends once its parent does."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(waiting,), daemon=True).start()
    while True:
        with np.load(io.BytesIO(waiting.get())) as arrays:
            yield dict(arrays)


def _receive(waiting: "queue.SimpleQueue[bytes]") -> None:
    # not through sys.stdin, whose lock would abort the interpreter's own end
    with os.fdopen(os.dup(0), "rb") as stream:
        while len(size := stream.read(8)) == 8:
            waiting.put(stream.read(int.from_bytes(size, "little")))
    os._exit(1)


def solve_all(problem: dict[str, Any], answers: TextIO) -> None:
    from ortools.math_opt import result_pb2

    solver = str(problem["solver"])
    settings = settings_of(solver, json.loads(str(problem["parameters"])))
    if solver != "highs":  # which has no such limit
        settings.solution_limit = 1
    network = model(problem, problem["integer"])
    if problem["squares"].size:
        _add_squares(network, problem["squares"], float(problem["most"]))
    first = 0
    for count in problem["counts"]:
        margins, bounds = (problem[key][first : first + count] for key in _MARGINS)
        first += count
        started = time.monotonic()
        left = min(float(problem["deadline"]) - started, float(problem["patience"]))
        limit(settings, left)
        result = solved(with_rows(network, margins, bounds), solver, settings)
        ended = result.termination
        status = result_pb2.TerminationReasonProto.Name(ended.reason)
        reached = result_pb2.LimitProto.Name(ended.limit)
        answer = {
            "status": status.removeprefix("TERMINATION_REASON_").lower(),
            "limit": reached.removeprefix("LIMIT_").lower(),
            "nodes": result.solve_stats.node_count,
            "seconds": time.monotonic() - started,
            "pixels": pixels_of(result, int(problem["pixels"])),
        }
        print(json.dumps(answer), file=answers, flush=True)


def solved(program: Any, solver: str, settings: Any) -> Any:
    from ortools.math_opt import callback_pb2, model_parameters_pb2, parameters_pb2
    from ortools.math_opt.core.python import solver as mathopt

    return mathopt.solve(
        program,
        parameters_pb2.SolverTypeProto.Value(f"SOLVER_TYPE_{solver.upper()}"),
        parameters_pb2.SolverInitializerProto(),
        settings,
        model_parameters_pb2.ModelSolveParametersProto(),
        None,
        callback_pb2.CallbackRegistrationProto(),
        None,
        None,
    )


# Where MathOpt keeps a solver's own parameters, by the type of the value.
_PLACES: dict[str, dict[type, tuple[str, ...]]] = {
    "gscip": {
        bool: ("bool_params",),
        int: ("int_params", "long_params", "real_params"),
        float: ("real_params",),
        str: ("char_params", "string_params"),
    },
    "highs": {
        bool: ("bool_options",),
        int: ("int_options", "double_options"),
        float: ("double_options",),
        str: ("string_options",),
    },
}


_SCIP_CODES = {
    -12: "it has no such parameter",
    -13: "the parameter is of another type",
    -14: "the value is not allowed",
}


def settings_of(solver: str, parameters: dict[str, Any]) -> Any:
    """The solver's own parameters, each where the solver takes it.

    Raises:
        SystemExit: It takes one nowhere; says so on stderr.
    """
    from ortools.math_opt import model_pb2, parameters_pb2

    settings = parameters_pb2.SolveParametersProto()
    if solver == "gurobi":
        _load_gurobi()
        for name, value in parameters.items():
            text = str(int(value) if isinstance(value, bool) else value)
            settings.gurobi.parameters.add(name=name, value=text)
        solved(model_pb2.ModelProto(), solver, settings)
        return settings
    for name, value in parameters.items():
        refusals = []
        for place in _PLACES[solver][type(value)]:
            trial = parameters_pb2.SolveParametersProto()
            try:
                getattr(getattr(trial, solver), place)[name] = value
                solved(model_pb2.ModelProto(), solver, trial)
            except Exception as error:  # noqa: BLE001 (the binding's own type is not exported)
                refusals.append(str(error))
            else:
                settings.MergeFrom(trial)
                break
        else:
            raise SystemExit(f"{solver} refuses {name} = {value!r}: {_in_words(refusals[0])}")
    return settings


def _in_words(refusal: str) -> str:
    """SCIP names its reasons by number."""
    for code, words in _SCIP_CODES.items():
        if f"SCIP error code {code} " in refusal:
            return words
    return refusal


def _load_gurobi() -> None:
    from ortools.init.python import init

    if not init.CppBridge.load_gurobi_shared_library("libgurobi.so"):
        raise SystemExit("no library of Gurobi found: set GUROBI_HOME")


def limit(settings: Any, seconds: float) -> None:
    """Sets the time limit; an infinite one is none."""
    if seconds < np.inf:
        settings.time_limit.FromTimedelta(datetime.timedelta(seconds=max(seconds, 0.001)))


def model(problem: dict[str, Any], integer: Any) -> Any:
    """The encoded network."""
    from ortools.math_opt import model_pb2, sparse_containers_pb2

    built = model_pb2.ModelProto()
    built.variables.ids.extend(range(len(problem["lower"])))
    built.variables.lower_bounds.extend(problem["lower"])
    built.variables.upper_bounds.extend(problem["upper"])
    built.variables.integers.extend(integer)
    built.linear_constraints.ids.extend(range(len(problem["row_lower"])))
    built.linear_constraints.lower_bounds.extend(problem["row_lower"])
    built.linear_constraints.upper_bounds.extend(problem["row_upper"])
    built.linear_constraint_matrix.CopyFrom(
        sparse_containers_pb2.SparseDoubleMatrixProto(
            row_ids=problem["row"], column_ids=problem["column"], coefficients=problem["value"]
        )
    )
    return built


def _add_squares(network: Any, ids: Any, most: float) -> None:
    """The constraint that these variables' squares add up to at most `most`."""
    ball = network.quadratic_constraints[0]
    ball.quadratic_terms.row_ids.extend(ids)
    ball.quadratic_terms.column_ids.extend(ids)
    ball.quadratic_terms.coefficients.extend([1.0] * len(ids))
    ball.lower_bound, ball.upper_bound = -np.inf, most


def with_rows(network: Any, margins: Any, bounds: Any) -> Any:
    """The program and the rows margins @ v <= bounds."""
    from ortools.math_opt import model_pb2

    rows, columns = np.nonzero(margins)
    size = len(network.linear_constraints.ids)
    built = model_pb2.ModelProto()
    built.CopyFrom(network)
    built.linear_constraints.ids.extend(range(size, size + len(bounds)))
    built.linear_constraints.lower_bounds.extend([-np.inf] * len(bounds))
    built.linear_constraints.upper_bounds.extend(bounds)
    built.linear_constraint_matrix.row_ids.extend(size + rows)
    built.linear_constraint_matrix.column_ids.extend(columns)
    built.linear_constraint_matrix.coefficients.extend(margins[rows, columns])
    return built


def pixels_of(result: Any, n: int) -> list[float] | None:
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
