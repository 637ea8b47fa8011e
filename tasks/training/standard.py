"""Cross entropy on the images as they are."""

from torch import Tensor, nn
from torch.nn import functional as F

from tasks.data.load import Labelled
from tasks.training.fit import Epoch, Loss, fit


def standard(
    model: nn.Module,
    train: Labelled,
    validation: Labelled,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    lr: float = 1e-3,
    lr_decay: float = 1.0,
    weight_decay: float = 0.0,
) -> list[Epoch]:
    """Minimises cross entropy with Adam, in place."""
    return fit(
        model,
        train,
        validation,
        cross_entropy,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        lr_decay=lr_decay,
        weight_decay=weight_decay,
    )


def cross_entropy(model: nn.Module, images: Tensor, labels: Tensor) -> Loss:
    logits = model(images)
    return Loss(F.cross_entropy(logits, labels), logits, {})
