import math

import numpy as np
import pytest
from scipy.special import expit, logit

from robsweep.orchestrator.results.intervals import (
    delong_auroc,
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


def slow_delong(ood, id_):
    """The definition: structural components by a double loop."""
    wins = [[(x > y) + 0.5 * (x == y) for y in id_] for x in ood]
    m, n = len(ood), len(id_)
    auroc = sum(map(sum, wins)) / (m * n)
    v10 = [sum(row) / n for row in wins]
    v01 = [sum(row[j] for row in wins) / m for j in range(n)]
    s10 = sum((v - auroc) ** 2 for v in v10) / (m - 1)
    s01 = sum((v - auroc) ** 2 for v in v01) / (n - 1)
    return auroc, s10 / m + s01 / n


@pytest.mark.parametrize("seed", range(5))
def test_delong_against_double_loop_with_ties(seed):
    rng = np.random.default_rng(seed)
    ood = rng.integers(2, 9, 23).astype(float)
    id_ = rng.integers(0, 7, 31).astype(float)
    auroc, variance = slow_delong(ood.tolist(), id_.tolist())
    half = 1.959963984540054 * math.sqrt(variance) / (auroc * (1 - auroc))
    found = delong_auroc(ood, id_)
    assert found.value == pytest.approx(auroc)
    assert found.low == pytest.approx(expit(logit(auroc) - half))
    assert found.high == pytest.approx(expit(logit(auroc) + half))


def test_delong_covers_the_true_auroc():
    rng = np.random.default_rng(0)
    truth = 0.8413447460685429  # P(N(sqrt 2, 1) > N(0, 1)) = Phi(1)
    hits = 0
    for _ in range(400):
        found = delong_auroc(rng.normal(math.sqrt(2), 1, 60), rng.normal(0, 1, 60))
        hits += found.low <= truth <= found.high
    assert 0.92 <= hits / 400 <= 0.98


def test_delong_where_its_variance_is_zero():
    apart = delong_auroc([5.0, 6.0, 7.0], [1.0, 2.0, 3.0, 4.0])
    assert apart.value == apart.high == 1.0
    assert apart.low == wilson(3, 3).low
    same = delong_auroc([1.0] * 10, [1.0] * 10)
    assert same.value == 0.5
    assert same.low < 0.3
    assert same.high > 0.7
    assert delong_auroc([1.0], [0.0]) == (1.0, 0.0, 1.0)
    assert all(map(math.isnan, delong_auroc([], [1.0])))


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
