"""Intervals hold the truth about as often as they say: the benchmark, in small and seeded."""

import pytest

from benchmarks.coverage import OTHERS, Setting, calibration_coverage, other_coverage

# at 95 %, fewer than 88 % of 120 draws have a chance of less than 1 in 500
DRAWS, LEAST = 120, 0.88
CALIBRATED = Setting("spread", "calibrated", 0.0)


@pytest.mark.parametrize("name", ["ece", "ece_equal_mass", "rms_ce"])
@pytest.mark.parametrize(
    ("setting", "n"),
    [
        # here an interval by the delta method covers 5, 48 and 82 %
        (CALIBRATED, 500),
        (Setting("accuracy .9", "calibrated", 0.0), 500),
        (Setting("spread", "overconfident", 0.01), 500),
    ],
)
def test_intervals_of_calibration_errors_cover(name, setting, n):
    """Half a second: each draw inverts a test."""
    found = calibration_coverage(name, setting, n, DRAWS)
    assert found.none == 0
    assert found.share >= LEAST


def test_the_interval_of_the_smooth_error_covers():
    """A second or two: each draw has a simulation of its own."""
    assert calibration_coverage("smooth_ece", CALIBRATED, 500, 40).share >= 0.82


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_intervals_cover(name):
    for p in OTHERS[name][1]:
        assert 0.92 <= other_coverage(name, 200, p, 500).share <= 0.985
