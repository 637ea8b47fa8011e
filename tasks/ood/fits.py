"""What feature scores are fitted on: means, subspaces, neighbours. All in float64."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.errors import InputError

Fitted = Mapping[str, Tensor]

_RANK = 1e-10  # of a covariance, relative to its largest eigenvalue


class Head(NamedTuple):
    """The last linear layer and the affine ones behind it."""

    weight: Tensor  # (K, D) float64
    bias: Tensor  # (K,)
    exact: bool  # whether it makes the model's logits of these features


class Given(NamedTuple):
    """The first samples of a split, as the model sees them."""

    features: Tensor  # (N, D) float64; of a fit on logits: (N, 0)
    logits: Tensor  # (N, K) float64
    labels: Tensor  # (N,) int64
    head: Head | None = None

    @property
    def classes(self) -> int:
        return self.logits.shape[1]


def posteriors(given: Given) -> dict[str, Tensor]:
    """Mean posteriors of the samples predicted as each class, (K, K).

    Raises:
        InputError: A class is never predicted.
    """
    p = torch.softmax(given.logits, dim=1)
    predicted = given.logits.argmax(dim=1)
    _check_classes(predicted, given.classes, "predicted as", more="train it longer")
    return {"posteriors": _means(p, predicted, given.classes)}


def head(given: Given) -> dict[str, Tensor]:
    """Nothing but the last layer."""
    return _head(given)


def gaussian(given: Given) -> dict[str, Tensor]:
    """Class means with one covariance for all, and one Gaussian of all samples.

    Features that are the same for all samples say nothing and are left out.

    Raises:
        InputError: A class is missing; as few samples as dimensions; all features are constant.
    """
    x, kept = _varying(given.features)
    labels, classes = given.labels, given.classes
    _check_classes(labels, classes, "of")
    n, d = x.shape
    if n < d + classes:
        raise InputError(
            f"too few samples for a covariance: {n} for {d} features and {classes} classes, at "
            f"least {d + classes} are needed: raise `fit_samples`, or take `pool: mean`"
        )
    means, mean = _means(x, labels, classes), x.mean(dim=0)
    within = x - means[labels]
    around = x - mean
    return {
        "kept": kept,
        "means": means,
        "mean": mean,
        "precision": _inverse(within.T @ within / n),
        "background_precision": _inverse(around.T @ around / n),
    }


def bank(given: Given) -> dict[str, Tensor]:
    """The features on the unit sphere, and the energies of the same samples.

    Raises:
        InputError: All features are constant.
    """
    _varying(given.features)
    return {
        "bank": torch.nn.functional.normalize(given.features, dim=1).float(),
        "confidence": given.logits.logsumexp(dim=1),
    }


def subspace(given: Given, *, dim: int = 0) -> dict[str, Tensor]:
    """The principal subspace of the features around the origin of the logits.

    The origin is where the head gives logits of zero, or comes closest. ViM's factor makes the
    mean virtual logit equal to the mean largest logit.

    Args:
        given: With a head.
        dim: Of the subspace. 0: 1,000 of 2,048 features or more, 512 of 768 or more, else half.

    Raises:
        InputError: Fewer samples than features, so that what is left of the subspace is not known;
            the subspace is all there is; largest logits that are not positive; all features are
            constant.
    """
    assert given.head is not None
    _varying(given.features)
    n, d = given.features.shape
    if n < d:
        raise InputError(
            f"too few samples for a subspace: {n} for {d} features: raise `fit_samples`, or take "
            "`pool: mean`"
        )
    dim = dim or (1000 if d >= 2048 else 512 if d >= 768 else d // 2)
    if not 0 < dim < d:
        raise InputError(f"a principal subspace of dim {dim} needs more than {d} features")
    origin = -torch.linalg.pinv(given.head.weight) @ given.head.bias
    x = given.features - origin
    _, vectors = torch.linalg.eigh(x.T @ x / len(x))  # in ascending order
    basis = vectors[:, d - dim :]
    residual = (x - x @ basis @ basis.T).norm(dim=1).mean()
    largest = given.logits.amax(dim=1).mean()
    scale = x.norm(dim=1).mean()
    if largest <= 0:
        raise InputError(
            "the mean largest logit is not positive, so that ViM's virtual logit has no scale: "
            "take `residual`"
        )
    if residual <= 1e-9 * scale:
        raise InputError(
            f"the features lie in a subspace of dim {dim}, there is no residual: lower `dim`"
        )
    return {
        "origin": origin,
        "basis": basis.contiguous(),
        "alpha": (largest / residual).reshape(1),
    }


def clip(given: Given, *, percentile: float = 90.0) -> dict[str, Tensor]:
    """The percentile of all activations, of all features together, and the head."""
    _varying(given.features)
    value = np.percentile(given.features.cpu().numpy(), percentile)
    return {**_head(given), "clip": torch.tensor([float(value)], dtype=torch.float64)}


def patterns(given: Given) -> dict[str, Tensor]:
    """Mean features (K, D) of the correctly classified samples of each class.

    Raises:
        InputError: A class has none.
    """
    _varying(given.features)
    right = given.logits.argmax(dim=1) == given.labels
    labels = given.labels[right]
    _check_classes(labels, given.classes, "classified correctly as")
    return {"patterns": _means(given.features[right], labels, given.classes)}


def centre(given: Given) -> dict[str, Tensor]:
    """Mean of the features, and the head."""
    _varying(given.features)
    return {**_head(given), "mean": given.features.mean(dim=0)}


def _head(given: Given) -> dict[str, Tensor]:
    assert given.head is not None
    return {"weight": given.head.weight, "bias": given.head.bias}


def _varying(features: Tensor) -> tuple[Tensor, Tensor]:
    """The features that are not the same for all samples, and which these are."""
    kept = (features != features[:1]).any(dim=0).nonzero()[:, 0]
    if not len(kept):
        raise InputError(
            f"all {features.shape[1]} features are the same for all {len(features)} samples: "
            "there is nothing to fit"
        )
    return features[:, kept], kept


def _check_classes(
    labels: Tensor, classes: int, what: str, more: str = "raise `fit_samples`"
) -> None:
    counts = torch.bincount(labels, minlength=classes)[:classes]
    if missing := (counts == 0).nonzero()[:, 0].tolist():
        raise InputError(
            f"none of them is {what} class {', '.join(map(str, missing))}: {more}, or leave this "
            "model out of it with `exclude:`"
        )


def _means(x: Tensor, labels: Tensor, classes: int) -> Tensor:
    sums = x.new_zeros(classes, x.shape[1]).index_add_(0, labels, x)
    return sums / torch.bincount(labels, minlength=classes)[:classes, None]


def _inverse(covariance: Tensor) -> Tensor:
    """The pseudo-inverse of a covariance: directions without variance count for nothing."""
    values, vectors = torch.linalg.eigh(covariance)
    inverse = torch.where(values > _RANK * values[-1], 1 / values, 0.0)
    result: Tensor = (vectors * inverse) @ vectors.T
    return result
