"""Feature scores against scikit-learn, scipy and plain numpy."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.special import expit, logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.ood import distance_scores, fits, head_scores, subspace_scores
from robsweep.tasks.ood.fits import Given, Head

CLASSES, WIDTH = 3, 6


def given_of(seed: int = 0, n: int = 60, *, head: bool = True) -> Given:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % CLASSES
    centres = 3 * torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    features = centres[labels] + torch.randn(n, WIDTH, generator=generator, dtype=torch.float64)
    weight = torch.randn(CLASSES, WIDTH, generator=generator, dtype=torch.float64)
    bias = torch.randn(CLASSES, generator=generator, dtype=torch.float64)
    logits = features @ weight.T + bias + 10  # the largest ones above zero
    return Given(features, logits, labels, Head(weight, bias + 10, exact=True) if head else None)


TRAIN, TEST = given_of(0), given_of(1, 20)
X, LOGITS = TEST.features.numpy(), TEST.logits.numpy()


def close(found: Tensor, wanted: object) -> None:
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)


def covariance(residuals: np.ndarray) -> EmpiricalCovariance:
    return EmpiricalCovariance(assume_centered=True).fit(residuals)


def test_mahalanobis_is_scikit_learns_and_scipys() -> None:
    x, labels = TRAIN.features.numpy(), TRAIN.labels.numpy()
    means = np.stack([x[labels == k].mean(axis=0) for k in range(CLASSES)])
    within = covariance(x - means[labels])
    to_means = np.stack([within.mahalanobis(X - mean) for mean in means], axis=1)
    scipys = cdist(X, means, "mahalanobis", VI=np.linalg.inv(within.covariance_)) ** 2
    np.testing.assert_allclose(scipys, to_means)
    fit = fits.gaussian(TRAIN)
    close(distance_scores.mahalanobis(TEST.features, TEST.logits, fit), to_means.min(axis=1))
    around = covariance(x - x.mean(axis=0)).mahalanobis(X - x.mean(axis=0))
    relative = distance_scores.relative_mahalanobis(TEST.features, TEST.logits, fit)
    close(relative, (to_means - around[:, None]).min(axis=1))


def test_constant_features_say_nothing() -> None:
    def wider(given: Given) -> Given:
        dead = torch.full((len(given.labels), 2), 0.5, dtype=torch.float64)
        return given._replace(features=torch.cat([dead, given.features], dim=1))

    train, test = wider(TRAIN), wider(TEST)
    plain = distance_scores.mahalanobis(TEST.features, TEST.logits, fits.gaussian(TRAIN))
    found = distance_scores.mahalanobis(test.features, test.logits, fits.gaussian(train))
    close(found, plain.numpy())


@pytest.mark.parametrize("k", [1, 5, 60, 1000])
def test_knn_is_scikit_learns(k: int) -> None:
    neighbours = NearestNeighbors(n_neighbors=min(k, 60)).fit(normalize(TRAIN.features.numpy()))
    wanted = neighbours.kneighbors(normalize(X))[0][:, -1]
    found = distance_scores.knn(TEST.features, TEST.logits, fits.bank(TRAIN), k=k)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)  # the bank is float32


def test_nnguide_by_hand() -> None:
    bank, energy = normalize(TRAIN.features.numpy()), logsumexp(TRAIN.logits.numpy(), axis=1)
    similar = np.sort((normalize(X) @ bank.T) * energy, axis=1)[:, -4:]
    wanted = -logsumexp(LOGITS, axis=1) * similar.mean(axis=1)
    found = distance_scores.nnguide(TEST.features, TEST.logits, fits.bank(TRAIN), k=4)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5)


def test_she_by_hand() -> None:
    logits = TRAIN.logits.clone()
    logits[torch.arange(60), TRAIN.labels] += 100  # all right but the first, which counts for none
    logits[0] = torch.tensor([0.0, 1.0, 0.0])
    fit = fits.patterns(TRAIN._replace(logits=logits))
    x, labels = TRAIN.features.numpy()[1:], TRAIN.labels.numpy()[1:]
    patterns = np.stack([x[labels == k].mean(axis=0) for k in range(CLASSES)])
    wanted = -(X * patterns[LOGITS.argmax(axis=1)]).sum(axis=1)
    close(distance_scores.she(TEST.features, TEST.logits, fit), wanted)


@pytest.mark.parametrize("dim", [0, 2])
def test_vim_and_residual_by_singular_values(dim: int) -> None:
    assert TRAIN.head is not None
    w, b = TRAIN.head.weight.numpy(), TRAIN.head.bias.numpy()
    origin = -np.linalg.pinv(w) @ b
    np.testing.assert_allclose(w @ origin + b, 0, atol=1e-9)  # the logits there
    _, _, rows = np.linalg.svd(TRAIN.features.numpy() - origin)
    rest = rows[dim or WIDTH // 2 :]
    fit = fits.subspace(TRAIN, dim=dim)
    residual = np.linalg.norm((X - origin) @ rest.T, axis=1)
    close(subspace_scores.residual(TEST.features, TEST.logits, fit), residual)
    of_train = np.linalg.norm((TRAIN.features.numpy() - origin) @ rest.T, axis=1)
    alpha = TRAIN.logits.numpy().max(axis=1).mean() / of_train.mean()
    found = subspace_scores.vim(TEST.features, TEST.logits, fit)
    close(found, alpha * residual - logsumexp(LOGITS, axis=1))
    # the odds of the virtual logit
    whole = np.concatenate([LOGITS, alpha * residual[:, None]], axis=1)
    np.testing.assert_allclose(expit(found.numpy()), softmax(whole, axis=1)[:, -1])


def energy_of(x: np.ndarray) -> np.ndarray:
    assert TRAIN.head is not None
    energy: np.ndarray = -logsumexp(
        x @ TRAIN.head.weight.numpy().T + TRAIN.head.bias.numpy(), axis=1
    )
    return energy


def test_react_clips_at_the_percentile() -> None:
    fit = fits.clip(TRAIN, percentile=70.0)
    wanted = energy_of(np.minimum(X, np.percentile(TRAIN.features.numpy(), 70)))
    close(head_scores.react(TEST.features, TEST.logits, fit), wanted)


def test_ash_and_scale_by_hand() -> None:
    features = TEST.features.abs()
    x = features.numpy()
    largest = np.where(x >= np.sort(x, axis=1)[:, [-3]], x, 0.0)  # half of six stay
    ratio = np.exp(x.sum(axis=1) / largest.sum(axis=1))[:, None]
    fit = fits.head(TRAIN)
    close(head_scores.ash(features, TEST.logits, fit, prune=50.0), energy_of(largest * ratio))
    close(head_scores.scale(features, TEST.logits, fit, prune=50.0), energy_of(x * ratio))


def test_fdbd_is_the_distance_to_the_decision_boundaries() -> None:
    """Along the normal of each boundary, the logits of both classes become equal there."""
    assert TRAIN.head is not None
    w, b = TRAIN.head.weight.numpy(), TRAIN.head.bias.numpy()
    logits = X @ w.T + b
    mean = TRAIN.features.numpy().mean(axis=0)
    wanted = []
    for x, own in zip(X, logits, strict=True):
        k = own.argmax()
        distances = []
        for other in {*range(CLASSES)} - {k}:
            normal = (w[k] - w[other]) / np.linalg.norm(w[k] - w[other])
            step = (own[k] - own[other]) / np.linalg.norm(w[k] - w[other])
            at = (x - step * normal) @ w.T + b
            np.testing.assert_allclose(at[k], at[other])
            distances.append(step)
        wanted.append(-np.mean(distances) / np.linalg.norm(x - mean))
    found = head_scores.fdbd(TEST.features, torch.from_numpy(logits), fits.centre(TRAIN))
    close(found, wanted)


def test_nci_by_hand() -> None:
    assert TRAIN.head is not None
    around = X - TRAIN.features.numpy().mean(axis=0)
    own = TRAIN.head.weight.numpy()[LOGITS.argmax(axis=1)]
    along = (around * own).sum(axis=1) / np.linalg.norm(around, axis=1)
    wanted = -(along + 0.1 * np.abs(X).sum(axis=1))
    close(head_scores.nci(TEST.features, TEST.logits, fits.centre(TRAIN), alpha=0.1), wanted)


def test_gradnorm_is_the_norm_of_the_gradient_that_torch_finds() -> None:
    assert TRAIN.head is not None
    for x, found in zip(
        TEST.features,
        head_scores.gradnorm(
            TEST.features,
            TEST.features @ TRAIN.head.weight.T + TRAIN.head.bias,
            fits.head(TRAIN),
            temperature=2.0,
        ),
        strict=True,
    ):
        weight = TRAIN.head.weight.clone().requires_grad_(True)
        log_p = torch.log_softmax((weight @ x + TRAIN.head.bias) / 2.0, dim=0)
        (gradient,) = torch.autograd.grad(-log_p.mean(), weight)
        torch.testing.assert_close(-gradient.abs().sum(), found)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("gaussian", given_of(n=WIDTH + CLASSES - 1), "too few samples for a covariance"),
        ("gaussian", TRAIN._replace(labels=TRAIN.labels % 2), "none of them is of class 2"),
        ("patterns", TRAIN._replace(logits=-TRAIN.logits), "classified correctly as class"),
        ("posteriors", TRAIN._replace(logits=torch.eye(3)[TRAIN.labels % 2].double()), "class 2"),
        ("subspace", TRAIN._replace(logits=TRAIN.logits - 100), "not positive"),
        ("subspace", given_of(n=WIDTH - 1), "too few samples for a subspace: 5 for 6 features"),
        *(
            (name, TRAIN._replace(features=torch.ones_like(TRAIN.features)), "all 6 features")
            for name in ("gaussian", "bank", "subspace", "clip", "patterns", "centre")
        ),
    ],
)
def test_what_cannot_be_fitted_says_why(name: str, given: Given, message: str) -> None:
    with pytest.raises(InputError, match=message):
        getattr(fits, name)(given)


def test_a_subspace_needs_something_outside() -> None:
    with pytest.raises(InputError, match="more than 6 features"):
        fits.subspace(TRAIN, dim=6)
    flat = TRAIN.features.clone()
    assert TRAIN.head is not None
    bias = torch.zeros_like(TRAIN.head.bias)  # the origin is 0
    flat[:, 2:] = 0
    given = TRAIN._replace(features=flat, head=TRAIN.head._replace(bias=bias))
    with pytest.raises(InputError, match="there is no residual"):
        fits.subspace(given, dim=2)
