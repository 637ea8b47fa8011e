import pytest
import torch
from torch import Tensor, nn

from tasks.errors import InputError
from tasks.verification.layers import Conv, Linear, MaxPool, Relu, apply
from tasks.verification.network import read
from tests.tasks.verification.small_nets import convolutional


@pytest.mark.parametrize("name", ["functional", "pooled", "averaged"])
def test_layers_compute_what_the_module_computes(name: str) -> None:
    module, shape = convolutional(name)
    network = read(module, shape)
    x = torch.rand(5, *shape)
    value = x.double()
    for layer, entering in zip(network.layers, network.shapes, strict=False):
        assert tuple(value.shape[1:]) == entering
        value = apply(layer, value)
    torch.testing.assert_close(value.float(), module(x), rtol=1e-4, atol=1e-5)


def test_batch_norm_is_folded_and_dropout_left_out() -> None:
    module, shape = convolutional("pooled")
    kinds = [type(layer) for layer in read(module, shape).layers]
    assert kinds[:6] == [Conv, MaxPool, Relu, Conv, Relu, MaxPool]
    assert kinds[-1] is Linear


class _Residual(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) + x


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GELU())), r"GELU \(1.0\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), r"Softmax \(1\)"),
        (_Residual(), "'add'.*chain"),
        (_Branching(), "cannot trace"),
        (nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Flatten()), "Unflatten"),
    ],
)
def test_what_cannot_be_verified_is_named(module: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(module, (4,))


def test_set_ups_that_are_not_covered_are_refused() -> None:
    for layer in (
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        nn.Conv2d(1, 1, 3, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.Flatten(2),
    ):
        with pytest.raises(InputError, match=type(layer).__name__):
            read(nn.Sequential(layer), (1, 6, 6))


def test_output_must_be_one_row_of_logits() -> None:
    with pytest.raises(InputError, match="not one row of logits"):
        read(nn.Sequential(nn.Conv2d(1, 1, 3)), (1, 6, 6))
