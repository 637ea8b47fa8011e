"""One ONNX network and one VNN-LIB property: is its unsafe region reached?"""

import math
import time
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_intervals
from robsweep.tasks.verification.cascade import Cascade, Method, Problem
from robsweep.tasks.verification.optimise.solver import Deadline, solver_named
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.onnx_model import OnnxModel, load
from robsweep.tasks.verification.reading.onnx_network import read_onnx
from robsweep.tasks.verification.reading.properties import BOUNDARY, margin
from robsweep.tasks.verification.reading.vnnlib_file import Case, read_vnnlib
from robsweep.tasks.verification.search.counterexamples import Checked, Region, at_boundary, descend
from robsweep.tasks.verification.verdicts import DISAGREE, Row

Answer = Literal["sat", "unsat", "unknown", "timeout"]
_POLISH_STEPS = 10


class _Effort(NamedTuple):
    starts: int
    steps: int


_QUICK, _LONG = _Effort(3, 12), _Effort(20, 50)  # before the bounds, and for what they leave


class Counterexample(NamedTuple):
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]  # as the network computes them in its own precision

    def text(self) -> str:
        """In the format of VNN-COMP."""
        lines = [f"(X_{i} {float(value)!r})" for i, value in enumerate(self.inputs)]
        lines += [f"(Y_{i} {float(value)!r})" for i, value in enumerate(self.outputs)]
        return "(" + "\n".join(lines) + ")\n"


class Outcome(NamedTuple):
    answer: Answer
    decided_by: str
    seconds: float = 0.0
    counterexample: Counterexample | None = None
    why: str | None = None  # an unknown is one, where it is known


class _Question(NamedTuple):
    model: OnnxModel
    network: Network
    case: Case
    region: Region  # the case's box, as one sample of the network's input shape


def verify(onnx: str, vnnlib: str, limit: float | None = None, solver: str = "scip") -> Outcome:
    """Decides by attack, bounds, more attack, branching, and one MILP for each disjunct left.

    Args:
        limit: Seconds for everything together.
        solver: A name in `solver.SOLVERS`.

    Raises:
        InputError: Anything wrong with the files or options, before any solve.
    """
    started = time.monotonic()
    if limit is not None and not limit > 0:
        raise InputError(f"time limit {limit}: must be above 0")
    method = Method(solver=solver_named(solver))
    deadline = Deadline(started, limit)
    model = load(onnx)
    network = read_onnx(model)
    inputs, outputs = torch.Size(network.shapes[0]).numel(), network.shapes[-1][0]
    outcome = Outcome("unsat", "")
    for case in read_vnnlib(vnnlib, inputs, outputs):
        question = _Question(model, network, case, _region(case, network.shapes[0]))
        found = _decided(question, method, deadline)
        if found.answer == "sat" or outcome.answer == "unsat":
            outcome = found
        elif found.answer == "timeout":
            outcome = outcome._replace(answer="timeout")
        if outcome.answer == "sat":
            break
    return outcome._replace(seconds=time.monotonic() - started)


def _region(case: Case, shape: tuple[int, ...]) -> Region:
    low, high = (torch.from_numpy(end).reshape(1, *shape) for end in case[:2])
    return Region((low + high) / 2, low, high, (high - low) / 2)


def _decided(question: _Question, method: Method, deadline: Deadline) -> Outcome:
    region, stages = question.region, method.stages
    problem = Problem(question.network, Bounds(region.low, region.high), question.case.unsafe)
    disagree = False
    if "attack" in stages:
        found, disagree = _attacked(question, _QUICK)
        if found is not None:
            return Outcome("sat", "attack", counterexample=found)
    if deadline.passed():
        return Outcome("timeout", "attack")
    cascade = Cascade(problem, method, deadline, partial(_confirmed, question))
    quick = "interval" in stages and cascade.deployed and not disagree
    if quick and bool((by_intervals(*problem).margins.lower > BOUNDARY).all()):
        return Outcome("unsat", "interval")
    cascade.bound()
    if "attack" in stages and cascade.row.verdict == "unknown" and not deadline.passed():
        found, again = _attacked(question, _LONG)
        if found is not None:
            return Outcome("sat", "attack", counterexample=found)
        disagree = disagree or again
    cascade.disagree = cascade.disagree or disagree
    cascade.complete()
    row = cascade.finished()
    match row.verdict:
        case "verified":
            return Outcome("unsat", str(row.decided_by))
        case "falsified" if cascade.found is not None:
            example = _counterexample(question, cascade.found)
            return Outcome("sat", str(row.decided_by), counterexample=example)
        case "timeout":
            return Outcome("timeout", row.solver_status or "time limit")
    return Outcome("unknown", row.solver_status or "bounds", why=_why(row))


