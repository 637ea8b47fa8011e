"""Whether a certificate proves what it claims: accepted, or why not."""

import time
from typing import NamedTuple

import numpy as np

from robsweep.tasks.certificates.arithmetic import Arithmetic, Array, UnfitError
from robsweep.tasks.certificates.certificate import (
    STEPS,
    Certificate,
    Claim,
    Leaf,
    Node,
    RefusedError,
    Split,
    decoded,
)
from robsweep.tasks.certificates.network import Disjunct, Network, Question, Relu
from robsweep.tasks.certificates.passes import Choice, Known, Passes

SMALL = 2500  # entries of all matrices together: such networks are checked in rationals


class Checked(NamedTuple):
    accepted: bool
    why: str  # it is not; else in which arithmetic it was checked
    leaves: int = 0
    seconds: float = 0.0


class _Sign(NamedTuple):
    value: int
    unit: int
    sign: int  # 1: at least 0


def check(
    network: Network, question: Question, content: bytes, *, exact: bool | None = None
) -> Checked:
    """Checks a certificate as it is stored, trusting nothing in it.

    Args:
        exact: In rationals, or in float64 rounded outward; by the network's size without it.
    """
    started = time.monotonic()
    arithmetic = Arithmetic(network.entries() <= SMALL if exact is None else exact)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
            leaves = _checked(network, question, decoded(content), arithmetic)
    except RefusedError as error:
        return Checked(False, str(error), 0, time.monotonic() - started)
    except RecursionError:
        return Checked(False, "its tree is too deep", 0, time.monotonic() - started)
    how = "rationals" if arithmetic.exact else "float64"
    return Checked(True, how, leaves, time.monotonic() - started)


def _checked(
    network: Network, question: Question, certificate: Certificate, arithmetic: Arithmetic
) -> int:
    if certificate.network != network.digest():
        raise RefusedError("of another network")
    if certificate.question != question.digest():
        raise RefusedError("of another question: its box or its unsafe region is another one")
    if len(certificate.trees) != len(question.unsafe):
        trees, parts = len(certificate.trees), len(question.unsafe)
        raise RefusedError(f"{trees} trees for an unsafe region of {parts} parts")
    try:
        checker = Checker(network, arithmetic)
        known = checker.start(question, certificate.claims)
        for unsafe, tree in zip(question.unsafe, certificate.trees, strict=True):
            checker.node(tree, known, unsafe, ())
    except UnfitError as error:
        raise RefusedError(str(error)) from error
    return certificate.leaves()


