"""Minimises over an encoded network in a process of its own, disjunct by disjunct.

`python -m tasks.verification.optimise.minimum_process` reads problems as `solver_process` does, in
which variable `objective` is what is minimised, and writes one line of JSON for each disjunct. What
one has reached is the most that the next ones are asked for.
"""

import json
import time
from typing import Any, TextIO

import numpy as np

from robsweep.tasks.verification.optimise.solver_process import (
    answering,
    limit,
    model,
    pixels_of,
    problems,
    settings_of,
    solved,
    with_rows,
)

_GAP = 1e-4  # relative, between the two sides at which a solver may stop


def main() -> None:
    answers = answering()
    for problem in problems():
        _minimise_all(problem, answers)


def _minimise_all(problem: dict[str, Any], answers: TextIO) -> None:
    from ortools.math_opt import result_pb2

    solver = str(problem["solver"])
    settings = settings_of(solver, json.loads(str(problem["parameters"])))
    settings.relative_gap_tolerance = _GAP
    if solver == "gscip":
        settings.gscip.int_params["timing/clocktype"] = 2  # the time that passes, not its own
    network = model(problem, problem["integer"])
    objective = int(problem["objective"])
    network.objective.linear_coefficients.ids.append(objective)
    network.objective.linear_coefficients.values.append(1.0)
    if len(problem["squared"]):
        _at_least_the_squares(network, problem["squared"], objective)
    best, first = float(problem["upper"][objective]), 0
    for k, count in enumerate(problem["counts"]):
        rows, bounds = (problem[key][first : first + count] for key in ("margins", "margin_bounds"))
        first += count
        started = time.monotonic()
        left = float(problem["deadline"]) - started
        limit(settings, left / (len(problem["counts"]) - k))  # what is left over goes to the next
        network.variables.upper_bounds[objective] = best
        result = solved(with_rows(network, rows, bounds), solver, settings)
        ended = result.termination
        status = result_pb2.TerminationReasonProto.Name(ended.reason)
        status = status.removeprefix("TERMINATION_REASON_").lower()
        sides = ended.objective_bounds
        found = pixels_of(result, int(problem["pixels"]))
        if status == "infeasible":
            bound = best
        else:
            bound = max(float(sides.dual_bound), float(problem["lower"][objective]))
        if found is not None:
            best = min(best, max(float(sides.primal_bound), bound))
        answer = {
            "status": status,
            "nodes": result.solve_stats.node_count,
            "seconds": time.monotonic() - started,
            "bound": min(bound, best) if np.isfinite(bound) else None,
            "pixels": found,
        }
        print(json.dumps(answer), file=answers, flush=True)


def _at_least_the_squares(network: Any, squared: Any, objective: int) -> None:
    """The sum of the squares of these variables is at most the objective."""
    squares = network.quadratic_constraints[0]
    squares.upper_bound, squares.lower_bound = 0.0, -np.inf
    squares.quadratic_terms.row_ids.extend(squared)
    squares.quadratic_terms.column_ids.extend(squared)
    squares.quadratic_terms.coefficients.extend([1.0] * len(squared))
    squares.linear_terms.ids.append(objective)
    squares.linear_terms.values.append(-1.0)


if __name__ == "__main__":
    main()
