"""Activation functions by name."""

from collections.abc import Callable, Mapping

from torch import nn

from robsweep.tasks.errors import InputError

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "elu": nn.ELU,
}


def activation_named(name: str) -> nn.Module:
    """A new layer of its own, as readers of networks tell layers apart by identity.

    Raises:
        InputError: There is no such activation.
    """
    if name not in ACTIVATIONS:
        raise InputError(f"unknown activation {name!r}; there are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
