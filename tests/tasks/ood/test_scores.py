import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from torch import nn

from robsweep.tasks.calibration.temperature import nll, temperature
from robsweep.tasks.errors import InputError
from robsweep.tasks.ood import logit_scores
from robsweep.tasks.shift import corruptions

LOGITS = torch.tensor([[5.0, 1.0, -2.0], [0.1, 0.0, 0.2], [80.0, 1.0, 0.0], [90.0, 1.0, 0.0]])


def test_scores_follow_their_formulas() -> None:
    same = nn.Identity()
    numbers = LOGITS.double().numpy()
    p = softmax(numbers, axis=1)
    expected = {
        "max_softmax": -p.max(axis=1),
        "max_logit": -numbers.max(axis=1),
        "energy": -logsumexp(numbers, axis=1),
        "entropy": entropy(p, axis=1),
    }
    for name, values in expected.items():
        scores = getattr(logit_scores, name)(same, LOGITS)
        np.testing.assert_allclose(scores.numpy(), values, rtol=1e-12, atol=1e-15)
        assert scores[1] == scores.max()  # the undecided one is the most OOD
    warm = logit_scores.energy(same, LOGITS, temperature=2.0).numpy()
    np.testing.assert_allclose(warm, -2 * logsumexp(numbers / 2, axis=1))


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


def test_temperature_of_perfect_and_of_hopeless_predictions_is_bounded() -> None:
    logits = np.eye(4) * 10
    assert 0 < temperature(logits, np.arange(4)).temperature < 0.1
    assert 100 < temperature(logits, (np.arange(4) + 1) % 4).temperature < 200
    assert temperature(np.zeros((3, 2)), np.zeros(3)).temperature == 1


def test_temperature_refuses_what_it_cannot_fit() -> None:
    logits = np.zeros((3, 2))
    with pytest.raises(InputError, match="1 of 3 samples are not finite"):
        temperature(np.array([[0, np.inf], [0, 1], [1, 0]]), np.zeros(3))
    with pytest.raises(InputError, match="at least one sample"):
        temperature(logits[:0], np.zeros(0))
    with pytest.raises(InputError, match=r"labels 0\.\.2 for 2 classes"):
        temperature(logits, np.arange(3))


def test_corruptions_grow_with_severity_and_stay_in_range() -> None:
    torch.manual_seed(0)
    images = torch.rand(20, 3, 8, 8) * 0.5 + 0.1
    for corrupt in (
        corruptions.gaussian_noise, corruptions.brightness,
        corruptions.contrast, corruptions.rotation,
    ):  # fmt: skip
        changes = []
        for severity in range(1, 6):
            corrupted = corrupt(images, severity)
            assert corrupted.shape == images.shape
            assert corrupted.min() >= 0
            assert corrupted.max() <= 1
            changes.append(float((corrupted - images).square().mean()))
        assert changes == sorted(changes)
        assert changes[0] > 0
        with pytest.raises(InputError, match="severities 1 to 5"):
            corrupt(images, 6)


def test_contrast_keeps_the_mean_of_each_channel() -> None:
    images = torch.rand(4, 3, 8, 8)
    means = corruptions.contrast(images, 3).mean(dim=(2, 3))
    torch.testing.assert_close(means, images.mean(dim=(2, 3)))
