import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from scipy.stats import entropy
from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.ood import fits, logit_scores
from robsweep.tasks.ood.member_scores import mutual_information
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


def test_the_cross_entropy_to_uniform_is_scipys() -> None:
    p = softmax(LOGITS.double().numpy(), axis=1)
    found = logit_scores.cross_entropy_uniform(nn.Identity(), LOGITS).numpy()
    uniform = np.full(3, 1 / 3)
    crossed = entropy(uniform) + entropy(np.broadcast_to(uniform, p.shape), p, axis=1)
    np.testing.assert_allclose(found, -crossed)


@pytest.mark.parametrize(("gamma", "top"), [(0.1, 100), (0.5, 2), (1.0, 3)])
def test_generalised_entropy_by_hand(gamma: float, top: int) -> None:
    p = softmax(LOGITS[:2].double().numpy(), axis=1)
    largest = -np.sort(-p, axis=1)[:, :top]
    wanted = (largest**gamma * (1 - largest) ** gamma).sum(axis=1)
    found = logit_scores.gen(nn.Identity(), LOGITS[:2], gamma=gamma, top=top).numpy()
    np.testing.assert_allclose(found, wanted)
    sure = logit_scores.gen(nn.Identity(), LOGITS[2:], gamma=gamma, top=top)
    assert sure[0] > sure[1] > 0, "the surest ones are told apart"


def test_kl_matching_is_scipys_to_the_closest_mean_posterior() -> None:
    torch.manual_seed(0)
    validation = 3 * torch.randn(50, 3, dtype=torch.float64)
    p, predicted = softmax(validation.numpy(), axis=1), validation.argmax(dim=1).numpy()
    means = [p[predicted == k].mean(axis=0) for k in range(3)]
    nothing = torch.zeros(50, 0)
    fit = fits.posteriors(fits.Given(nothing, validation, torch.zeros(50, dtype=torch.int64)))
    own = softmax(LOGITS.double().numpy(), axis=1)
    wanted = [min(entropy(one, mean) for mean in means) for one in own]
    found = logit_scores.kl_matching(LOGITS.double(), fit).numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_mutual_information_is_what_members_disagree_about() -> None:
    members = torch.tensor([[[20.0, 0.0], [0.0, 20.0]], [[1.0, 0.0], [1.0, 0.0]]]).double()
    p = softmax(members.numpy(), axis=2)
    wanted = entropy(p.mean(axis=1), axis=1) - entropy(p, axis=2).mean(axis=1)
    found = mutual_information(members).numpy()
    np.testing.assert_allclose(found, wanted, atol=1e-12)
    assert found[0] == pytest.approx(np.log(2), abs=1e-6)
    assert found[1] == pytest.approx(0, abs=1e-12)
