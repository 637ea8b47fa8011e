"""Outlier exposure: a model learns to be unsure about images of another data set."""

import torch
from torch import nn
from torch.nn import functional as F

from robsweep.tasks.errors import InputError
from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup


def outlier_exposure(
    setup: Setup, *, outliers: str, outlier_split: str = "train", coefficient: float = 0.5
) -> LossFunction:
    """Cross entropy + coefficient * cross entropy of the outliers' answer to the uniform one.

    Each step draws as many outliers as it has images.

    Args:
        outliers: A data set of the same shape; what is detected later is only unseen if it is
            another one.

    Raises:
        InputError: The split is the test split.

    Source: Hendrycks et al. 2019, section 3, for classifiers.
    """
    if outlier_split == "test":
        raise InputError(
            "outlier_split: test: OOD detection is measured on test splits, and a model must not "
            "be trained on what it is measured on; use train or validation"
        )
    pool = setup.outliers(outliers, outlier_split).images

    def loss(model: nn.Module, batch: Batch) -> Loss:
        nonlocal pool
        device = batch.images.device
        pool = pool.to(device)
        drawn = pool[torch.randint(len(pool), (len(batch.images),), device=device)]
        both = model(torch.cat([batch.images, drawn]))
        logits, outside = both[: len(batch.images)], both[len(batch.images) :]
        fitted = F.cross_entropy(logits, batch.targets)
        # smallest, log K, where the answer is uniform
        unsure = -outside.log_softmax(dim=1).mean()
        terms = {"clean": fitted, "outliers": unsure}
        return Loss(fitted + coefficient * unsure, logits, terms)

    return loss
