"""What an interval is."""

from math import isnan
from typing import NamedTuple

from scipy.special import ndtri

LEVEL = 0.95


class Interval(NamedTuple):
    """An estimate and its confidence limits; NaN throughout where there is no data."""

    value: float
    low: float
    high: float

    def within(self, least: float, most: float) -> "Interval":
        """With limits that are not beyond what the estimate can be; NaN stays."""
        return self._replace(
            low=_clipped(self.low, least, most), high=_clipped(self.high, least, most)
        )


def _clipped(limit: float, least: float, most: float) -> float:
    return limit if isnan(limit) else min(max(limit, least), most)


NO_DATA = Interval(float("nan"), float("nan"), float("nan"))


def z_of(level: float) -> float:
    """The normal quantile that leaves (1 - level) / 2 above it."""
    return float(ndtri((1 + level) / 2))
