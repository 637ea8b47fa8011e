"""Bounds on a network's values: intervals forward, linear forms backward.

Each ReLU that is neither on nor off lies between two lines. Above: one of any slope s, raised
until both ends of its bounds are below it, `t = max(-s l, u - s u)`, so s itself need not be exact.
Below: one through 0 of any slope from 0 to 1. What is given of the sign of a ReLU may be added,
times any multiplier >= 0.
Source: Zhang et al. 2018 (CROWN), section 3; Wang et al. 2021 (beta-CROWN), section 3.1.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from robsweep.tasks.certificates.arithmetic import LARGEST, Arithmetic, Array, Matrix, UnfitError
from robsweep.tasks.certificates.network import Affine, Max, Network, Relu

_ROOM = 2**23  # numbers in one array of forms


class Known(NamedTuple):
    """Bounds on each value so far, (n,) each; where lower > upper, no input is left."""

    lower: list[Array]
    upper: list[Array]
    reach: list[Array | None]  # of each affine layer: the sum of its terms' sizes

    def copied(self) -> "Known":
        return Known(
            [one.copy() for one in self.lower], [one.copy() for one in self.upper], [*self.reach]
        )

    def empty(self) -> bool:
        return any(
            bool((low > high).any()) for low, high in zip(self.lower, self.upper, strict=True)
        )


class Choice(NamedTuple):
    """What a relaxation leaves open, by the value that enters a ReLU."""

    slopes: Mapping[int, tuple[Any, Any]] = {}  # units, and slopes below them, from 0 to 1
    pushes: Mapping[int, Array] = {}  # (n,): minus sign times multiplier


class Passes:
    """A network in one arithmetic."""

    def __init__(self, network: Network, arithmetic: Arithmetic) -> None:
        self.network, self.arithmetic = network, arithmetic
        sizes = network.sizes()
        self.at_once = max(1, _ROOM // max(sizes))
        self.maps = [
            Matrix(layer, sizes[k], arithmetic) if isinstance(layer, Affine) else None
            for k, layer in enumerate(network.layers)
        ]

    def start(self, lower: Any, upper: Any) -> Known:
        """Intervals over a box."""
        known = Known([self.arithmetic.array(lower)], [self.arithmetic.array(upper)], [])
        self.forward(known)
        return known

    def forward(self, known: Known, value: int = 0) -> None:
        """Intervals once more from a value on, where bounds have got tighter."""
        for k in range(value, len(self.network.layers)):
            self._checked(known.lower[k], known.upper[k])
            lower, upper, reach = self._interval(k, known.lower[k], known.upper[k])
            if len(known.lower) == k + 1:
                known.lower.append(lower)
                known.upper.append(upper)
                known.reach.append(reach)
            else:
                known.lower[k + 1] = np.maximum(known.lower[k + 1], lower)
                known.upper[k + 1] = np.minimum(known.upper[k + 1], upper)
        self._checked(known.lower[-1], known.upper[-1])

    def _checked(self, lower: Array, upper: Array) -> None:
        if not self.arithmetic.exact:
            size = max(np.abs(lower).max(initial=0.0), np.abs(upper).max(initial=0.0))
            if not size < LARGEST:
                raise UnfitError("its values are too large to be checked in float64")

    def _interval(self, k: int, low: Array, high: Array) -> tuple[Array, Array, Array | None]:
        layer = self.network.layers[k]
        match layer:
            case Relu():
                on, zero = layer.units, self.arithmetic.zeros(1)
                lower = np.where(on, np.maximum(low, zero), low)
                return lower, np.where(on, np.maximum(high, zero), high), None
            case Max():
                return low[layer.windows].max(axis=1), high[layer.windows].max(axis=1), None
        matrix = self.maps[k]
        assert matrix is not None
        least, most, reach = matrix.ends(low, high)
        error = self.arithmetic.slack(matrix.terms) * reach
        lower = self.arithmetic.lowered(least, error)
        upper = -self.arithmetic.lowered(-most, error)
        return *self.arithmetic.outward(lower, upper), reach

    def unit_bounds(self, known: Known, value: int, units: Any, side: int) -> Array:
        """Lower (side 1) or upper (side -1) bounds on units of a value, by a backward pass."""
        if len(units) > self.at_once:
            parts = (units[i : i + self.at_once] for i in range(0, len(units), self.at_once))
            return np.concatenate([self.unit_bounds(known, value, some, side) for some in parts])
        matrix = self.maps[value - 1] if value else None
        if matrix is not None:
            rows, constant = matrix.rows(units), matrix.bias[units]
            low = self.lowest(known, value - 1, side * rows, side * constant, Choice())
        else:
            rows = self.arithmetic.zeros(len(units), len(known.lower[value]))
            rows[np.arange(len(units)), units] = self.arithmetic.array(float(side))
            low = self.lowest(known, value, rows, self.arithmetic.zeros(len(units)), Choice())
        lower, upper = self.arithmetic.outward(side * low, side * low)
        return lower if side > 0 else upper

    def bound(self, known: Known, value: int) -> None:
        """Bounds all units of a value that are undecided, each by two backward passes."""
        lower, upper = known.lower[value], known.upper[value]
        undecided = lower < upper
        if value < len(self.network.layers):
            layer = self.network.layers[value]
            if isinstance(layer, Relu):
                undecided = layer.units & (lower < 0) & (upper > 0)
        units = np.flatnonzero(undecided)
        if len(units):
            low = self.unit_bounds(known, value, units, 1)
            high = self.unit_bounds(known, value, units, -1)
            lower[units] = np.maximum(lower[units], low)
            upper[units] = np.minimum(upper[units], high)

    def lowest(
        self, known: Known, value: int, rows: Array, constant: Array, choice: Choice
    ) -> Array:
        """Lower bounds on `rows @ value + constant` over the box, (R, n) and (R,)."""
        slack, error = self.arithmetic.slack, np.abs(constant) * self.arithmetic.slack(0)
        for k in range(value - 1, -1, -1):
            layer, size = self.network.layers[k], _size(known, k)
            match layer:
                case Affine():
                    matrix, reach = self.maps[k], known.reach[k]
                    assert matrix is not None
                    error = error + slack(matrix.outputs) * (np.abs(rows) @ reach)
                    constant = constant + rows @ matrix.bias
                    rows = matrix.carried_back(rows)
                case Relu():
                    rows, added, off = self._below_relu(known, k, layer, rows, choice)
                    constant = constant + added
                    error = error + slack(rows.shape[1]) * (np.abs(rows) @ size + off)
                case Max():
                    rows, added, off = self._below_max(known, k, layer, rows)
                    constant = constant + added
                    error = error + slack(len(layer.windows)) * off
            error = error + slack(0) * np.abs(constant)
        least = np.where(rows > 0, known.lower[0], known.upper[0]) * rows
        error = error + slack(rows.shape[1]) * (np.abs(rows) @ _size(known, 0))
        found = self.arithmetic.lowered(constant + least.sum(axis=1), error)
        if not self.arithmetic.exact and not np.isfinite(found).all():
            raise UnfitError("a bound is not finite")
        return found

    def _below_relu(
        self, known: Known, k: int, layer: Relu, rows: Array, choice: Choice
    ) -> tuple[Array, Array, Array]:
        """Forms on what enters a ReLU, constants, and the size of what was rounded in these."""
        zero = self.arithmetic.zeros(1)
        lower, upper = known.lower[k], known.upper[k]
        unsure = layer.units & (lower < 0) & (upper > 0)
        passes = ~layer.units | (lower >= 0)
        one = self.arithmetic.array(1.0)
        below: Array = np.where(unsure & (upper > -lower) | passes, one, zero)
        if k in choice.slopes:
            units, slopes = choice.slopes[k]
            below[units] = np.where(unsure[units], slopes, below[units])
        above: Array = np.where(passes, one, zero)
        offset = self.arithmetic.zeros(len(lower))
        some = np.flatnonzero(unsure)
        low, high = lower[some], upper[some]
        slope = self.arithmetic.array((high / (high - low)).astype(np.float64))
        rounded = self.arithmetic.slack(0) * (high + np.abs(slope) * (high - low))
        above[some] = slope
        offset[some] = np.maximum(-slope * low, high - slope * high) + rounded
        rising, falling = np.maximum(rows, zero), np.minimum(rows, zero)
        forms = rising * below + falling * above
        off = np.abs(falling) @ offset
        if k in choice.pushes:
            forms = forms + choice.pushes[k]
            off = off + 2 * (np.abs(choice.pushes[k]) @ _size(known, k))
        return forms, falling @ offset, off

    def _below_max(
        self, known: Known, k: int, layer: Max, rows: Array
    ) -> tuple[Array, Array, Array]:
        """From below one input of each window; from above it too, if it surely is the largest."""
        lower, upper, windows = known.lower[k], known.upper[k], layer.windows
        best = windows[np.arange(len(windows)), lower[windows].argmax(axis=1)]
        most = upper[windows].max(axis=1)
        dominated = (windows == best[:, None]) | (upper[windows] <= lower[best][:, None])
        zero = self.arithmetic.zeros(1)
        linear: Array = np.where((rows > 0) | dominated.all(axis=1), rows, zero)
        forms: Array = self.arithmetic.zeros(len(rows), len(lower))
        for i, unit in enumerate(best.tolist()):  # one input may be the best of many windows
            forms[:, unit] += linear[:, i]
        rest = rows - linear
        size = np.abs(linear) @ _size(known, k)[best] + np.abs(rest) @ np.abs(most)
        return forms, rest @ most, size


def _size(known: Known, value: int) -> Array:
    return np.maximum(np.abs(known.lower[value]), np.abs(known.upper[value]))
