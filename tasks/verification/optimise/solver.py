"""Asks a solver in a child process what can be reached, and says what its answers mean."""

import importlib.util
import json
import math
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy import sparse

from robsweep.tasks.catalogue.code.install import how_to_install
from robsweep.tasks.catalogue.values import REFUSED
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.optimise.child import (
    Child,
    SolverDiedError,
    SolverLateError,
    replies,
)
from robsweep.tasks.verification.optimise.milp import Milp, constraint_rows
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property
from robsweep.tasks.verification.reading.within import Ball, Within

COMMAND = ("-P", "-m", "robsweep.tasks.verification.optimise.solver_process")
SOLVERS = {"scip": "gscip", "highs": "highs", "gurobi": "gurobi"}
CONVEX = ("gscip", "gurobi")  # which take a sum of squares as a constraint
LATE = 1.1  # a child is killed at this multiple of its time limit
_PROBE_SECONDS = 60.0

# A solver's own parameters, sorted by name.
Parameters = tuple[tuple[str, bool | int | float | str], ...]


class Answer(NamedTuple):
    """What the solver says about one disjunct."""

    disjunct: int
    status: str
    limit: str
    nodes: int
    seconds: float
    pixels: list[float] | None  # of a point that reaches it, if one was found


def meaning(answer: Answer) -> Literal["proof", "candidate", "timeout", "open"]:
    """The one rule for what a solver's status is worth.

    Only "infeasible" is a proof, of "this disjunct cannot be reached"; a point is a candidate
    until the network itself has confirmed it; anything else leaves the disjunct open.
    """
    if answer.pixels is not None:
        return "candidate"
    if answer.status == "infeasible":
        return "proof"
    return "timeout" if answer.limit == "time" else "open"


def solver_named(name: str) -> str:
    """MathOpt's name of a solver.

    Raises:
        InputError: Unknown, or OR-tools is not installed.
    """
    if name not in SOLVERS:
        raise InputError(f"unknown solver {name!r}; known are {', '.join(SOLVERS)}")
    if importlib.util.find_spec("ortools") is None:
        raise InputError(f"ortools is not installed: {how_to_install('verification')}")
    if name == "gurobi":  # the others come with OR-tools
        missing = "solver gurobi is not available here: it needs Gurobi's library and a licence"
        _try(SOLVERS[name], (), missing)
    return SOLVERS[name]


def can_ask(solver: str, within: Within | None) -> bool:
    """Whether a solver, by MathOpt's name, takes what is known of the input."""
    return solver in CONVEX or not (isinstance(within, Ball) and within.norm == "l2")


def checked_parameters(name: str, given: Mapping[str, Any]) -> Parameters:
    """A solver's own parameters, once it has taken them for a program of one variable.

    Args:
        name: As `solver_named` takes it.

    Raises:
        InputError: One that the solver or this verifier refuses.
    """
    for parameter in given:
        if parameter in REFUSED["solver_parameters"]:
            reason = REFUSED["solver_parameters"][parameter]
            raise InputError(f"solver parameter {parameter!r}: {reason}")
    parameters: Parameters = tuple(sorted(given.items()))
    if parameters:
        _try(solver_named(name), parameters, "solver_parameters")
    return parameters


@cache
def _try(solver: str, parameters: Parameters, complaint: str) -> None:
    """Asks a child whether one variable can be 0.

    Raises:
        InputError: The complaint and the child's last line, if it does not answer.
    """
    one = np.ones(1)
    empty = sparse.csr_array((0, 1))
    none = np.zeros(0)
    variable = sparse.csr_array(np.ones((1, 1)))
    tiny = Milp(0 * one, one, one > 0, empty, none, none, variable, 0 * one, 1, 0 * one)
    unsafe = Property(torch.ones((1, 1, 1, 1)).double(), torch.zeros((1, 1, 1)).double())
    deadline = Deadline(time.monotonic(), _PROBE_SECONDS)
    try:
        with closing(answers(tiny, Race(solver, unsafe, (0,), deadline, parameters))) as found:
            next(found)
    except (SolverDiedError, SolverLateError) as error:
        raise InputError(f"{complaint}: {str(error).splitlines()[-1]}") from None


class Deadline(NamedTuple):
    """A sample's time: `limit` seconds from `started` on the monotonic clock, or no limit."""

    started: float
    limit: float | None

    def passed(self) -> bool:
        return time.monotonic() >= self.at()

    def at(self, stretch: float = 1.0) -> float:
        return math.inf if self.limit is None else self.started + stretch * self.limit

    def share(self, part: float) -> "Deadline":
        """One for a step that may take a part of what is left."""
        now = time.monotonic()
        return Deadline(now, None if self.limit is None else part * max(0.0, self.at() - now))


class Race(NamedTuple):
    """Which disjuncts of a sample's unsafe region are asked for, and how."""

    solver: str  # MathOpt's name
    unsafe: Property  # of this one sample
    disjuncts: tuple[int, ...]  # in the order in which they are tried
    deadline: Deadline  # of all of them together
    parameters: Parameters = ()
    patience: float = math.inf  # seconds for each of them


def answers(milp: Milp, race: Race, child: Child | None = None) -> Generator[Answer, None, None]:
    """Decides for one disjunct after the other whether all its rows can be <= `BOUNDARY`.

    Close the iterator, or run it to its end, to be rid of the child.

    Args:
        child: The one to ask, which stays; by default one of its own.

    Raises:
        SolverDiedError, SolverLateError
    """
    problem, until = _problem(milp, race), race.deadline.at(LATE)
    count = len(race.disjuncts)
    asked = replies(COMMAND, problem, count, until)
    if child is not None:
        asked = child.ask(problem, count, until)
    with closing(asked) as found:
        for disjunct, reply in zip(race.disjuncts, found, strict=True):
            yield Answer(disjunct, **reply)


def _problem(milp: Milp, race: Race) -> dict[str, Any]:
    weight, bias = (part[0, list(race.disjuncts)].cpu().numpy() for part in race.unsafe)
    finite = bias > -np.inf  # the other rows hold everywhere
    margins, constants = constraint_rows(milp, weight[finite], bias[finite])
    return {
        **program_arrays(milp),
        "integer": milp.integer,
        "squares": np.zeros(0, dtype=np.int64) if milp.squares is None else milp.squares,
        "most": milp.most,
        "margins": margins,
        "margin_bounds": BOUNDARY - constants,
        "counts": finite.sum(1),
        "pixels": milp.pixels,
        "solver": race.solver,
        "parameters": json.dumps(dict(race.parameters)),
        "deadline": race.deadline.at(),
        "patience": race.patience,
    }


def program_arrays(milp: Milp) -> dict[str, Any]:
    """Variables and rows, as a child reads them."""
    rows = milp.rows.tocoo()
    return {
        "lower": milp.lower,
        "upper": milp.upper,
        "row": rows.row,
        "column": rows.col,
        "value": rows.data,
        "row_lower": milp.row_lower,
        "row_upper": milp.row_upper,
    }


def form_arrays(milp: Milp) -> dict[str, Any]:
    """Its logits, as a child that bounds them reads them."""
    forms = milp.logits.tocoo()
    return {
        "forms": len(milp.offset),
        "form_row": forms.row,
        "form_column": forms.col,
        "form_value": forms.data,
    }
