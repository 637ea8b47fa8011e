"""Convolutional networks for small images."""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.shapes import image_shape


def cnn_small(
    shape: tuple[int, ...], classes: int, *, channels: Sequence[int] = (8, 16), hidden: int = 32
) -> nn.Module:
    """Two 4x4 convolutions of stride 2 and two dense layers: every layer affine or ReLU.

    (N, *shape) in [0, 1] -> logits (N, classes).
    """
    depth, height, width = image_shape("cnn_small", shape, 4)
    first, second = channels
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(depth, first, 4, stride=2, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(first, second, 4, stride=2, padding=1),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(second * (height // 4) * (width // 4), hidden),
            relu3=nn.ReLU(),
            fc2=nn.Linear(hidden, classes),
        )
    )


def cnn(shape: tuple[int, ...], classes: int, *, dropout: float = 0.5) -> nn.Module:
    """Two 5x5 convolutions with max pooling and two dense layers; 21,840 parameters on 28x28.

    (N, *shape) in [0, 1] -> logits (N, classes).
    Source: the MNIST example of PyTorch, after LeCun et al. 1998.
    """
    depth, height, width = image_shape("cnn", shape, 16)
    left = [((side - 4) // 2 - 4) // 2 for side in (height, width)]
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(depth, 10, 5),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(10, 20, 5),
            dropout1=nn.Dropout2d(dropout),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(20 * left[0] * left[1], 50),
            relu3=nn.ReLU(),
            dropout2=nn.Dropout(dropout),
            fc2=nn.Linear(50, classes),
        )
    )


def madry(shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two padded 5x5 convolutions with max pooling, and a dense layer of 1,024 ReLUs.

    3,274,634 parameters on 28x28. (N, *shape) in [0, 1] -> logits (N, classes).
    Source: Madry et al. 2018, section 5, and the MNIST challenge that it names.

    Raises:
        InputError: Inputs are no images whose sides are multiples of 4.
    """
    depth, height, width = image_shape("madry", shape, 4)
    if height % 4 or width % 4:
        raise InputError(
            f"model 'madry' halves images twice: it needs sides that are multiples of 4, "
            f"got inputs of shape {tuple(shape)}; try 'cnn_small'"
        )
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(depth, 32, 5, padding=2),
            relu1=nn.ReLU(),
            pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            relu2=nn.ReLU(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(64 * (height // 4) * (width // 4), 1024),
            relu3=nn.ReLU(),
            fc2=nn.Linear(1024, classes),
        )
    )
