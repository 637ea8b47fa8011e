"""Bounds on what enters a ReLU or max pooling, tightened by optimisation, layer after layer.

Source: Tjeng et al. 2019, section 4.2, progressive bounds tightening.
"""

import math
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.optimise.child import SolverDiedError, SolverLateError, replies
from robsweep.tasks.verification.optimise.milp import Milp, encode
from robsweep.tasks.verification.optimise.solver import (
    Deadline,
    Parameters,
    Race,
    answers,
    checked_parameters,
    form_arrays,
    meaning,
    program_arrays,
)
from robsweep.tasks.verification.reading.layers import (
    BENT,
    MaxPool,
    Network,
    Relu,
    evaluate,
    is_exact,
    windows,
)
from robsweep.tasks.verification.reading.properties import Property

LP_COMMAND = ("-P", "-m", "robsweep.tasks.verification.optimise.lp_process")
_ROUNDING = 1e-11  # as in `intervals`: of a form's coefficients
_PATIENCE = 5.0  # seconds for one question to a MILP solver


class Effort(NamedTuple):
    """How a sample's bounds are tightened, and the parameters of the solver that comes after."""

    tightening: str = "none"
    parameters: Parameters = ()


PLAIN = Effort()


def effort_of(parameters: Mapping[str, Any]) -> Effort:
    """What a verifier's parameters solver, tightening and solver_parameters ask for.

    Raises:
        InputError: One that is unknown, or refused by the solver.
    """
    tightening = parameters.get("tightening", "none")
    if tightening not in METHODS:
        raise InputError(f"unknown tightening {tightening!r}; known are {', '.join(METHODS)}")
    own = checked_parameters(parameters["solver"], parameters.get("solver_parameters", {}))
    return Effort(tightening, own)


def tightened(
    network: Network, bounds: list[Bounds], solver: str, effort: Effort, deadline: Deadline
) -> list[Bounds]:
    """One sample's bounds on all values, or tighter ones.

    Undecided inputs of each layer are bounded over the layers before it; the later layers' bounds
    are derived again from what that gives. Ends at the deadline; where a solver fails, what it had
    found until then counts.

    Args:
        bounds: On each value, each (1, *shape).
        solver: MathOpt's name of the one for MILPs.
    """
    for value in range(1, len(network.layers)):
        prefix = network.up_to(value)
        if not is_exact(prefix):
            return bounds
        if not any(isinstance(layer, BENT) for layer in prefix.layers[:-1]):
            continue  # as in CROWN
        for ask, readers in METHODS[effort.tightening]:
            units = _undecided(network, bounds[value], value, readers)
            if deadline.passed():
                return bounds
            if len(units):
                before = bounds[: value + 1]
                question = _Question(prefix, before, units, solver, effort.parameters, deadline)
                found = _Found(bounds[value], units)
                with suppress(SolverDiedError, SolverLateError):
                    ask(question, found)
                within = [*bounds[:value], found.bounds(), *bounds[value + 1 :]]
                bounds = crown(network, bounds[0], within=within)
    return bounds


class _Question(NamedTuple):
    """Some units of the last value of a network."""

    network: Network
    bounds: list[Bounds]
    units: Tensor  # (U,) int64, into the flattened value
    solver: str
    parameters: Parameters
    deadline: Deadline

    def program(self) -> Milp:
        """With the units, and nothing else, as its logits."""
        units = self.units.cpu().numpy()
        milp = encode(self.network, self.bounds)
        return milp._replace(
            logits=milp.logits[units], offset=milp.offset[units], slack=milp.slack[units]
        )


class _Found:
    """Bounds on some units of a value, as far as they have been found."""

    def __init__(self, before: Bounds, units: Tensor) -> None:
        self.shape, self.units = before.lower.shape, units
        self.lower, self.upper = (end.flatten().clone() for end in before)

    def at_least(self, i: int, least: float) -> None:
        unit = self.units[i]
        self.lower[unit] = max(self.lower[unit].item(), least)

    def at_most(self, i: int, most: float) -> None:
        unit = self.units[i]
        self.upper[unit] = min(self.upper[unit].item(), most)

    def bounds(self) -> Bounds:
        return Bounds(self.lower.reshape(self.shape), self.upper.reshape(self.shape))


