"""Scores by where features lie: `f(features, logits, fit) -> (N,)`, higher = more OOD.

Features (N, D) and logits (N, K) are float64, a fit is what `fits` makes. All are differentiable.
"""

import torch
from torch import Tensor

from robsweep.tasks.ood.fits import Fitted


def mahalanobis(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """Squared Mahalanobis distance to the closest class mean.

    Source: Lee et al. 2018, section 2.1, of the penultimate layer, without perturbed inputs.
    """
    return _to_classes(features, fit).amin(dim=1)


def relative_mahalanobis(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """The same less the squared distance under one Gaussian of all training samples.

    Source: Ren et al. 2021, section 3.
    """
    x = features[:, fit["kept"]] - fit["mean"]
    background = ((x @ fit["background_precision"]) * x).sum(dim=1)
    return (_to_classes(features, fit) - background[:, None]).amin(dim=1)


def knn(features: Tensor, logits: Tensor, fit: Fitted, *, k: int = 50) -> Tensor:
    """Euclidean distance to the k-th closest training sample, all on the unit sphere.

    Source: Sun et al. 2022, section 3.
    """
    similar = _unit(features) @ fit["bank"].double().T
    kth = similar.topk(min(k, similar.shape[1]), dim=1).values[:, -1]
    # of two unit vectors; below zero by rounding alone
    return (2 - 2 * kth).clamp(min=0).sqrt()


def she(features: Tensor, logits: Tensor, fit: Fitted) -> Tensor:
    """Minus the inner product with the mean pattern of the predicted class.

    Source: Zhang et al. 2023, section 3, the simplified Hopfield energy.
    """
    return -(features * fit["patterns"][logits.argmax(dim=1)]).sum(dim=1)


def nnguide(features: Tensor, logits: Tensor, fit: Fitted, *, k: int = 10) -> Tensor:
    """Minus energy times guidance: the mean of the k largest cosines, each times its energy.

    Source: Park et al. 2023, section 3.
    """
    similar = _unit(features) @ (fit["bank"].double() * fit["confidence"][:, None]).T
    guidance = similar.topk(min(k, similar.shape[1]), dim=1).values.mean(dim=1)
    return -logits.logsumexp(dim=1) * guidance


def _to_classes(features: Tensor, fit: Fitted) -> Tensor:
    """Squared distances (N, K) to the class means."""
    x = features[:, fit["kept"]]
    distances = []
    for mean in fit["means"]:
        around = x - mean
        distances.append(((around @ fit["precision"]) * around).sum(dim=1))
    return torch.stack(distances, dim=1)


def _unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=1)
