"""Bounds over the whole box that a certificate claims, found by the checker's own passes."""

import time

import numpy as np

from robsweep.tasks.certificates.certificate import Claim, Ends
from robsweep.tasks.certificates.network import Relu
from robsweep.tasks.certificates.passes import Known, Passes

_DIGITS = 12  # binary ones of a claimed bound
_ROOM = 2.0**-30  # of a unit's width: what another machine's sums may differ by
_CHUNK = 512  # units that are bounded between two looks at the clock


def claimed(passes: Passes, known: Known, value: int, until: float) -> Claim | None:
    """Bounds the undecided units of a value, and claims what is of use.

    Args:
        known: Gets the bounds that are claimed.
        until: On the monotonic clock.

    Returns:
        None where intervals decide all, or time is over.
    """
    lower, upper = known.lower[value], known.upper[value]
    relu = isinstance(layer := passes.network.layers[value], Relu)
    open_ones = lower < upper
    if isinstance(layer, Relu):
        open_ones = layer.units & (lower < 0) & (upper > 0)
    units = np.flatnonzero(open_ones)
    low, high = lower[units], upper[units]
    room = _ROOM * (high - low)
    for first in range(0, len(units), _CHUNK):
        if time.monotonic() > until:
            return None
        some = np.arange(first, min(first + _CHUNK, len(units)))
        found = passes.unit_bounds(known, value, units[some], 1) - room[some]
        low[some] = np.maximum(low[some], _outward(found))
        if relu:  # of those that are on, the upper end need not be known
            some = some[low[some] < 0]
        found = -passes.unit_bounds(known, value, units[some], -1) - room[some]
        high[some] = np.minimum(high[some], -_outward(found))
    below, above = low > lower[units], high < upper[units]
    if relu:  # nor the lower end of those that are off
        below &= high > 0
    lower[units[below]], upper[units[above]] = low[below], high[above]
    passes.forward(known, value)
    sides = [
        Ends(tuple(units[useful].tolist()), tuple(found[useful].tolist()))
        for useful, found in ((below, low), (above, high))
    ]
    return Claim(value, *sides) if any(side.units for side in sides) else None


def _outward(bounds: np.ndarray) -> np.ndarray:
    """Lower bounds, lowered to few binary digits, so that a claim is short."""
    mantissa, exponent = np.frexp(bounds)
    short: np.ndarray = np.ldexp(np.floor(mantissa * 2.0**_DIGITS), exponent - _DIGITS)
    return short
