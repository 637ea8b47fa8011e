"""95 % confidence intervals, one per sort of metric: same data, same interval.

How often each covers the truth is measured by `benchmarks/coverage.py`.
"""

from robsweep.orchestrator.results.intervals.interval import LEVEL, NO_DATA, Interval, z_of
from robsweep.orchestrator.results.intervals.ranks import (
    midranks,
    order_statistic_median,
    spearman,
)
from robsweep.orchestrator.results.intervals.shares import wilson

__all__ = [
    "LEVEL",
    "NO_DATA",
    "Interval",
    "midranks",
    "order_statistic_median",
    "spearman",
    "wilson",
    "z_of",
]
