import numpy as np
import pytest

from robsweep.orchestrator.results.metrics.calibration_smooth import smooth_ece

# relplot 1.0.3, the package of the measure's authors: metrics.smECE(f, y, return_width=True), with
# f = random.uniform(0.1, 1, n) and y = random.random(n) < f * by, random = default_rng(n)
RELPLOT = [
    # n, by, value, bandwidth
    (1, 1.0, 0.5605501045327932, 0.5615234375),
    (20, 1.0, 0.09847740343135135, 0.0986328125),
    (50, 0.6, 0.1802507157910244, 0.1806640625),
    (300, 1.0, 0.054240992645916274, 0.0546875),
    (2000, 0.9, 0.06562629894724312, 0.06640625),
    (10000, 1.0, 0.01447250714767172, 0.015625),
]


@pytest.mark.parametrize(("n", "by", "value", "bandwidth"), RELPLOT)
def test_smooth_ece_is_that_of_its_authors(n, by, value, bandwidth):
    random = np.random.default_rng(n)
    confidence = random.uniform(0.1, 1, n)
    found = smooth_ece(confidence, random.random(n) < confidence * by)
    assert found.seen.value == pytest.approx(value, abs=1e-9)
    assert found.bandwidth == bandwidth


def test_a_gap_of_one_size_is_its_own_smooth_error():
    """Reflection keeps all of the mass, so that one sign never cancels, whatever the bandwidth."""
    confidence = np.repeat(np.linspace(0.3, 0.9, 7), 100)
    correct = np.concatenate([np.arange(100) < round(100 * c) - 10 for c in confidence[::100]])
    assert smooth_ece(confidence, correct).seen.value == pytest.approx(0.1, abs=1e-4)


def test_opposite_gaps_close_together_cancel_and_far_apart_do_not():
    right = np.arange(400) % 2 == 0  # accuracy 1/2 at both
    near = smooth_ece(np.repeat([0.49, 0.51], 200), right)
    far = smooth_ece(np.repeat([0.1, 0.9], 200), right)
    assert near.seen.value < 0.008  # 0.01 at both
    # 0.4 at both, smoothed until the bandwidth is what is left
    assert 0.15 < far.seen.value < 0.4
    assert far.seen.value == pytest.approx(far.bandwidth, abs=1e-3)


def test_perfect_and_hopeless_certainty():
    ones = np.ones(50)
    assert smooth_ece(ones, ones > 0).seen.value == 0
    assert smooth_ece(ones, ones < 0).seen.value == pytest.approx(1, abs=1e-3)
    nothing = smooth_ece(np.empty(0), np.empty(0, dtype=bool))
    assert np.isnan(nothing.seen.value)


def test_its_interval_is_the_same_each_time():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.1, 1, 300)
    correct = random.random(300) < confidence
    first, second = smooth_ece(confidence, correct), smooth_ece(confidence, correct)
    assert first == second
    assert 0 <= first.seen.low <= first.seen.high <= 1
