"""Networks of the catalogue against their published sizes and what they must compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.models.architectures.cnn import madry
from robsweep.tasks.models.architectures.mlp import mlp
from robsweep.tasks.models.architectures.resnet import resnet
from robsweep.tasks.recheck.layers import forward
from robsweep.tasks.recheck.network import read as read_again
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.reading.torch.module import read


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh", "softplus", "elu"])
def test_mlps_differ_in_their_activation_only(activation: str) -> None:
    model = mlp((2, 3), 4, hidden=(5, 6), activation=activation)
    assert list(model.state_dict()) == [
        f"fc{i}.{part}" for i in (1, 2, 3) for part in ("weight", "bias")
    ]
    x = torch.randn(7, 2, 3)
    hidden = x.flatten(1)
    curve = torch.tanh if activation == "tanh" else getattr(F, activation)
    for i in (1, 2):
        layer = model.get_submodule(f"fc{i}")
        hidden = curve(layer(hidden))
    torch.testing.assert_close(model(x), model.get_submodule("fc3")(hidden))


def test_madry_is_as_large_as_the_published_one() -> None:
    assert size(madry((1, 28, 28), 10)) == 3_274_634
    images = torch.rand(2, 3, 8, 12)
    assert madry((3, 8, 12), 5)(images).shape == (2, 5)
    with pytest.raises(InputError, match="multiples of 4"):
        madry((1, 28, 30), 10)


def test_resnet_20_is_as_large_as_the_published_one() -> None:
    projections = (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)  # in place of zeros, on two shortcuts
    assert size(resnet((3, 32, 32), 10, blocks=3)) == 269_722 + projections


def used(shape: tuple[int, ...], blocks: int, width: int) -> nn.Module:
    """With batch statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    model = resnet(shape, 10, blocks=blocks, width=width)
    model(torch.rand(8, *shape))
    return model.eval().double()


def test_a_block_without_residual_is_its_shortcut() -> None:
    model = used((1, 8, 8), 2, 4)
    block = model.get_submodule("stage1_block2")
    for name in ("weight", "bias"):
        nn.init.zeros_(block.get_parameter(f"residual.norm2.{name}"))
    x = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    assert torch.equal(block(x), x.clamp(min=0))
    last = model.get_submodule("stage3_block1")
    x = torch.randn(3, 8, 4, 4, dtype=torch.float64)
    expected = F.relu(last.get_submodule("residual")(x) + last.get_submodule("shortcut")(x))
    assert torch.equal(last(x), expected)
    assert last(x).shape == (3, 16, 2, 2)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (2, 9, 6)])
def test_verifier_and_recheck_read_resnets(shape: tuple[int, ...]) -> None:
    model = used(shape, 1, 2)
    images = torch.rand(2, *shape, dtype=torch.float64)
    network, again = read(model, shape), read_again(model, shape)
    assert network.shapes[-1] == (10,)
    found = forward(again, images.flatten(1).numpy())
    torch.testing.assert_close(torch.from_numpy(found), model(images).detach())


def test_bounds_of_a_resnet_hold() -> None:
    shape = (1, 8, 8)
    model = used(shape, 1, 2)
    network = read(model, shape)
    image = torch.rand(1, *shape, dtype=torch.float64)
    box = Bounds((image - 0.01).clamp(0, 1), (image + 0.01).clamp(0, 1))
    by_interval, by_crown = interval(network, box)[-1], crown(network, box)[-1]
    points = box.lower + (box.upper - box.lower) * torch.rand(500, *shape, dtype=torch.float64)
    with torch.no_grad():
        logits = model(torch.cat([points, box.lower, box.upper]))
    for bounds in (by_interval, by_crown):
        assert (bounds.lower <= logits.min(dim=0).values).all()
        assert (bounds.upper >= logits.max(dim=0).values).all()
    assert (by_crown.upper - by_crown.lower).sum() < (by_interval.upper - by_interval.lower).sum()
