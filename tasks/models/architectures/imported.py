"""Architectures of published networks, whose weights are imported."""

from collections import OrderedDict

from torch import nn

from robsweep.tasks.errors import InputError


def wk17a(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two strided convolutions and two dense layers (4,804 ReLUs), trained for linf 0.1.

    (N, 1, 28, 28) in [0, 1] -> logits (N, 10).
    Source: Wong & Kolter 2018, section 5; weights as converted for Tjeng et al. 2019.
    """
    _check_mnist("wk17a", shape, classes)
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 4, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, 32, 4, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(1568, 100),
            relu3=nn.ReLU(),
            fc2=nn.Linear(100, 10),
        )
    )


def rsl18a(shape: tuple[int, ...], classes: int) -> nn.Module:
    """One hidden layer of 500 ReLUs, trained for linf 0.1 with a semidefinite certificate.

    (N, 1, 28, 28) in [0, 1] -> logits (N, 10).
    Source: Raghunathan et al. 2018, section 4; weights as converted for Tjeng et al. 2019.
    """
    _check_mnist("rsl18a", shape, classes)
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(784, 500),
            relu1=nn.ReLU(),
            fc2=nn.Linear(500, 10),
        )
    )


def _check_mnist(name: str, shape: tuple[int, ...], classes: int) -> None:
    if tuple(shape) != (1, 28, 28) or classes != 10:
        raise InputError(
            f"model {name!r} takes MNIST images (1, 28, 28) of 10 classes, "
            f"got {tuple(shape)} and {classes}"
        )
