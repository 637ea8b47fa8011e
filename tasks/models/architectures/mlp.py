"""Fully connected networks."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn

from robsweep.tasks.models.architectures.activations import activation_named


def mlp(
    shape: tuple[int, ...],
    classes: int,
    *,
    hidden: Sequence[int] = (64, 64),
    activation: str = "relu",
) -> nn.Module:
    """Net with the given hidden widths; (N, *shape) in [0, 1] -> logits (N, classes).

    Raises:
        InputError: There is no such activation.
    """
    widths = [prod(shape), *hidden]
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for i, (width, following) in enumerate(pairwise(widths), start=1):
        layers[f"fc{i}"] = nn.Linear(width, following)
        layers[f"{activation}{i}"] = activation_named(activation)
    layers[f"fc{len(widths)}"] = nn.Linear(widths[-1], classes)
    return nn.Sequential(layers)
