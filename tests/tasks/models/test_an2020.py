"""The networks of An et al. 2020 against their published sizes and layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robsweep.tasks.models.architectures.activations import ACTIVATIONS
from robsweep.tasks.models.architectures.an2020 import (
    an_k3,
    an_k3_shallow,
    an_k5,
    an_k5_shallow,
    an_k7,
)
from robsweep.tasks.models.weights import put, to_bytes
from robsweep.tasks.verification.reading.torch.module import read

SHAPE = (1, 28, 28)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_as_many_as_published() -> None:
    nets = (an_k3, an_k5, an_k7)
    assert [size(net(SHAPE, 10)) for net in nets] == [1_124_180, 1_128_180, 2_291_972]
    assert sum(size(net(SHAPE, 10, conv_bias=True)) for net in nets) == 4_546_332
    # convolutions, batch normalisations and the dense layer behind 18x18 and 16x16 pixels
    convolutions = 9 * (32 + 32 * 48 + 48 * 64 + 64 * 80 + 80 * 96)
    assert size(an_k3_shallow(SHAPE, 10)) == convolutions + 2 * 320 + 96 * 18 * 18 * 10 + 20
    convolutions = 25 * (32 + 32 * 64 + 64 * 96)
    assert size(an_k5_shallow(SHAPE, 10)) == convolutions + 2 * 192 + 96 * 16 * 16 * 10 + 20


def used(model: nn.Module) -> nn.Module:
    """With batch statistics that are not those of a fresh network."""
    torch.manual_seed(0)
    model(torch.rand(8, *SHAPE))
    return model.eval()


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_layers_are_those_of_the_paper(activation: str) -> None:
    model = used(an_k5(SHAPE, 10, activation=activation, conv_bias=True)).double()
    state = model.state_dict()
    images = torch.rand(3, *SHAPE, dtype=torch.float64)

    def normalised(x: Tensor, name: str) -> Tensor:
        values = (state[f"{name}.{part}"] for part in ("running_mean", "running_var"))
        return F.batch_norm(x, *values, state[f"{name}.weight"], state[f"{name}.bias"])

    x = 2 * images - 1
    for i in range(1, 6):
        x = F.conv2d(x, state[f"conv{i}.weight"], state[f"conv{i}.bias"])
        x = getattr(F, activation)(normalised(x, f"norm{i}"))
    assert x.shape == (3, 160, 8, 8)
    expected = normalised(x.flatten(1) @ state["fc.weight"].T, "norm")
    torch.testing.assert_close(model(images), expected)


def test_fast_memory_order_stays_out_of_weights_files() -> None:
    model, other = used(an_k3_shallow(SHAPE, 10)), an_k3_shallow(SHAPE, 10).eval()
    content = to_bytes(model.state_dict())
    plain = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    assert content == to_bytes(plain)
    put(other, content, "here")
    weight = other.get_parameter("conv2.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()
    images = torch.rand(4, *SHAPE)
    assert torch.equal(model(images), other(images))


@pytest.mark.parametrize("net", [an_k3_shallow, an_k5_shallow, an_k7])
def test_the_verifier_reads_them(net: type) -> None:
    network = read(used(net(SHAPE, 10)), SHAPE)
    assert network.shapes[0] == SHAPE
    assert network.shapes[-1] == (10,)


def test_activations_are_those_that_a_sweep_may_name() -> None:
    from robsweep.tasks.catalogue.values import CHOICES

    assert tuple(ACTIVATIONS) == CHOICES["activation"]
