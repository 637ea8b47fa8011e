import numpy as np
import pytest
from scipy.special import softmax

from robsweep.tasks.calibration.temperature import nll, temperature
from robsweep.tasks.errors import InputError


@pytest.mark.parametrize("true", [0.3, 1.0, 4.0])
def test_temperature_is_recovered(true: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(40_000, 5)) * 2
    p = softmax(logits, axis=1)
    labels = (p.cumsum(axis=1) > random.random((len(p), 1))).argmax(axis=1)
    fit = temperature(logits * true, labels)
    assert fit.temperature == pytest.approx(true, rel=0.03)
    assert fit.nll_after <= fit.nll_before
    assert fit.nll_after == pytest.approx(nll(logits * true / fit.temperature, labels))


def test_temperature_is_at_the_minimum() -> None:
    random = np.random.default_rng(1)
    logits, labels = random.normal(size=(200, 4)), random.integers(4, size=200)
    logits[np.arange(200), labels] += 1
    fit = temperature(logits, labels)
    for factor in (0.99, 1.01):
        assert nll(logits / (fit.temperature * factor), labels) > fit.nll_after


def noisy(seed, n=300, classes=6):
    """Logits that are right four times in five."""
    random = np.random.default_rng(seed)
    logits, labels = random.normal(size=(n, classes)), random.integers(classes, size=n)
    logits[np.arange(n), labels] += 2.5
    return logits, labels


@pytest.mark.parametrize("scale", [1e-20, 1e-3, 1.0, 1e6, 1e20])
def test_the_fit_is_free_of_the_logits_scale(scale: float) -> None:
    logits, labels = noisy(2)
    plain, scaled = temperature(logits, labels), temperature(logits * scale, labels)
    assert scaled.temperature == pytest.approx(plain.temperature * scale, rel=1e-9)
    assert scaled.nll_after == pytest.approx(plain.nll_after)
    assert not scaled.at_bound
    np.testing.assert_allclose(
        softmax(logits * scale / scaled.temperature, axis=1),
        softmax(logits / plain.temperature, axis=1),
        rtol=1e-7,
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_best_temperature_far_away_is_found(seed: int) -> None:
    """Nearly no errors want a temperature near 0, hardly any signal one near infinity."""
    logits, labels = noisy(seed, n=2000)
    right = logits.argmax(axis=1) == labels
    easy = right | (np.arange(2000) == int((~right).argmax()))
    logits[easy, labels[easy]] += 3.0
    sharp = temperature(logits[easy], labels[easy])
    noise = np.random.default_rng(seed).normal(size=(4000, 6))
    drawn = np.random.default_rng(seed + 9).integers(6, size=4000)
    noise[np.arange(4000), drawn] += 0.02
    flat = temperature(noise, drawn)
    for fit, where in ((sharp, (logits[easy], labels[easy])), (flat, (noise, drawn))):
        if not fit.at_bound:
            for factor in (0.9, 1.1):
                assert nll(where[0] / (fit.temperature * factor), where[1]) >= fit.nll_after
    assert sharp.temperature < 0.5
    assert flat.temperature > 5


def test_where_no_temperature_is_best_the_fit_stands_at_a_bound() -> None:
    for scale in (1e-6, 1.0, 1e6):
        logits = np.eye(4) * 10 * scale
        sure = temperature(logits, np.arange(4))
        hopeless = temperature(logits, (np.arange(4) + 1) % 4)
        assert sure.at_bound
        assert hopeless.at_bound
        assert 0 < sure.temperature < 0.1 * scale
        assert 500 * scale < hopeless.temperature < 2000 * scale
        assert softmax(logits / sure.temperature, axis=1).max() > 1 - 1e-9
    ties = temperature(np.zeros((3, 2)), np.array([0, 1, 0]))
    assert (ties.temperature, ties.at_bound) == (1, True)


def test_temperature_refuses_what_it_cannot_fit() -> None:
    logits = np.zeros((3, 2))
    with pytest.raises(InputError, match="1 of 3 samples are not finite"):
        temperature(np.array([[0, np.inf], [0, 1], [1, 0]]), np.zeros(3))
    with pytest.raises(InputError, match="at least one sample"):
        temperature(logits[:0], np.zeros(0))
    with pytest.raises(InputError, match=r"labels 0\.\.2 for 2 classes"):
        temperature(logits, np.arange(3))
