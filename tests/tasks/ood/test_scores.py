import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from torch import nn

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
