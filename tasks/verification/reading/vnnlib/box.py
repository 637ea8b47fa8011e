"""The box that a VNN-LIB file asks about."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import inf, isfinite, nextafter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.vnnlib.formula import Row

_ROUNDS = 20  # of carrying bounds from inputs to others that constraints tie them to


class Box(NamedTuple):
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    above: NDArray[np.bool_]  # the lower end itself is outside
    below: NDArray[np.bool_]

    @staticmethod
    def around(inputs: int) -> "Box":
        low, high = np.full(inputs, -np.inf), np.full(inputs, np.inf)
        return Box(low, high, np.zeros(inputs, dtype=bool), np.zeros(inputs, dtype=bool))

    def within(self, rows: Iterable[Row], first: int, file: str) -> "Box":
        """Cut by constraints on single inputs.

        Args:
            first: The place of the first input among the variables.
        """
        box = Box(self.lower.copy(), self.upper.copy(), self.above.copy(), self.below.copy())
        for row in rows:
            ((place, value),) = row.weight.items()
            i = place - first
            end = nearest(-row.constant / value, lambda row=row: f"{file}: line {row.line}")  # type: ignore[misc]
            ends, strict = (box.upper, box.below) if value > 0 else (box.lower, box.above)
            nearer = end < ends[i] if value > 0 else end > ends[i]
            if nearer or end == ends[i]:
                strict[i] = row.strict or (strict[i] and not nearer)
                ends[i] = end
        return box

    def empty(self) -> int | None:
        """An input for which nothing is left."""
        either = self.above | self.below
        wrong = (self.lower > self.upper) | ((self.lower == self.upper) & either)
        return int(np.flatnonzero(wrong)[0]) if wrong.any() else None

    def free(self) -> int | None:
        wrong = ~np.isfinite(self.lower) | ~np.isfinite(self.upper)
        return int(np.flatnonzero(wrong)[0]) if wrong.any() else None

    def filled(self, rows: Sequence[Row], first: int) -> "Box":
        """With ends, where there were none, that linear constraints on several inputs imply."""
        lower, upper = self.lower.tolist(), self.upper.tolist()
        for _ in range(_ROUNDS):
            before = (list(lower), list(upper))
            for row in rows:
                for place, value in row.weight.items():
                    i = place - first
                    if isfinite((upper if value > 0 else lower)[i]):
                        continue
                    others = [(p - first, w) for p, w in row.weight.items() if p != place]
                    ends = [(lower if w > 0 else upper)[j] for j, w in others]
                    if not all(map(isfinite, ends)):
                        continue
                    total = sum(w * Fraction(e) for (_, w), e in zip(others, ends, strict=True))
                    end = -(row.constant + total) / value
                    if value > 0:
                        upper[i] = _outward(end, inf)
                    else:
                        lower[i] = _outward(end, -inf)
            if before == (lower, upper):
                break
        return self._replace(lower=np.array(lower), upper=np.array(upper))


def _outward(number: Fraction, to: float) -> float:
    try:
        near = float(number)
    except OverflowError:
        return to
    return nextafter(near, to)


def nearest(number: Fraction, at: Callable[[], str]) -> float:
    """Float64, in which no number but 0 becomes 0.

    Raises:
        InputError: It is beyond float64.
    """
    try:
        near = float(number)
    except OverflowError:
        raise InputError(f"{at()}: a number is beyond what float64 can hold") from None
    return nextafter(0.0, inf if number > 0 else -inf) if number and not near else near
