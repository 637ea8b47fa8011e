"""Asks a solver in a child process what can be reached, and says what its answers mean."""

import importlib.util
import io
import json
import math
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import IO, Literal, NamedTuple

import numpy as np

from tasks.errors import InputError
from tasks.verification.milp import Milp, constraint_rows
from tasks.verification.properties import Property
from tasks.verification.verdicts import BOUNDARY

COMMAND = ("-P", "-m", "tasks.verification.solver_process")
SOLVERS = {"scip": "gscip", "highs": "highs"}
_LATE = 1.1  # a child is killed at this multiple of its time limit


class Answer(NamedTuple):
    """What the solver says about one disjunct."""

    disjunct: int
    status: str
    limit: str
    nodes: int
    seconds: float
    pixels: list[float] | None  # of a point that reaches it, if one was found


class SolverDiedError(RuntimeError):
    """The child ended before it had answered for every disjunct."""


class SolverLateError(RuntimeError):
    """The child was killed, as it did not keep to its time limit."""


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
        raise InputError("ortools is not installed: pip install 'robsweep[verification]'")
    return SOLVERS[name]


class Deadline(NamedTuple):
    """A sample's time: `limit` seconds from `started` on the monotonic clock, or no limit."""

    started: float
    limit: float | None

    def passed(self) -> bool:
        return time.monotonic() >= self.at()

    def at(self, stretch: float = 1.0) -> float:
        return math.inf if self.limit is None else self.started + stretch * self.limit


class Race(NamedTuple):
    """Which disjuncts of a sample's unsafe region are asked for, and how."""

    solver: str  # MathOpt's name
    unsafe: Property  # of this one sample
    disjuncts: tuple[int, ...]  # in the order in which they are tried
    deadline: Deadline  # of all of them together


def answers(milp: Milp, race: Race) -> Generator[Answer, None, None]:
    """Decides for one disjunct after the other whether all its rows can be <= `BOUNDARY`.

    Close the iterator, or run it to its end, to be rid of the child.

    Raises:
        SolverDiedError, SolverLateError
    """
    content = _problem(milp, race)
    with tempfile.TemporaryFile() as errors:
        child = subprocess.Popen(
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": _python_path(), "OMP_NUM_THREADS": "1"},
        )
        try:
            lines: queue.Queue[bytes | None] = queue.Queue()
            talk = threading.Thread(target=_talk, args=(child, content, lines), daemon=True)
            talk.start()
            for disjunct in race.disjuncts:
                line = _next_line(lines, race.deadline.at(_LATE))
                if line is None:
                    raise SolverDiedError(f"exit code {_exit_code(child)}: {_tail(errors)}")
                yield Answer(disjunct, **json.loads(line))
        finally:
            child.kill()
            child.wait()
            talk.join()
            for pipe in (child.stdin, child.stdout):
                with suppress(BrokenPipeError):
                    pipe.close()  # type: ignore[union-attr]


def _talk(
    child: "subprocess.Popen[bytes]", content: bytes, lines: "queue.Queue[bytes | None]"
) -> None:
    """Writes the problem, then queues each line of the reply; None ends it."""
    with suppress(BrokenPipeError):
        child.stdin.write(content)  # type: ignore[union-attr]
        child.stdin.flush()  # type: ignore[union-attr]
    for line in child.stdout:  # type: ignore[union-attr]
        if line.endswith(b"\n"):  # else it died while writing
            lines.put(line)
    lines.put(None)


def _next_line(lines: "queue.Queue[bytes | None]", until: float) -> bytes | None:
    wait = None if math.isinf(until) else max(0.0, until - time.monotonic())
    try:
        return lines.get(timeout=wait)
    except queue.Empty:
        raise SolverLateError("killed 10 % after its time limit") from None


def _exit_code(child: "subprocess.Popen[bytes]") -> int | str:
    try:
        return child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "none, as it does not end"


def _problem(milp: Milp, race: Race) -> bytes:
    rows = milp.rows.tocoo()
    weight, bias = (part[0, list(race.disjuncts)].cpu().numpy() for part in race.unsafe)
    finite = bias > -np.inf  # the other rows hold everywhere
    counts = finite.sum(1)
    margins, constants = constraint_rows(milp, weight[finite], bias[finite])
    buffer = io.BytesIO()
    np.savez(
        buffer,
        lower=milp.lower,
        upper=milp.upper,
        integer=milp.integer,
        row=rows.row,
        column=rows.col,
        value=rows.data,
        row_lower=milp.row_lower,
        row_upper=milp.row_upper,
        margins=margins,
        margin_bounds=BOUNDARY - constants,
        counts=counts,
        pixels=milp.pixels,
        solver=race.solver,
        deadline=race.deadline.at(),
    )
    content = buffer.getvalue()
    return len(content).to_bytes(8, "little") + content


def _python_path() -> str:
    root = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


def _tail(errors: IO[bytes]) -> str:
    errors.seek(0)
    return errors.read()[-500:].decode(errors="replace").strip()
