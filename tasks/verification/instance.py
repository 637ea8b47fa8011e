"""ONNX networks and a VNN-LIB property about them: is its unsafe region reached?"""

import math
import time
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_intervals
from robsweep.tasks.verification.cascade import Cascade
from robsweep.tasks.verification.optimise.solver import Deadline, solver_named
from robsweep.tasks.verification.problem import Method, Problem
from robsweep.tasks.verification.reading.layers import Network, evaluate, in_float32
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property, margin
from robsweep.tasks.verification.reading.vnnlib.file import Case
from robsweep.tasks.verification.search.counterexamples import Checked, Region, at_boundary, descend
from robsweep.tasks.verification.search.slack import Ends, is_joint, roomiest
from robsweep.tasks.verification.softmax import of_logits
from robsweep.tasks.verification.system import Assigned, Files, System, assignment, system_of
from robsweep.tasks.verification.verdicts import DISAGREE, Row

Answer = Literal["sat", "unsat", "unknown", "timeout"]
_POLISH_STEPS = 10


class _Effort(NamedTuple):
    starts: int
    steps: int
    deepened: int  # how many of the points found are moved on by linear programs
    drawn: int  # random points, the best of which are half of the starts


# before the bounds, and for what they leave
_QUICK, _LONG = _Effort(3, 12, 1, 0), _Effort(20, 50, 5, 2**15)
_AT_ONCE = 2**22  # numbers in one value of points that are drawn
_ENDS = 0.3  # of their inputs are at an end of the box, in half of them
_ROUNDS = 12  # of linear programs
_NEAR = 1e-3  # of the box: how far the first of them may move a solver's point


class Counterexample(NamedTuple):
    """Of all networks, one behind the other."""

    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]  # as the networks compute them in their own precision
    variables: tuple[Assigned, ...] = ()  # of a query of version 2

    def text(self) -> str:
        """In the format of VNN-COMP."""
        lines = [f"(X_{i} {float(value)!r})" for i, value in enumerate(self.inputs)]
        lines += [f"(Y_{i} {float(value)!r})" for i, value in enumerate(self.outputs)]
        return "(" + "\n".join(lines) + ")\n"

    def assignment(self) -> str:
        """In the format of the VNN-LIB standard; of version 1, with X and Y as vectors."""
        lines = []
        for name, kind, shape, values in self._named():
            lines.append(f"{name} {kind} [{','.join(map(str, shape))}]")
            whole = kind.startswith("int")
            lines += [repr(int(value) if whole else float(value)) for value in values]
        return "".join(f"{line}\n" for line in lines)

    def tensors(self) -> dict[str, bytes]:
        """Serialised TensorProtos by variable, in float32 where that holds the values."""
        from onnx import numpy_helper

        found = {}
        for name, kind, shape, values in self._named():
            single = values.astype(np.float32)
            plain = kind != "float64" and bool((single == values).all())
            array = (single if plain else values).reshape(shape)
            if kind.startswith("int"):
                array = array.astype(kind)
            found[name] = numpy_helper.from_array(array, name).SerializeToString()
        return found

    def _named(self) -> list[tuple[str, str, tuple[int, ...], NDArray[np.float64]]]:
        if not self.variables:
            both = (("X", self.inputs), ("Y", self.outputs))
            return [(name, "real", values.shape, values) for name, values in both]
        return [(v.name, v.kind, v.shape, values) for v, values in self.variables]


class Outcome(NamedTuple):
    answer: Answer
    decided_by: str
    seconds: float = 0.0
    counterexample: Counterexample | None = None
    why: str | None = None  # an unknown is one, where it is known


class _Question(NamedTuple):
    system: System
    network: Network
    case: Case
    unsafe: Property  # the case's, of what the layers of the network compute
    box: Bounds  # the case's, as one sample of the network's input shape
    region: Region  # of it, what satisfies strict inequalities too


