"""Certified training: on the worst logits that the bounds allow in the linf ball."""

from torch import nn
from torch.nn import functional as F

from robsweep.tasks.errors import InputError
from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup
from robsweep.tasks.training.losses.boxes import BoundedModel, Method, margins
from robsweep.tasks.training.losses.ramp import ramp


def certified(
    setup: Setup,
    *,
    eps: float,
    method: Method = "interval",
    kappa: float = 0.5,
    ramp_epochs: int = 2,
) -> LossFunction:
    """Clean cross entropy, times kappa, + (1 - kappa) * that of the worst logits in the ball.

    Over the ramp, eps grows linearly from 0, kappa falls from 1 to its value, and the bounds of
    `crown` pass over from CROWN's to those of intervals, which are all that is left after it.

    Args:
        method: `interval` (IBP) or `crown` (CROWN-IBP), slower during the ramp.
        kappa: Share of the clean loss after the ramp.

    Source: Gowal et al. 2018, section 3; Zhang et al. 2020, section 3.2.

    Raises:
        InputError: A layer that the verifier does not know; a ramp that is too long, or none where
            `crown` needs one.
    """
    if method == "crown" and ramp_epochs == 0:
        raise InputError(
            "method 'crown' passes over to intervals during the ramp: give ramp_epochs above 0"
        )
    bounded_model = BoundedModel(setup.model, tuple(setup.train.images.shape[1:]))
    share = ramp(setup, ramp_epochs)

    def loss(model: nn.Module, batch: Batch) -> Loss:
        del model
        ramped = share(batch)
        bounded = bounded_model(batch.images, ramped * eps)
        lower = margins(bounded, batch.labels, "interval")
        if method == "crown" and ramped < 1:
            lower = ramped * lower + (1 - ramped) * margins(bounded, batch.labels, "crown")
        clean = F.cross_entropy(bounded.logits, batch.targets)
        worst = F.cross_entropy(-lower, batch.labels)
        clean_share = 1 - ramped * (1 - kappa)
        value = clean_share * clean + (1 - clean_share) * worst
        return Loss(value, bounded.logits, {"clean": clean, "worst_case": worst})

    return loss
