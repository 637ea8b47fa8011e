"""The likelihood of a model that has one."""

import torch
from torch import Tensor, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.abs import ABS
from robsweep.tasks.ood.features import innermost


def abs_likelihood(model: nn.Module, images: Tensor) -> Tensor:
    """Minus the log of the mean class-conditional likelihood, up to a constant, (N,).

    Each class's likelihood is its bound: exp of minus the loss of its best explanation, times the
    number of pixels. The classes are equally likely beforehand.
    Source: Schott et al. 2019, section 4.

    Raises:
        InputError: The model is no analysis by synthesis.
    """
    found = innermost(model)
    if not isinstance(found, ABS):
        raise InputError(
            f"abs_likelihood is of analysis by synthesis (abs, binary_abs), which has a likelihood "
            f"of its own; this model is a {type(found).__name__}: leave it out with `exclude:`"
        )
    with torch.set_grad_enabled(images.requires_grad):
        logits = model(images).double()
    # logits are -alpha times the loss per pixel: the weights of a binary one are part of them
    log_likelihoods = logits / found.inference.alpha * images[0].numel()
    score: Tensor = -log_likelihoods.logsumexp(dim=1)
    return score
