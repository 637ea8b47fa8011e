"""How far the logits can move in a linf ball: output boxes from the verifier's own bounds."""

import torch
from torch import Tensor, nn

from robsweep.tasks.ball import box
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.backward import unit_bounds
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.torch.module import read


def output_box(model: nn.Module, images: Tensor, eps: float, method: str) -> Bounds:
    """A box that holds the logits of every input in the linf ball around each image.

    Args:
        images: Float32 (N, *shape) in [0, 1].
        eps: Radius of the ball, which is clipped to [0, 1].
        method: `interval` or `crown`.

    Returns:
        Lower and upper bounds, float64 (N, K) each; at eps 0 both are the logits.

    Raises:
        InputError: An unknown method, or a model that cannot be read as a network.
    """
    return network_box(read(model, tuple(images.shape[1:])), images, eps, method)


def network_box(network: Network, images: Tensor, eps: float, method: str) -> Bounds:
    """As `output_box`, of a model that has been read already."""
    if method not in ("interval", "crown"):
        raise InputError(f"unknown method {method!r} of output boxes; known are interval, crown")
    if eps == 0:  # one point: there is nothing to bound but rounding
        logits = evaluate(network, images.double())[-1]
        return Bounds(logits, logits)
    ball = Bounds(*box(images, eps))
    if method == "interval":
        return interval(network, ball)[-1]
    bounds = crown(network, ball)
    count, classes = bounds[-1].lower.shape
    owner = torch.arange(count, device=images.device).repeat_interleave(classes)
    unit = torch.arange(classes, device=images.device).repeat(count)
    found = unit_bounds(network, bounds, owner, unit)
    return Bounds(
        torch.maximum(bounds[-1].lower, found.lower.reshape(count, classes)),
        torch.minimum(bounds[-1].upper, found.upper.reshape(count, classes)),
    )


def log_volume(box: Bounds) -> Tensor:
    """Natural logarithm of each box's volume, (N,); -inf where a side has no width."""
    return (box.upper - box.lower).log().sum(1)


def mean_width(box: Bounds) -> Tensor:
    """Mean over a box's sides, (N,)."""
    return (box.upper - box.lower).mean(1)
