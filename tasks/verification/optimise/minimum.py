"""The least margin in a box, or the least distance of what reaches a region, by a MILP's two sides.

Both sides are as good as the solver's word for "infeasible" is: `TOLERANCE` is taken off the lower
one, and the upper one counts once the network itself has confirmed its point.
"""

import json
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor

from robsweep.tasks.verification.optimise.child import SolverDiedError, SolverLateError, replies
from robsweep.tasks.verification.optimise.milp import Milp, constraint_rows
from robsweep.tasks.verification.optimise.solver import CONVEX, Race, program_arrays
from robsweep.tasks.verification.reading.properties import BOUNDARY

COMMAND = ("-P", "-m", "robsweep.tasks.verification.optimise.minimum_process")
TOLERANCE = 1e-6  # of solvers, absolute
# Norms whose balls a solver can minimise; squares are SCIP's and Gurobi's alone.
_LINEAR = ("gscip", "highs", "gurobi")
SOLVED: dict[str, tuple[str, ...]] = {"linf": _LINEAR, "l1": _LINEAR, "l2": CONVEX}

_Array = NDArray[np.float64]


class Sides(NamedTuple):
    """What the minimum lies between, as far as it is known already."""

    lower: float
    upper: float


class Minimum(NamedTuple):
    """What a run over a sample's disjuncts has shown of the minimum."""

    lower: float  # over all disjuncts that were asked for
    nodes: int
    status: str  # of the last one


class Known(NamedTuple):
    """What a run is told beside its race."""

    sides: Sides
    found: Callable[[Tensor], None]  # is given each point of the solver's, float64 (pixels,)
    until: float  # when a solver that is late is killed, on the monotonic clock


class _Program(NamedTuple):
    """A network's, and more variables behind its own: the last one is what is minimised."""

    milp: Milp
    weight: float  # of the last variable in a disjunct's rows
    most: float  # what these rows are at most
    squared: NDArray[np.int64]  # variables whose squares sum to no more than the last one


def least_margin(milp: Milp, race: Race, known: Known) -> Minimum:
    """The least margin over a sample's disjuncts, each of which is as far off as its worst row.

    Args:
        race: Which disjuncts may be below the upper side that is known; nothing is said of the
            others.
    """
    last = _appended(milp, [known.sides.lower], [known.sides.upper])
    end = _run(_Program(last, -1.0, 0.0, np.zeros(0, dtype=np.int64)), race, known)
    return end._replace(lower=end.lower - TOLERANCE)


def least_distance(milp: Milp, race: Race, center: Tensor, norm: str, known: Known) -> Minimum:
    """The least distance from an image at which a disjunct is reached.

    Args:
        race: Which disjuncts may be reached nearer than the upper side that is known.
        center: Float64 (pixels,).
        norm: One of `SOLVED`, for this solver.

    Source: Tjeng et al. 2019, section 4.1, equations 3 to 5.
    """
    x0, sides = center.double().cpu().numpy().ravel(), known.sides
    if norm == "l2":
        known = known._replace(sides=Sides(sides.lower**2, sides.upper**2))
        end = _run(_l2(milp, x0, known.sides), race, known)
        return end._replace(lower=max(0.0, end.lower - TOLERANCE) ** 0.5)
    end = _run({"linf": _linf, "l1": _l1}[norm](milp, x0, sides), race, known)
    return end._replace(lower=end.lower - TOLERANCE)


def _linf(milp: Milp, x0: _Array, known: Sides) -> _Program:
    """No pixel is off by more than the last variable."""
    moved = np.flatnonzero(milp.lower[: milp.pixels] < milp.upper[: milp.pixels])
    built = _appended(milp, [known.lower], [known.upper])
    return _Program(_off(built, moved, x0, np.full(moved.size, milp.lower.size)), *_REACHED)


def _l1(milp: Milp, x0: _Array, known: Sides) -> _Program:
    """A variable for each pixel's move, whose sum is no more than the last one."""
    moved = np.flatnonzero(milp.lower[: milp.pixels] < milp.upper[: milp.pixels])
    reach = np.maximum(x0 - milp.lower[: x0.size], milp.upper[: x0.size] - x0)[moved]
    moves = milp.lower.size + np.arange(moved.size)
    built = _appended(milp, [*np.zeros(moved.size), known.lower], [*reach, known.upper])
    built = _off(built, moved, x0, moves)
    last = built.lower.size - 1
    total = sparse.csr_array(
        (np.append(np.ones(moved.size), -1.0), (np.zeros(moved.size + 1), [*moves, last])),
        shape=(1, built.lower.size),
    )
    return _Program(_more_rows(built, total, np.zeros(1)), *_REACHED)


