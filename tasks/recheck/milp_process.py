"""Runs scipy's HiGHS in a process of its own, which may be killed.

`python -m tasks.recheck.milp_process` reads one program as npz from stdin and writes one line of
JSON per output, until a bound does not show that the output is positive.
"""

import io
import json
import os
import sys
import time

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # a solver that prints must not write between the answers
    with np.load(io.BytesIO(sys.stdin.buffer.read())) as arrays:
        problem = dict(arrays)
    size = (len(problem["row_lower"]), len(problem["lower"]))
    place = (problem["row"], problem["column"])
    rows = csr_array((problem["value"], place), shape=size)
    for output, variable in zip(problem["asked"], problem["variables"], strict=True):
        left = float(problem["deadline"]) - time.monotonic()
        if left <= 0:
            return
        objective = np.zeros(size[1])
        objective[variable] = 1.0
        result = milp(
            objective,
            integrality=problem["integer"],
            bounds=Bounds(problem["lower"], problem["upper"]),
            constraints=LinearConstraint(rows, problem["row_lower"], problem["row_upper"]),
            # the sign is wanted, not the value: a point and a bound of the same sign are enough
            options={"time_limit": left, "mip_rel_gap": 0.9},
        )
        bound = result.mip_dual_bound
        if bound is None and result.status == 0:  # without binary variables the optimum is exact
            bound = result.fun
        found = None if result.x is None else result.x[: int(problem["pixels"])].tolist()
        shown = bound is not None and np.isfinite(bound)
        answer = {
            "output": int(output),
            "status": str(result.message),
            "late": result.status == 1,
            "bound": float(bound) if shown else None,
            "pixels": found,
        }
        print(json.dumps(answer), file=answers, flush=True)
        if not shown or bound <= float(problem["tolerance"]):
            return


if __name__ == "__main__":
    main()
