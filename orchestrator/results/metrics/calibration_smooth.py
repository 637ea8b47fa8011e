"""Smooth calibration error: no bins, and a bandwidth that the data choose."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft

from robsweep.orchestrator.results.intervals import Interval
from robsweep.orchestrator.results.intervals.debiased import (
    Cells,
    blended,
    bounded,
    few_errors,
)
from robsweep.orchestrator.results.intervals.simulated import Curve, curve_interval

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SMALLEST = 0.001  # bandwidth
_HALVINGS = 10
_NAN = float("nan")


class Smooth(NamedTuple):
    """The smooth error; its limits are about the true one at the same bandwidth."""

    seen: Interval  # its value is that of the definition
    debiased: float
    bandwidth: float


def smooth_ece(confidence: Floats, correct: Bools) -> Smooth:
    """The error that equals its own bandwidth, with an interval.

    Discretised as the authors' package does, so that numbers agree: residuals on a grid, convolved
    with a Gaussian that is reflected at 0 and 1 and cut at 0.5; ten halvings of the bandwidth.

    Args:
        confidence: (n,), in [0, 1].
        correct: (n,).

    Source: Blasiok & Nakkiran 2023, section 3.2 and algorithm 1; the interval is that of
    `curve_interval`.
    """
    if not len(confidence):
        return Smooth(Interval(_NAN, _NAN, _NAN), _NAN, _NAN)
    curves = _Curves(confidence, confidence - correct)
    width = _bandwidth(curves)
    value = curves.error(width)
    found = curve_interval(curve(confidence, correct, width))
    if few_errors(confidence, correct):
        found = bounded(confidence, correct, found.value)
    return Smooth(Interval(value, found.low, found.high), found.value, width)


class _Curves:
    """Residuals and their density on grids, in the frequency domain; one grid per resolution."""

    def __init__(self, confidence: Floats, residual: Floats) -> None:
        self._confidence, self._residual = confidence, residual
        self._grids: dict[int, tuple[NDArray[np.complex128], int]] = {}

    def error(self, width: float) -> float:
        """Mean |residual| after smoothing with a Gaussian of this standard deviation."""
        cells = _cells(width)
        if cells not in self._grids:
            self._grids[cells] = self._grid(cells)
        transformed, size = self._grids[cells]
        off = np.linspace(0, 1, cells) - 0.5
        kernel = np.exp(-(off**2) / (2 * width**2)) / (np.sqrt(2 * np.pi) * width)
        first = cells - 1 + cells // 2
        curves = irfft(transformed * rfft(kernel, size), size, axis=1)[:, first : first + cells]
        mesh, grid = np.linspace(0, 1, _points(width)), np.linspace(0, 1, cells)
        top = np.abs(np.interp(mesh, grid, curves[0])).sum()
        return float(top / (np.interp(mesh, grid, curves[1]) + 1e-4).sum())

    def _grid(self, cells: int) -> tuple[NDArray[np.complex128], int]:
        place = self._confidence * (cells - 1)
        low = np.clip(place.astype(np.int64), 0, cells - 2)
        share = place - low
        values = np.stack(
            [
                np.bincount(low, (1 - share) * y, cells) + np.bincount(low + 1, share * y, cells)
                for y in (self._residual, np.ones_like(self._residual))
            ]
        )
        mirrored = np.concatenate([values[:, :0:-1], values, values[:, -2::-1]], axis=1)
        size = next_fast_len(mirrored.shape[1] + cells - 1, real=True)
        return rfft(mirrored, size, axis=1), size


def _cells(width: float) -> int:
    """Of the grid that residuals are put on."""
    return max(2000, round(20 / width)) // 2 + 1


def _mirrored_part(confidence: Floats, width: float) -> Floats:
    """(n,), how much of each sample the error counts, in [0.5, 1].

    Its grid is mirrored without its ends, so what lies on an end is there once, and all else twice.
    """
    place = confidence * (_cells(width) - 1)
    on_an_end = np.maximum(1 - place, place - (_cells(width) - 2))
    return 1 - np.clip(on_an_end, 0, 1) / 2


def _points(width: float) -> int:
    """On which a curve of this bandwidth is summed up."""
    return max(round(10 / width), 200)


def curve(confidence: Floats, correct: Bools, width: float) -> Curve:
    """Points of the smooth curve as cells, whose samples overlap.

    Args:
        confidence: (n,).
        correct: (n,).
        width: Bandwidth.
    """
    n = len(confidence)
    pieces = int(np.ceil(4 / width))
    piece = np.minimum((confidence * pieces).astype(np.int64), pieces - 1)
    part = _mirrored_part(confidence, width)
    counts = np.bincount(piece, weights=part, minlength=pieces)
    kept = counts > 0
    index = (np.cumsum(kept) - 1)[piece]
    counts = counts[kept]

    def sums(values: Floats) -> Floats:
        return np.bincount(index, weights=part * values, minlength=len(counts)).astype(np.float64)

    mesh = np.linspace(0, 1, int(np.clip(2 / width, 31, 201)))
    at = sums(confidence) / counts
    weights = _kernel(mesh, at, width)
    # half of what the ends stand for lies outside; the error's own finer mesh has them whole
    weights[[0, -1]] *= (1 + (len(mesh) - 1) / (_points(width) - 1)) / 2
    weights /= (weights @ counts).sum()
    near = weights @ counts > 1e-9
    weights, mesh = weights[near], mesh[near]
    mass = weights @ counts
    right, own = sums(correct.astype(np.float64)), sums(confidence * (1 - confidence))
    accuracy = weights @ right / mass
    gap = weights @ sums(confidence - correct) / mass
    effective = mass**2 / (weights**2 @ counts)
    calibrated = weights @ own / mass
    one = np.maximum(blended(effective, accuracy, calibrated), 1e-14)
    by_piece = weights * np.sqrt(np.interp(at, mesh, one) * counts)
    residual = confidence - correct
    cells = Cells(
        mass=mass,
        gap=gap,
        accuracy=accuracy,
        noise=np.sqrt((by_piece**2).sum(axis=1)),
        sign=np.full(len(mass), np.sign(residual.mean())),
        calibrated=calibrated / effective,
        n=n,
        variance=float(residual.var()),
        noise_of_sum=float(mass @ one) / n,
    )
    return Curve(cells, by_piece)


def _kernel(mesh: Floats, at: Floats, width: float) -> Floats:
    """(points, pieces), a Gaussian around each point, reflected at 0 and 1."""
    t, c = mesh[:, None] / width, at[None, :] / width
    density: Floats = (
        np.exp(-((t - c) ** 2) / 2)
        + np.exp(-((t + c) ** 2) / 2)
        + np.exp(-((2 / width - t - c) ** 2) / 2)
    )
    return density


def _bandwidth(curves: _Curves) -> float:
    """The largest bandwidth that is at least its error, to a halving of 1 ten times."""
    high, low = 1.0, 0.0

    def too_small(width: float) -> bool:
        return width < _SMALLEST or width < curves.error(width)

    if too_small(high):
        return high
    for _ in range(_HALVINGS):
        middle = (high + low) / 2
        if too_small(middle):
            low = middle
        else:
            high = middle
    return high