def _l2(milp: Milp, x0: _Array, squares: Sides) -> _Program:
    """As for l1, with the squares of the moves."""
    moved = np.flatnonzero(milp.lower[: milp.pixels] < milp.upper[: milp.pixels])
    reach = np.maximum(x0 - milp.lower[: x0.size], milp.upper[: x0.size] - x0)[moved]
    moves = milp.lower.size + np.arange(moved.size)
    built = _appended(milp, [*np.zeros(moved.size), squares.lower], [*reach, squares.upper])
    weight, most, _ = _REACHED
    return _Program(_off(built, moved, x0, moves), weight, most, moves)


_REACHED = (0.0, BOUNDARY, np.zeros(0, dtype=np.int64))  # as in `solver.answers`


def _off(milp: Milp, moved: NDArray[np.int64], x0: _Array, by: NDArray[np.int64]) -> Milp:
    """Each of these pixels is off by no more than the variable that stands for its move."""
    n, size = np.arange(moved.size), milp.lower.size
    for sign in (1.0, -1.0):
        entries = np.append(np.full(moved.size, sign), -np.ones(moved.size))
        place = (np.append(n, n), np.append(moved, by))
        rows = sparse.csr_array((entries, place), shape=(moved.size, size))
        milp = _more_rows(milp, rows, sign * x0[moved])
    return milp


def _appended(milp: Milp, lower: list[float], upper: list[float]) -> Milp:
    """With further variables, that no row knows of yet."""
    more = len(lower)
    wide = (milp.rows.shape[0], milp.rows.shape[1] + more)
    rows = sparse.csr_array((milp.rows.data, milp.rows.indices, milp.rows.indptr), shape=wide)
    flat = milp.logits
    logits = sparse.csr_array(
        (flat.data, flat.indices, flat.indptr), shape=(flat.shape[0], flat.shape[1] + more)
    )
    return milp._replace(
        lower=np.append(milp.lower, lower),
        upper=np.append(milp.upper, upper),
        integer=np.append(milp.integer, np.zeros(more, dtype=bool)),
        rows=rows,
        logits=logits,
    )


def _more_rows(milp: Milp, rows: sparse.csr_array, upper: _Array) -> Milp:
    both = sparse.vstack([milp.rows, rows], format="csr")
    both.sum_duplicates()
    return milp._replace(
        rows=both,
        row_lower=np.append(milp.row_lower, np.full(upper.size, -np.inf)),
        row_upper=np.append(milp.row_upper, upper),
    )


def _run(program: _Program, race: Race, known: Known) -> Minimum:
    """Asks for one disjunct after the other; what is not answered is as low as was known."""
    sides = known.sides
    end, bounds = Minimum(sides.lower, 0, "not asked"), []
    try:
        with closing(_answers(program, race, known.until)) as answers:
            for answer in answers:
                end = end._replace(nodes=end.nodes + answer["nodes"], status=answer["status"])
                bounds.append(sides.lower if answer["bound"] is None else answer["bound"])
                if answer["pixels"] is not None:
                    known.found(torch.tensor(answer["pixels"], dtype=torch.float64))
    except SolverLateError as late:
        end = end._replace(status=str(late))
    except SolverDiedError as died:
        end = end._replace(status=str(died))
    if len(bounds) == len(race.disjuncts):
        end = end._replace(lower=min([sides.upper, *bounds]))
    return end


def _answers(program: _Program, race: Race, until: float) -> Generator[dict[str, Any], None, None]:
    weight, bias = (part[0, list(race.disjuncts)].cpu().numpy() for part in race.unsafe)
    finite = bias > -np.inf  # the other rows hold everywhere
    margins, constants = constraint_rows(program.milp, weight[finite], bias[finite])
    margins[:, -1] = program.weight
    problem = {
        **program_arrays(program.milp),
        "integer": program.milp.integer,
        "margins": margins,
        "margin_bounds": program.most - constants,
        "counts": finite.sum(1),
        "pixels": program.milp.pixels,
        "solver": race.solver,
        "parameters": json.dumps(dict(race.parameters)),
        "deadline": race.deadline.at(),
        "objective": program.milp.lower.size - 1,
        "squared": program.squared,
    }
    with closing(replies(COMMAND, problem, len(race.disjuncts), until)) as found:
        yield from found
