"""What an interval is."""

from typing import NamedTuple

from scipy.special import ndtri

LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and its confidence limits; NaN throughout where there is no data."""

    value: float
    low: float
    high: float


NO_DATA = Interval(float("nan"), float("nan"), float("nan"))


def z_of(level: float) -> float:
    """The normal quantile that leaves (1 - level) / 2 above it."""
    return float(ndtri((1 + level) / 2))