def verify(
    onnx: Files,
    vnnlib: str,
    limit: float | None = None,
    solver: str = "scip",
    stages: frozenset[str] = frozenset(STAGES),
) -> Outcome:
    """Decides by attack, bounds, more attack, branching, and one MILP for each disjunct left.

    Args:
        onnx: The network, or each network by its name in the query.
        limit: Seconds for everything together.
        solver: A name in `solver.SOLVERS`.

    Raises:
        InputError: Anything wrong with the files or options, before any solve.
    """
    started = time.monotonic()
    if limit is not None and not limit > 0:
        raise InputError(f"time limit {limit}: must be above 0")
    method = Method(stages, solver_named(solver))
    deadline = Deadline(started, limit)
    system = system_of(onnx, vnnlib)
    if system.asked.empty is not None:
        why = f"no input satisfies it: {system.asked.empty}"
        return Outcome("unsat", "empty box", time.monotonic() - started, why=why)
    system.check()
    questions = [_question(system, case) for case in system.asked.cases]
    outcome = Outcome("unsat", "")
    for question in questions:
        found = _decided(question, method, deadline)
        if found.answer == "sat" or outcome.answer == "unsat":
            outcome = found
        elif found.answer == "timeout":
            outcome = outcome._replace(answer="timeout")
        if outcome.answer == "sat":
            break
    return outcome._replace(seconds=time.monotonic() - started)


def _question(system: System, case: Case) -> _Question:
    network = system.network
    shape = (1, *network.shapes[0])
    box = Bounds(*(torch.from_numpy(end).reshape(shape) for end in (case.lower, case.upper)))
    low, high = (torch.from_numpy(end).reshape(shape) for end in case.inner())
    region = Region(low + (high - low) / 2, low, high, (high - low) / 2)
    asked = of_logits(network, box, case, system.query.file)
    if not asked.deployed:
        network = network.over_reals()
    return _Question(system, network, case, asked.unsafe, box, region)


def _decided(question: _Question, method: Method, deadline: Deadline) -> Outcome:
    stages = method.stages
    problem = Problem(question.network, question.box, question.unsafe)
    disagree = False
    if "attack" in stages:
        found, disagree = _attacked(question, _QUICK, deadline)
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
        found, again = _attacked(question, _LONG, deadline)
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


def _attacked(
    question: _Question, effort: _Effort, deadline: Deadline
) -> tuple[Counterexample | None, bool]:
    """Descends from the middle of the box and from random points, all at once.

    Where none gets there and a disjunct has several constraints, the best are moved on to where
    all of them have most room.

    Returns:
        A counterexample, and whether its own precision and float64 disagree at the best points.
    """
    starts, steps = effort.starts, effort.steps
    region = question.region.rows(torch.zeros(starts, dtype=torch.int64))
    region = region._replace(start=_starts(question, effort))
    unsafe = question.unsafe.rows([0] * starts)
    found = descend(_Layers(question.network), region, unsafe, steps)
    disagree = False
    order = found.margins.argsort().tolist()
    for place, i in enumerate(order):
        if found.margins[i] > 0 and place:  # the best one may be one in float32 all the same
            break
        checked = _checked(question, point := _rounded(question, found.adversarials[i]))
        if checked.check == "ok":
            return _counterexample(question, point), disagree
        disagree = disagree or checked.disagree
    for i in order[: effort.deepened if is_joint(question.unsafe) else 0]:
        if deadline.passed():
            break
        point = _rounded(question, _deepened(question, found.adversarials[i]))
        checked = _checked(question, point)
        if checked.check == "ok":
            return _counterexample(question, point), disagree
        disagree = disagree or checked.disagree
    return None, disagree


