"""Training for a small output box."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.training.fit import Batch, Loss, LossFunction, Setup
from robsweep.tasks.training.losses.boxes import BoundedModel, Method, output_box
from robsweep.tasks.training.losses.ramp import ramp

Measure = Literal["log_volume", "volume", "mean_width"]
# In logits, added to each width before its logarithm. Without it, log_volume would be least where
# all logits vanish, and a weight of 0.3 leads there; with 1 it is 0 there, and flat.
_FLOOR = {"log_volume": 1.0, "volume": 1e-3}


def sensitivity(
    setup: Setup,
    *,
    eps: float,
    weight: float = 0.1,
    method: Method = "interval",
    measure: Measure = "log_volume",
    ramp_epochs: int = 1,
) -> LossFunction:
    """Cross entropy + weight * size of the output box of the linf ball, averaged over samples.

    The paper takes the volume of an over-approximation of the reachable outputs; how it normalises
    it is not public. Ours is per class, so that a weight means the same for any number of them:
    `mean_width` is the mean over the classes of the box's widths, `volume` the K-th root of its
    volume (their geometric mean, each 0.001 wider), `log_volume` the mean of log(width + 1).

    Args:
        method: `interval`, or `crown`: tighter, and slower by the number of classes and more.
        ramp_epochs: Over which eps grows linearly from 0.

    Source: arXiv 1810.11726, "Towards Robust Deep Neural Networks".
    """
    bounded_model = BoundedModel(setup.model, tuple(setup.train.images.shape[1:]))
    share = ramp(setup, ramp_epochs)

    def loss(model: nn.Module, batch: Batch) -> Loss:
        del model
        bounded = bounded_model(batch.images, share(batch) * eps)
        box = output_box(bounded, method)
        size = size_of(box.upper - box.lower, measure).mean()
        clean = F.cross_entropy(bounded.logits, batch.targets)
        terms = {"clean": clean, "sensitivity": size}
        return Loss(clean + weight * size, bounded.logits, terms)

    return loss


def size_of(widths: Tensor, measure: Measure) -> Tensor:
    """Of boxes with sides (N, K) >= 0: (N,); finite, with finite gradients, where a side is 0."""
    if measure == "mean_width":
        return widths.mean(dim=1)
    mean_log = (widths.clamp(min=0) + _FLOOR[measure]).log().mean(dim=1)
    return mean_log if measure == "log_volume" else mean_log.exp()