def _by_lp(question: _Question, found: _Found) -> None:
    """Over the linear relaxation: certified by the duals, so the solver need not be trusted."""
    milp = question.program()
    reach = np.maximum(np.abs(milp.lower), np.abs(milp.upper))
    blur = milp.slack + _ROUNDING * (abs(milp.logits) @ reach + np.abs(milp.offset))
    problem = {
        **program_arrays(milp),
        **form_arrays(milp),
        "deadline": question.deadline.at(),
    }
    count, until = len(milp.offset), question.deadline.at()
    with closing(replies(LP_COMMAND, problem, count, until)) as ends:
        for i, (lower, upper) in enumerate(ends):
            found.at_least(i, lower + milp.offset[i] - blur[i])
            found.at_most(i, upper + milp.offset[i] + blur[i])


def _by_mip(question: _Question, found: _Found) -> None:
    """Whether a unit is always on, or always off, whichever it is in the middle of the box."""
    box, count = question.bounds[0], len(question.units)
    middle = evaluate(question.network, (box.lower + box.upper) / 2)[-1].flatten()
    on = (middle[question.units] > 0).cpu()
    sides = torch.diag(torch.where(on, 1.0, -1.0).double())
    unsafe = Property(sides[None, :, None], torch.zeros((1, count, 1), dtype=torch.float64))
    lower, upper = (end.flatten()[question.units].cpu() for end in question.bounds[-1])
    lacking = torch.where(on, -lower, upper)
    race = Race(
        question.solver,
        unsafe,
        tuple(lacking.argsort().tolist()),  # those first that lack least
        question.deadline,
        question.parameters,
        _PATIENCE,
    )
    with closing(answers(question.program(), race)) as found_answers:
        for answer in found_answers:
            if meaning(answer) == "proof":  # that sides * unit > BOUNDARY
                if on[answer.disjunct]:
                    found.at_least(answer.disjunct, 0.0)
                else:
                    found.at_most(answer.disjunct, 0.0)


METHODS: dict[str, tuple[tuple[Callable[[_Question, _Found], None], tuple[type, ...]], ...]] = {
    "none": (),
    "lp": ((_by_lp, (Relu, MaxPool)),),
    "mip": ((_by_lp, (Relu, MaxPool)), (_by_mip, (Relu,))),
}


def _undecided(network: Network, bounds: Bounds, value: int, readers: tuple[type, ...]) -> Tensor:
    """Units of a value that a layer of these types cannot tell how to treat: (U,) int64."""
    lower, upper = bounds
    undecided = torch.zeros_like(lower, dtype=torch.bool)
    for layer, read in zip(network.layers, network.inputs, strict=True):
        if value in read and isinstance(layer, readers):
            if isinstance(layer, Relu):
                undecided |= (lower < 0) & (upper > 0)
            elif isinstance(layer, MaxPool):
                undecided |= contending(layer, bounds)
    return undecided.flatten().nonzero().flatten()


def contending(layer: MaxPool, bounds: Bounds) -> Tensor:
    """Which inputs may be the largest of a window that has several such: (1, *shape) bool."""
    lower, upper = bounds
    places = torch.arange(lower.numel(), dtype=torch.float64, device=lower.device)
    place = windows(layer, places.reshape(lower.shape), -1.0)
    best = windows(layer, lower, -math.inf).amax(-1, keepdim=True)
    needed = windows(layer, upper, -math.inf) > best
    open_ones = place[needed & (needed.sum(-1, keepdim=True) > 1)].long()
    contending = torch.zeros(lower.numel(), dtype=torch.bool, device=lower.device)
    contending[open_ones] = True
    return contending.reshape(lower.shape)