def _starts(question: _Question, effort: _Effort) -> Tensor:
    """The middle of the box, random points of it, and the best of many others: (starts, *shape)."""
    region, shape = question.region, question.network.shapes[0]
    generator = torch.Generator().manual_seed(0)

    def drawn(count: int) -> Tensor:
        return torch.rand((count, *shape), generator=generator, dtype=torch.float64)

    noise = drawn(effort.starts) * 2 - 1
    noise[0] = 0
    widest = max(torch.Size(one).numel() for one in question.network.shapes)
    many = min(effort.drawn, _AT_ONCE // widest)
    if many > effort.starts:
        more = drawn(many) * 2 - 1
        ends = drawn(len(more) // 2) < _ENDS
        more[: len(ends)] = torch.where(ends, more[: len(ends)].sign(), more[: len(ends)])
        points = (region.start + region.reach * more).float()
        unsafe = question.unsafe.rows([0] * len(more))
        with torch.no_grad():
            outputs = evaluate(in_float32(question.network), points)[-1]
        best = margin(unsafe, outputs).nan_to_num(torch.inf).argsort()
        some = effort.starts // 2
        noise[some:] = more[best[: effort.starts - some]]
    return region.start + region.reach * noise


def _deepened(question: _Question, point: Tensor, reach: float = 0.25) -> Tensor:
    box = Ends(question.region.low[0], question.region.high[0])
    return roomiest(question.network, box, question.unsafe, point, _ROUNDS, reach)


def _rounded(question: _Question, point: Tensor) -> Tensor:
    """To numbers inside the box that the network can be given, where there are any.

    Args:
        point: (*shape), float64 as what is returned.
    """
    low, high = question.region.low[0], question.region.high[0]
    if question.system.precision == np.float64:
        return point.clamp(low, high)
    single = point.float()
    ends = torch.full_like(single, torch.inf)
    single = torch.where(single.double() < low, torch.nextafter(single, ends), single)
    single = torch.where(single.double() > high, torch.nextafter(single, -ends), single)
    inside = (single.double() >= low) & (single.double() <= high)
    return torch.where(inside, single.double(), point.clamp(low, high))


def _checked(question: _Question, point: Tensor) -> Checked:
    """Runs a candidate through ONNX's own implementation, in float64 and as deployed."""
    x, region = point.numpy().ravel(), question.region
    outputs = [
        run(x).astype(np.float64) for run in (question.system.exact, question.system.deployed)
    ]
    exact, deployed = (
        margin(question.case.unsafe, torch.from_numpy(one)[None]).item() for one in outputs
    )
    near, finite = at_boundary(exact, deployed), bool(np.isfinite(outputs[1]).all())
    reached = finite and question.case.reached(outputs[1].tolist())
    disagree = not finite or (exact <= 0) != (deployed <= 0 or reached)
    if not ((point >= region.low[0]) & (point <= region.high[0])).all():
        return Checked("outside the box", exact, near)
    if not (finite and np.isfinite(outputs[0]).all()):
        return Checked("outputs not finite", exact, near, disagree)
    if exact > 0:
        return Checked("float64 margin > 0", exact, near, disagree)
    return Checked("ok" if reached else "float32 margin > 0", exact, near, disagree)


def _confirmed(question: _Question, point: Tensor) -> tuple[Tensor, Checked]:
    """A point (1, *shape), or one a few steps away, run through the network again."""
    region = question.region
    points = [_rounded(question, point[0])]
    for part in (10, 1):
        near = region._replace(start=point, reach=region.reach / part)
        moved = descend(_Layers(question.network), near, question.unsafe, _POLISH_STEPS)
        points.append(_rounded(question, moved.adversarials[0]))
    if is_joint(question.unsafe):
        points.append(_rounded(question, _deepened(question, point[0], _NEAR)))
    results = [_checked(question, one) for one in points]
    best = min(range(len(points)), key=lambda i: (results[i].check != "ok", results[i].margin))
    return points[best], results[best]


def _counterexample(question: _Question, point: Tensor) -> Counterexample:
    x, system = point.numpy().ravel(), question.system
    variables = tuple(assignment(system, x)) if system.query.networks else ()
    return Counterexample(system.all_inputs(x), system.outputs(x), variables)
