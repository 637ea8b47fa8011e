"""What a property about probabilities says about the logits that a softmax ends in.

The region of logits is at least as large as the one of probabilities, so what is proved of the
logits holds of the probabilities as they are computed: p_i is, in float32, its exact value times a
factor within e^(+-eta). For a comparison of two probabilities nothing else is lost.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.reading.layers import UNIT, Network
from robsweep.tasks.verification.reading.properties import Property
from robsweep.tasks.verification.reading.vnnlib.file import Case
from robsweep.tasks.verification.reading.vnnlib.formula import Row

Group = tuple[int, ...]  # places among the outputs
_UNITS = 40  # of a subtraction, an exponential, a sum and a division, beside the sum's own
# By how much logits may differ so that no exponential vanishes, in float32 and float64, and the
# logarithm of their number, so that no probability does.
_FURTHEST = {True: 80.0, False: 700.0}


class _Form(NamedTuple):
    """weight @ outputs + bias <= 0."""

    weight: dict[int, float]
    bias: float


class OfLogits(NamedTuple):
    unsafe: Property
    deployed: bool  # whether what is proved holds as the network runs


def of_logits(network: Network, box: Bounds, case: Case, file: str) -> OfLogits:
    """A case's property about the network without its softmaxes, over its box.

    Raises:
        InputError: A constraint on several probabilities that does not just compare two of them.
    """
    if not network.softmaxes:
        return OfLogits(case.unsafe, deployed=True)
    logits = crown(network, box)[-1]
    slacks = {part: _slack(network, logits, part) for part in network.softmaxes}
    deployed = True
    disjuncts: list[list[_Form]] = []
    for rows in case.disjuncts:
        choices: list[list[_Form]] = [[]]
        for row in rows:
            ways, exact = _ways(row, slacks, file)
            deployed = deployed and exact
            choices = [[*one, *way] for one in choices for way in ways]
        disjuncts += choices
    unsafe = _property(disjuncts, case.unsafe.weight.shape[3])
    return OfLogits(unsafe, deployed)


def _slack(network: Network, logits: Bounds, part: Group) -> float:
    """Eta; infinite where an exponential may vanish."""
    low, high = (end[0, list(part)] for end in logits)
    reach = float(high.max() - low.min())
    # the least probability is no less than e^-reach / K, which must be a normal number
    if not reach + math.log(len(part)) < _FURTHEST[network.unit == UNIT]:
        return math.inf
    return network.unit * (_UNITS + 2 * reach + len(part))


def _ways(row: Row, slacks: dict[Group, float], file: str) -> tuple[list[list[_Form]], bool]:
    """Conjunctions, one of which holds where the row does; and whether they do as it runs."""
    weight = {place: float(value) for place, value in row.weight.items()}
    inside = {part for part in slacks for place in weight if place in part}
    if not inside:
        return [[_Form(weight, float(row.constant))]], True
    at = f"{file}: line {row.line}"
    if len(inside) > 1 or not all(place in one for place in weight for one in inside):
        raise InputError(f"{at}: compares what a softmax returns with something else")
    (part,) = inside
    known = math.isfinite(slacks[part])
    eta = slacks[part] if known else 0.0
    values = sorted(weight.items(), key=lambda one: one[1])
    if len(values) == 2 and values[0][1] == -values[1][1] and not row.constant:
        (small, _), (large, _) = values  # p of the second is no more than p of the first
        return [[_Form({large: 1.0, small: -1.0}, -2 * eta)]], known
    if len(values) != 1:
        raise InputError(
            f"{at}: of what a softmax returns, two can be compared, or one with a number"
        )
    ((place, value),) = values
    level, at_most = -float(row.constant) / value, value > 0
    if row.strict and (level <= 0 if at_most else level >= 1):
        return [], True  # it is a part of a sum of what is not negative
    return _of_one(place, part, level, eta, at_most=at_most), known


def _of_one(
    place: int, part: Group, level: float, eta: float, *, at_most: bool
) -> list[list[_Form]]:
    """Where a probability is at most, or at least, some level."""
    others = [other for other in part if other != place]
    if at_most:
        level *= 1 + 1e-12 + 2 * eta
        if level >= 1:
            return [[_Form({}, -1.0)]]
        if level < 0 or not others:
            return []
        # some other one is e^far times as probable as this one
        far = math.log((1 / level - 1) / len(others)) if level else math.inf
        far = min(far - 2 * eta - 1e-12 * (1 + abs(far)), 1e6)
        return [[_Form({place: 1.0, other: -1.0}, far)] for other in others]
    level *= 1 - 1e-12 - 2 * eta
    if level <= 0 or not others:
        return [[_Form({}, -1.0)]] if level <= 1 else []
    if level >= 1:
        return []
    far = math.log(1 / level - 1)
    far = far + 2 * eta + 1e-12 * (1 + abs(far))
    return [[_Form({other: 1.0, place: -1.0}, -far) for other in others]]


def _property(disjuncts: list[list[_Form]], size: int) -> Property:
    """With one that is never reached if there is none."""
    disjuncts = disjuncts or [[_Form({}, math.inf)]]
    longest = max(map(len, disjuncts))
    weight: Tensor = torch.zeros(1, len(disjuncts), longest, size, dtype=torch.float64)
    bias = torch.zeros(1, len(disjuncts), longest, dtype=torch.float64)
    for d, forms in enumerate(disjuncts):
        for c in range(longest):
            form = forms[min(c, len(forms) - 1)]
            for place, value in form.weight.items():
                weight[0, d, c, place] = value
            bias[0, d, c] = form.bias
    return Property(weight, bias)
