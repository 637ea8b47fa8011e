"""The interval of an error over a smooth curve, whose points share samples: by simulation."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from robsweep.orchestrator.results.intervals.debiased import (
    Cells,
    damped,
    limits,
    moved,
    tails,
)
from robsweep.orchestrator.results.intervals.interval import LEVEL, Interval

Floats = NDArray[np.float64]

_CANDIDATES = 17
_DRAWS = 300


class Curve(NamedTuple):
    """Points of a curve, and what each of P independent pieces of noise adds to each point."""

    cells: Cells
    noise: Floats  # (B, P), standard deviations, of mass * gap


def curve_interval(curve: Curve, level: float = LEVEL) -> Interval:
    """As `ece_interval`, where the noise of cells is correlated.

    Curves of one gap throughout are drawn with this noise, for each candidate the same draws of a
    fixed seed; the interval holds those under which as much as is seen is no surprise.
    """
    cells = curve.cells
    noise = curve.noise @ _draws(curve.noise.shape[1])
    per_unit = cells.mass / cells.noise

    def statistic(scaled: Floats) -> Floats:
        total: Floats = cells.noise @ damped(scaled)
        return total

    seen = float(statistic(cells.gap * per_unit))
    end = max(seen, 0.0) + 5 * float(np.sqrt(cells.noise_of_sum)) + 2 / cells.n
    candidates = np.linspace(0, 1, _CANDIDATES) ** 1.5 * min(end, 1.0)
    noise /= cells.noise[:, None]
    level_of = candidates[:, None] * per_unit
    shown = np.stack([np.sort(statistic(one[:, None] + noise)) for one in level_of])
    mean = shown.mean(axis=1)
    value = float(np.interp(seen, np.maximum.accumulate(mean), candidates))
    spread, skew = moved(cells, candidates - value)
    deviation = shown.std(axis=1) * np.sqrt(spread)
    above, below = tails((mean - mean[0]) / deviation, level)
    clear = 1 - np.exp(-(level_of**2) / 2) @ cells.noise**2 / (cells.noise**2).sum()
    tilt = np.clip(skew * clear, -1, 1) / 6
    z = (shown - mean[:, None]) / shown.std(axis=1)[:, None]
    most = mean + deviation * _quantiles(z, ndtr(above + tilt * (above**2 - 1)))
    least = mean + deviation * _quantiles(z, ndtr(-below + tilt * np.minimum(below**2 - 1, 8)))
    return Interval(value, *limits(candidates, seen - most, seen - least, value))


def _quantiles(rows: Floats, shares: Floats) -> Floats:
    """(C,), of each sorted row (C, S) the quantile at its own share."""
    place = np.clip(shares * rows.shape[1] - 0.5, 0, rows.shape[1] - 1)
    low = np.minimum(place.astype(np.int64), rows.shape[1] - 2)
    index = np.arange(len(rows))
    between = place - low
    found: Floats = rows[index, low] * (1 - between) + rows[index, low + 1] * between
    return found


@cache
def _draws(pieces: int) -> Floats:
    return np.random.default_rng(0).standard_normal((pieces, _DRAWS))