def _why(row: Row) -> str | None:
    if row.solver_status == DISAGREE:
        return DISAGREE
    if row.arithmetic == "reals":
        error = (
            "any size" if (e := row.rounding_error) is None or math.isinf(e) else f"up to {e:.1e}"
        )
        return f"proved over the reals, but rounding in float32 ({error}) could decide"
    return None


class _Layers(nn.Module):
    """A network as a module."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return evaluate(self.network, x)[-1]


def _attacked(question: _Question, effort: _Effort) -> tuple[Counterexample | None, bool]:
    """Descends from the middle of the box and from random points, all at once.

    Returns:
        A counterexample, and whether float32 and float64 disagree at the best points.
    """
    starts, steps = effort
    region = question.region.rows(torch.zeros(starts, dtype=torch.int64))
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(region.start.shape, generator=generator, dtype=torch.float64) * 2 - 1
    noise[0] = 0
    region = region._replace(start=region.start + region.reach * noise)
    unsafe = question.case.unsafe.rows([0] * starts)
    found = descend(_Layers(question.network), region, unsafe, steps)
    disagree = False
    for place, i in enumerate(found.margins.argsort().tolist()):
        if found.margins[i] > 0 and place:  # the best one may be one in float32 all the same
            break
        checked = _checked(question, point := _rounded(question, found.adversarials[i]))
        if checked.check == "ok":
            return _counterexample(question, point), disagree
        disagree = disagree or checked.disagree
    return None, disagree


def _rounded(question: _Question, point: Tensor) -> Tensor:
    """To float32 numbers inside the box, where there are any; (*shape), still in float64."""
    low, high = question.region.low[0], question.region.high[0]
    single = point.float()
    single = torch.where(single.double() < low, torch.nextafter(single, single + 1), single)
    single = torch.where(single.double() > high, torch.nextafter(single, single - 1), single)
    inside = (single.double() >= low) & (single.double() <= high)
    return torch.where(inside, single.double(), point.clamp(low, high))


def _checked(question: _Question, point: Tensor) -> Checked:
    """Runs a candidate through ONNX's own implementation, in float64 and as deployed."""
    x, region = point.numpy().ravel(), question.region
    exact, deployed = (
        margin(question.case.unsafe, torch.from_numpy(run(x)).double()[None]).item()
        for run in (question.model.exact, question.model.deployed)
    )
    near, disagree = at_boundary(exact, deployed), (exact <= 0) != (deployed <= 0)
    if not ((point >= region.low[0]) & (point <= region.high[0])).all():
        return Checked("outside the box", exact, near)
    if exact > 0:
        return Checked("float64 margin > 0", exact, near, disagree)
    return Checked("ok" if deployed <= 0 else "float32 margin > 0", exact, near, disagree)


def _confirmed(question: _Question, point: Tensor) -> tuple[Tensor, Checked]:
    """A point (1, *shape), or one a few gradient steps away, run through the network again."""
    region = question.region
    points = [_rounded(question, point[0])]
    for part in (10, 1):
        near = region._replace(start=point, reach=region.reach / part)
        moved = descend(_Layers(question.network), near, question.case.unsafe, _POLISH_STEPS)
        points.append(_rounded(question, moved.adversarials[0]))
    results = [_checked(question, one) for one in points]
    best = min(range(3), key=lambda i: (results[i].check != "ok", results[i].margin))
    return points[best], results[best]


def _counterexample(question: _Question, point: Tensor) -> Counterexample:
    x = point.numpy().ravel()
    return Counterexample(x, question.model.deployed(x).astype(np.float64))
