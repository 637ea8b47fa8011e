"""Training for analysis by synthesis: every class's autoencoder sees its own class only."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.abs import ABS, VAE
from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup


def vae(
    setup: Setup, *, kl_start: float = 10.0, kl_end: float = 1.0, kl_epochs: int = 50
) -> LossFunction:
    """Squared distance of one reconstruction, plus a falling weight times the KL divergence.

    The loss is the mean over the batch, whatever its classes; Adam evens out how many images of a
    class a batch has. Images are not thresholded for a binary model: the paper's two models share
    their weights. There are no logits, whose search takes far longer than a step; for the same
    reason, take a small `validation_samples`.

    Args:
        kl_start: Weight of the divergence in the first epoch.
        kl_end: Its weight after `kl_epochs` epochs, to which it falls linearly.

    Raises:
        InputError: The model has no autoencoders, or the recipe mixes images of several classes.

    Source: Schott et al. 2019, section 4, and appendix on training.
    """
    trained = setup.model
    if not isinstance(trained, ABS):
        raise InputError(
            f"training 'vae' is for models 'abs' and 'binary_abs', which have an autoencoder per "
            f"class, not for a {type(trained).__name__}: choose models by `only:` or `exclude:`"
        )

    def loss(model: nn.Module, batch: Batch) -> Loss:
        del model  # the same one, or compiled
        if batch.targets.is_floating_point():
            raise InputError(
                "training 'vae' has an autoencoder per class, so images of several classes fit "
                "none: leave out mixup, cutmix and label_smoothing"
            )
        weight = kl_weight(batch.epoch, kl_start, kl_end, kl_epochs)
        total = [torch.zeros((), device=batch.images.device) for _ in range(2)]
        for label in torch.unique(batch.labels).tolist():
            own = batch.images[batch.labels == label]
            for i, part in enumerate(reconstruction_and_kl(trained.vae(label), own)):
                total[i] = total[i] + part.sum()
        reconstruction, kl = (part / len(batch.labels) for part in total)
        value = reconstruction + weight * kl
        return Loss(value, None, {"reconstruction": reconstruction, "kl": kl})

    return loss


def kl_weight(epoch: int, start: float, end: float, epochs: int) -> float:
    """Linear from `start` in epoch 1 to `end` in epoch `epochs` + 1, and from there on."""
    left = max(0.0, 1 - (epoch - 1) / epochs) if epochs else 0.0
    return end + (start - end) * left


def reconstruction_and_kl(autoencoder: VAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """||G(z) - x||^2 for one z drawn from N(mean, variance), and its KL to N(0, 1); (N,) each."""
    mean, log_variance = autoencoder.encoder(images)
    latents = mean + (log_variance / 2).exp() * torch.randn_like(mean)
    decoded = autoencoder.decoder(latents)
    distance = F.mse_loss(decoded, images, reduction="none").flatten(1).sum(1)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
    return distance, kl
