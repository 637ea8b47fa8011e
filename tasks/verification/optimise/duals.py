"""What the duals of a linear program prove, whatever solver they come from. Imports no torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Array = NDArray[np.float64]

_UNIT = 2.0**-53  # relative error of one float64 operation
_TINY = np.finfo(np.float64).tiny  # above the absolute error of one that underflows
_ROUNDING = 1e-11  # as in `intervals`, relative to the magnitudes in a row


class Program(NamedTuple):
    """Points v in [lower, upper], all finite, with row_lower <= rows @ v <= row_upper."""

    lower: Array  # (V,)
    upper: Array
    rows: sparse.csr_array  # (R, V)
    row_lower: Array  # (R,), -inf where there is none
    row_upper: Array


def certified_lower(program: Program, cost: Array, duals: Array) -> float:
    """A lower bound on cost @ v over the program that holds in real arithmetic.

    For any y, cost @ v = y @ (rows @ v) + (cost - rows.T @ y) @ v: the first term is least at the
    ends of the rows that y's signs point to, the second at those of the variables. So the bound
    holds for any duals, and is the optimum for optimal ones.

    The rows may be off by `_ROUNDING` of their magnitudes, as their coefficients are rounded
    products of a network's weights: each costs |y| times that.

    Args:
        cost: (V,).
        duals: (R,), of a minimisation; what is not finite or points to no end counts as 0.
    """
    y = np.where(np.isfinite(duals), duals, 0.0)
    ends = np.where(y > 0, program.row_lower, program.row_upper)
    y[np.isinf(ends)] = 0.0
    ends = np.where(y == 0, 0.0, ends)
    reach = np.maximum(np.abs(program.lower), np.abs(program.upper))
    sizes = abs(program.rows)
    with np.errstate(over="ignore", invalid="ignore"):
        reduced = cost - program.rows.T @ y
        rough = _gamma(y.size + 1) * (np.abs(cost) + sizes.T @ np.abs(y)) + y.size * _TINY
        least = np.minimum(reduced * program.lower, reduced * program.upper)
        residual = _ROUNDING * (sizes @ reach + np.abs(ends)) + _TINY
        sums = np.abs(y) @ np.abs(ends) + np.abs(least).sum()
        error = _gamma(y.size + cost.size + 2) * sums + np.abs(y) @ residual + rough @ reach
        # the sums in `error` are of positive terms and themselves off by far less than half
        bound = y @ ends + least.sum() - 2 * (error + (y.size + cost.size) * _TINY)
    return float(np.nextafter(bound, -np.inf)) if np.isfinite(bound) else -np.inf


def _gamma(n: int) -> float:
    """Relative to the sum of magnitudes, the most that rounding adds to a sum of n products.

    Source: Higham 2002, section 3.1; for any order of summation.
    """
    return n * _UNIT / (1 - n * _UNIT)
