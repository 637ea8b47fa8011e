"""Residual networks for small images."""

from collections import OrderedDict

from torch import Tensor, nn

from robsweep.tasks.models.architectures.shapes import image_shape


def resnet(shape: tuple[int, ...], classes: int, *, blocks: int = 1, width: int = 16) -> nn.Module:
    """Three stages of residual blocks, 6 * `blocks` + 2 layers deep, with batch normalisation.

    A stage has twice the channels of the one before and half its pixels on a side. Shortcuts are
    the identity, and between stages a 1x1 convolution of stride 2 (the paper's option B, as what
    subsamples and pads with zeros would be a layer more for all who read networks).
    (N, *shape) in [0, 1] -> logits (N, classes).
    Source: He et al. 2016, section 4.2.

    Args:
        blocks: Per stage, n in the paper: 3 is its ResNet-20.
        width: Channels of the first stage.

    Raises:
        InputError: Inputs are no images of at least 4x4 pixels.
    """
    depth, height, width_pixels = image_shape("resnet", shape, 4)
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(depth, width, 3, padding=1, bias=False),
        norm=nn.BatchNorm2d(width),
        relu=nn.ReLU(),
    )
    before = width
    for stage in range(3):
        after = width * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            layers[f"stage{stage + 1}_block{block + 1}"] = _Block(before, after, stride)
            before = after
    layers["pool"] = nn.AvgPool2d((-(-height // 4), -(-width_pixels // 4)))
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(before, classes)
    return nn.Sequential(layers)


class _Block(nn.Module):
    """ReLU of a shortcut plus two 3x3 convolutions."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                norm1=nn.BatchNorm2d(after),
                relu=nn.ReLU(),
                conv2=nn.Conv2d(after, after, 3, padding=1, bias=False),
                norm2=nn.BatchNorm2d(after),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(before, after, 1, stride, bias=False),
                    norm=nn.BatchNorm2d(after),
                )
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        activated: Tensor = self.relu(self.residual(x) + self.shortcut(x))
        return activated
