"""Numbers to check with: rationals, or float64 with a bound on what rounding adds up to."""

from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from robsweep.tasks.certificates.network import Affine

# An array of float64, or of Fractions as Python objects: the same code computes with both.
Array = Any
LARGEST = 1e50  # beyond it, float64 is not trusted
_TINY = 1e-200  # more than what vanishes below the smallest normal number, times LARGEST
_DENSE, _SPARSE = 2**24, 50  # of matrices that are written out: size, and size by entry
_CHUNK = 2**22  # numbers in one array of products


class UnfitError(Exception):
    """Numbers that cannot be trusted."""


class Arithmetic(NamedTuple):
    """Exact, or rounded to nearest in float64, as IEEE 754 and numpy have it."""

    exact: bool

    def array(self, numbers: Any) -> Array:
        """Float64 numbers as those that are computed with."""
        plain = np.asarray(numbers, dtype=np.float64)
        if not np.isfinite(plain).all():
            raise UnfitError("numbers that are not finite")
        if not self.exact:
            return plain
        found = np.empty(plain.shape, dtype=object)
        found.flat[:] = [Fraction(x) for x in plain.ravel().tolist()]
        return found

    def zeros(self, *shape: int) -> Array:
        return self.array(np.zeros(shape))

    def slack(self, terms: int) -> Any:
        """What a sum of so many products may be off by, relative to the sum of their sizes.

        In any order, with a few operations more. Source: Higham 2002, section 3.1, doubled.
        """
        return Fraction(0) if self.exact else (terms + 8) * 2.0**-52

    def lowered(self, total: Array, error: Array) -> Array:
        """`total` less an error, which is a sum of positive terms and rounded itself."""
        if self.exact:
            return total
        return total - (error * (1 + 2.0**-20) + 2.0**-50 * np.abs(total) + _TINY)

    def outward(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """The same bounds or wider ones, as few digits as float64 has: rationals stay short."""
        if not self.exact:
            return lower, upper
        below = [_rounded(x, -np.inf) for x in lower.ravel()]
        above = [_rounded(x, np.inf) for x in upper.ravel()]
        return self.array(below).reshape(lower.shape), self.array(above).reshape(upper.shape)


def _rounded(x: Any, towards: float) -> float:
    near = float(x)
    if near == x or (near < x) == (towards < 0):
        return near
    return float(np.nextafter(near, towards))


class Matrix:
    """An affine map, ready to be computed with."""

    def __init__(self, layer: Affine, inputs: int, arithmetic: Arithmetic) -> None:
        self.layer, self.inputs, self.outputs = layer, inputs, len(layer.bias)
        self.arithmetic = arithmetic
        self.weights, self.bias = arithmetic.array(layer.weights), arithmetic.array(layer.bias)
        lengths = np.diff(layer.starts)
        self.row_of = np.repeat(np.arange(self.outputs), lengths)
        self.terms = int(lengths.max(initial=0))
        size = self.outputs * inputs
        self.dense: Array | None = None
        if not arithmetic.exact and size <= min(_DENSE, _SPARSE * len(self.weights)):
            self.dense = np.zeros((self.outputs, inputs))
            self.dense[self.row_of, layer.columns] = self.weights
        # the entries column by column
        order = np.argsort(layer.columns, kind="stable")
        self.by_column = np.flatnonzero(np.diff(layer.columns[order], prepend=-1))
        self.filled = layer.columns[order][self.by_column]
        self.down, self.down_rows = self.weights[order], self.row_of[order]

    def ends(self, lower: Array, upper: Array) -> tuple[Array, Array, Array]:
        """The smallest and largest sums over a box, and the sum of all sizes, (outputs,) each."""
        columns = self.layer.columns
        low, high = lower[columns], upper[columns]
        rising = self.weights > 0
        size = np.abs(self.weights) * np.maximum(np.abs(low), np.abs(high))
        least = self._sums(self.weights * np.where(rising, low, high)) + self.bias
        most = self._sums(self.weights * np.where(rising, high, low)) + self.bias
        return least, most, self._sums(size) + np.abs(self.bias)

    def rows(self, units: Any) -> Array:
        """Some of its rows, written out: (units, inputs)."""
        found = self.arithmetic.zeros(len(units), self.inputs)
        for i, unit in enumerate(units):
            some = slice(self.layer.starts[unit], self.layer.starts[unit + 1])
            found[i, self.layer.columns[some]] = self.weights[some]
        return found

    def carried_back(self, rows: Array) -> Array:
        """`rows @ matrix`: (R, outputs) -> (R, inputs)."""
        if self.dense is not None:
            return rows @ self.dense
        found = self.arithmetic.zeros(len(rows), self.inputs)
        if not len(self.weights):
            return found
        many = max(1, _CHUNK // len(self.weights))
        for first in range(0, len(rows), many):
            products = rows[first : first + many, self.down_rows] * self.down
            sums = np.add.reduceat(products, self.by_column, axis=1)
            found[first : first + many, self.filled] = sums
        return found

    def _sums(self, products: Array) -> Array:
        """Row by row, (entries,) -> (outputs,)."""
        found = self.arithmetic.zeros(self.outputs)
        filled = np.flatnonzero(np.diff(self.layer.starts))
        if len(filled):
            found[filled] = np.add.reduceat(products, self.layer.starts[filled])
        return found
