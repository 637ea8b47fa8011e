import math

import numpy as np
import pytest

from robsweep.orchestrator.results.intervals import (
    midranks,
    order_statistic_median,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_against_published_values(successes, n, low, high):
    interval = wilson(successes, n)
    assert interval.value == successes / n
    assert interval.low == pytest.approx(low, abs=5e-5)
    assert interval.high == pytest.approx(high, abs=5e-5)


def test_wilson_is_symmetric_and_of_nothing_is_nan():
    few, many = wilson(3, 10), wilson(7, 10)
    assert few.low == pytest.approx(1 - many.high)
    assert wilson(10, 10).high == 1.0
    assert all(map(math.isnan, wilson(0, 0)))


def test_midranks_share_ties():
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_order_statistic_median_ranks():
    # binomial table: for n = 10 the 2nd and 9th values cover with 97.9 %, the 3rd and 8th with 89 %
    assert order_statistic_median(np.arange(1, 11)) == (5.5, 2.0, 9.0)
    assert order_statistic_median([1, 2, 3, 4, 5, 6]) == (3.5, 1.0, 6.0)
    assert order_statistic_median([1, 2, 3, 4, 5]) == (3.0, -math.inf, math.inf)
    assert all(map(math.isnan, order_statistic_median([])))


def test_order_statistic_median_of_mostly_unbroken_samples():
    values = [1.0, 2.0, math.inf, math.inf, math.inf, math.inf, math.inf]
    assert order_statistic_median(values) == (math.inf, 1.0, math.inf)
    assert order_statistic_median([1.0, math.inf]).value == math.inf