class Checker:
    """A network, ready for the nodes of trees."""

    def __init__(self, network: Network, arithmetic: Arithmetic) -> None:
        self.network, self.arithmetic = network, arithmetic
        self.passes = Passes(network, arithmetic)
        self.sizes = network.sizes()

    def start(self, question: Question, claims: tuple[Claim, ...]) -> Known:
        """Bounds over the whole box, after the claims about it.

        Raises:
            RefusedError: A claim does not hold, as far as one backward pass tells.
        """
        if len(question.lower) != self.network.inputs:
            raise RefusedError("a box of another size than the network's input")
        known = self.passes.start(question.lower, question.upper)
        self._claims(claims, known)
        return known

    def node(self, node: Node, known: Known, unsafe: Disjunct, signs: tuple[_Sign, ...]) -> None:
        """Shows that a part of the box has no outputs in a disjunct.

        Args:
            known: Bounds in that part; used up.
            signs: Of the ReLUs that are split above it.

        Raises:
            RefusedError: It does not show it.
        """
        if node.claims:
            known = known.copied()
            self._claims(node.claims, known)
        if known.empty():
            return  # no input is left in it
        if isinstance(node.what, Leaf):
            self._leaf(node.what, known, unsafe, signs)
            return
        split = node.what
        for part, sign in zip(split.parts, (1, -1), strict=True):
            inside = known.copied()
            further = self._cut(split, inside, sign)
            self.node(part, inside, unsafe, (*signs, *further))

    def _claims(self, claims: tuple[Claim, ...], known: Known) -> None:
        for claim in claims:
            if not claim.value < len(self.sizes):
                raise RefusedError(f"value {claim.value} is none of the network's")
            if claim.lower is None and claim.upper is None:
                self.passes.bound(known, claim.value)
            for side, ends, bounds in (
                (1, claim.lower, known.lower[claim.value]),
                (-1, claim.upper, known.upper[claim.value]),
            ):
                if ends is None or not ends.units:
                    continue
                units = self._units(claim.value, ends.units)
                claimed = self.arithmetic.array(ends.ends)
                found = self.passes.unit_bounds(known, claim.value, units, side)
                if bool((side * (found - claimed) < 0).any()):
                    unit = int(units[np.argmin(side * (found - claimed))])
                    name = "lower" if side > 0 else "upper"
                    raise RefusedError(
                        f"the {name} bound claimed of unit {unit} of value {claim.value} "
                        "does not follow"
                    )
                better = np.maximum if side > 0 else np.minimum
                bounds[units] = better(bounds[units], claimed)
            self.passes.forward(known, claim.value)

    def _cut(self, split: Split, known: Known, sign: int) -> tuple[_Sign, ...]:
        """Bounds in one part of a split; the sign of a ReLU that it gives."""
        if split.kind == "input":
            (unit,) = self._units(0, (split.unit,))
            at = self.arithmetic.array([split.at])[0]
            if sign > 0:
                known.upper[0][unit] = min(known.upper[0][unit], at)
            else:
                known.lower[0][unit] = max(known.lower[0][unit], at)
            self.passes.forward(known)
            return ()
        value = split.value
        relu = value < len(self.network.layers) and isinstance(self.network.layers[value], Relu)
        if not relu:
            raise RefusedError(f"a split of value {value}, which enters no ReLU")
        (unit,) = self._units(value, (split.unit,))
        zero = self.arithmetic.zeros(1)[0]
        if sign > 0:
            known.lower[value][unit] = max(known.lower[value][unit], zero)
        else:
            known.upper[value][unit] = min(known.upper[value][unit], zero)
        return (_Sign(value, int(unit), sign),)

    def _leaf(self, leaf: Leaf, known: Known, unsafe: Disjunct, signs: tuple[_Sign, ...]) -> None:
        if not leaf.row < len(unsafe.bias):
            raise RefusedError(f"a leaf is about row {leaf.row}, which its disjunct does not have")
        if leaf.multipliers and len(leaf.multipliers) != len(signs):
            raise RefusedError(
                f"a leaf has {len(leaf.multipliers)} multipliers for {len(signs)} splits"
            )
        slopes = {}
        for some in leaf.slopes:
            if any(part > STEPS for part in some.parts):
                raise RefusedError(f"a slope at value {some.value} is above 1")
            parts = self.arithmetic.array(some.parts) / STEPS
            slopes[some.value] = (self._units(some.value, some.units), parts)
        pushes: dict[int, Array] = {}
        for (value, unit, sign), multiplier in zip(signs, leaf.multipliers, strict=False):
            if multiplier < 0:
                raise RefusedError("a multiplier is below 0")
            if value not in pushes:
                pushes[value] = self.arithmetic.zeros(self.sizes[value])
            push = pushes[value]
            # if it is split once more, the sum is rounded, and still of its sign
            push[unit] = push[unit] - sign * self.arithmetic.array([multiplier])[0]
        row = self.arithmetic.array(unsafe.weight[leaf.row : leaf.row + 1])
        constant = self.arithmetic.array(unsafe.bias[leaf.row : leaf.row + 1])
        last = len(self.network.layers)
        (least,) = self.passes.lowest(known, last, row, constant, Choice(slopes, pushes))
        if not least > 0:
            raise RefusedError(f"a leaf shows {float(least):.3g} only, which is not above 0")

    def _units(self, value: int, units: tuple[int, ...]) -> np.ndarray:
        if not value < len(self.sizes) or any(unit >= self.sizes[value] for unit in units):
            raise RefusedError(f"a unit of value {value} that is none of the network's")
        return np.array(units, dtype=np.int64)
