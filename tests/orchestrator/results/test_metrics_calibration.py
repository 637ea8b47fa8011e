import math

import numpy as np
import pytest

from robsweep.orchestrator.results.metrics.calibration import (
    calibration,
    errors,
)
from robsweep.orchestrator.results.metrics.calibration_bins import equal_mass, equal_width


def test_bins_are_closed_on_the_right_and_zero_is_in_the_first():
    confidence = np.array([0.0, 0.1, 0.2, 0.2000001, 0.8, 0.9999, 1.0])
    assert equal_width(confidence, 5).tolist() == [0, 0, 0, 1, 3, 4, 4]
    # every border of 15 bins, as it comes out of a division
    borders = np.array([k / 15 for k in range(1, 16)])
    assert equal_width(borders, 15).tolist() == list(range(15))


def test_errors_by_hand_with_empty_bins():
    confidence = np.array([0.15, 0.15, 0.95, 0.95, 1.0, 1.0])
    correct = np.array([False, True, True, False, True, True])
    found = errors(confidence, correct, equal_width(confidence, 10))
    gap_low, gap_high = 0.15 - 0.5, 3.9 / 4 - 0.75
    assert found.ece.seen.value == pytest.approx((2 * abs(gap_low) + 4 * gap_high) / 6)
    assert found.rms_ce == pytest.approx(math.sqrt((2 * gap_low**2 + 4 * gap_high**2) / 6))
    assert found.mce == pytest.approx(0.35)


def test_perfect_and_hopeless_confidence():
    n = 8
    ones, right = np.ones(n), np.ones(n, dtype=bool)
    sure = errors(ones, right, equal_width(ones)).ece
    assert sure.seen.value == 0.0
    assert sure.seen.low == 0.0
    assert sure.seen.high == pytest.approx(1 - 0.025 ** (1 / 8))  # eight samples, no error
    assert errors(ones, ~right, equal_width(ones)).ece.seen.value == 1.0
    zeros = np.zeros(n)
    assert errors(zeros, ~right, equal_width(zeros)).mce == 0.0


def test_equal_mass_bins_are_equally_full():
    confidence = np.random.default_rng(0).random(47)
    bin_of = equal_mass(confidence, 5)
    assert sorted(np.bincount(bin_of).tolist()) == [9, 9, 9, 10, 10]
    assert max(confidence[bin_of == 0]) < min(confidence[bin_of == 1])
    assert errors(confidence[:3], confidence[:3] > 0, equal_mass(confidence[:3], 15)).mce < 1


def test_calibration_from_logits():
    logits = np.log([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2]])
    labels = np.array([0, 2])
    found = calibration(logits, labels)
    assert found.n == 2
    assert found.nll == pytest.approx(-(math.log(0.7) + math.log(0.2)) / 2)
    brier = (0.3**2 + 0.2**2 + 0.1**2) + (0.2**2 + 0.6**2 + 0.8**2)
    assert found.brier == pytest.approx(brier / 2)
    assert found.ece.value == pytest.approx((0.3 + 0.6) / 2)


def test_temperature_scales_logits_and_keeps_huge_ones_finite():
    logits = np.array([[2000.0, 0.0], [0.0, -1000.0]])
    labels = np.array([0, 1])
    hot = calibration(logits, labels, temperature=1000.0)
    sigmoid = 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))
    assert hot.nll == pytest.approx(-(math.log(sigmoid[0]) + math.log(sigmoid[1])) / 2)
    cold = calibration(logits, labels)
    assert cold.nll == 500.0
    assert cold.ece.value == pytest.approx(0.5)


def test_ece_interval_covers_a_constant_gap():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(300):
        confidence = np.full(500, 0.9)
        correct = rng.random(500) < 0.8  # one bin, true gap 0.1
        ece = errors(confidence, correct, equal_width(confidence)).ece.seen
        hits += ece.low <= 0.1 <= ece.high
    assert 0.91 <= hits / 300 <= 0.98


def test_no_predictions():
    nothing = calibration(np.empty((0, 3)), np.empty(0, dtype=np.int64))
    assert nothing.n == 0
    assert math.isnan(nothing.ece.value)


def test_a_models_own_confidences_count():
    logits = np.random.default_rng(3).normal(size=(200, 4))
    labels = np.arange(200) % 4
    own = np.full(200, 0.25)
    found, plain = calibration(logits, labels, own=own), calibration(logits, labels)
    accuracy = (logits.argmax(axis=1) == labels).mean()
    assert found.ece.value == pytest.approx(abs(accuracy - 0.25))
    assert (found.brier, found.nll) == (plain.brier, plain.nll)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert calibration(logits, labels, own=softmax.max(axis=1)).ece.value == pytest.approx(
        plain.ece.value
    )


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e6])
def test_the_predicted_class_is_that_of_the_logits_at_every_scale(scale):
    """Probabilities of tiny logits all tie: the first class is no prediction."""
    rng = np.random.default_rng(5)
    labels = rng.integers(10, size=400)
    logits = rng.normal(size=(400, 10))
    logits[np.arange(400), labels] += 4
    right = (logits.argmax(axis=1) == labels).mean()
    found = calibration((logits * scale).astype(np.float32).astype(np.float64), labels)
    if scale == 1e-20:  # confidence is 1/10 everywhere
        assert found.ece.value == pytest.approx(right - 0.1)
    if scale == 1e6:  # and here it is 1
        assert found.ece.value == pytest.approx(1 - right)
    scaled = calibration(logits * scale, labels, temperature=scale)
    assert scaled.ece.value == pytest.approx(calibration(logits, labels).ece.value)
