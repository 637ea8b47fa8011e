import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Linear,
    MaxPool,
    Relu,
    evaluate,
    is_exact,
)
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.small_nets import convolutional


@pytest.mark.parametrize(
    "name", ["functional", "pooled", "averaged", "residual", "rearranged", "curved"]
)
def test_layers_compute_what_the_module_computes(name: str) -> None:
    module, shape = convolutional(name)
    network = read(module, shape)
    x = torch.rand(5, *shape)
    values = evaluate(network, x.double())
    assert [tuple(value.shape[1:]) for value in values] == list(network.shapes)
    torch.testing.assert_close(values[-1].float(), module(x), rtol=1e-4, atol=1e-5)
    assert is_exact(network) == (name != "curved")


def test_batch_norm_is_folded_and_dropout_left_out() -> None:
    module, shape = convolutional("pooled")
    kinds = [type(layer) for layer in read(module, shape).layers]
    assert kinds[:6] == [Conv, MaxPool, Relu, Conv, Relu, MaxPool]
    assert kinds[-1] is Linear


class _Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) * x


class _Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flip(0)


class _Divided(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 1 / (x + 1)


class _Wrapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fmod(x, 0.5)


class _Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.GELU("tanh"))), r"GELU \(1.0\)"),
        (nn.Sequential(nn.Linear(4, 4), nn.Softmax(1)), r"Softmax \(1\)"),
        (_Product(), "'mul'.*two branches"),
        (_Mixing(), "'flip'.*mixes samples"),
        (_Divided(), "'truediv'.*divides by the image"),
        (_Wrapped(), "'fmod'"),
        (_Branching(), "cannot trace"),
        (nn.Sequential(nn.Linear(4, 4), nn.Hardswish()), r"Hardswish \(1\)"),
    ],
)
def test_what_cannot_be_verified_is_named(module: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read(module, (4,))


def test_set_ups_that_are_not_covered_are_refused() -> None:
    for layer in (
        nn.MaxPool2d(2, return_indices=True),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.BatchNorm2d(1, track_running_stats=False),
        nn.ELU(2.0),
        nn.Softplus(beta=2.0),
    ):
        with pytest.raises(InputError, match=type(layer).__name__):
            read(nn.Sequential(layer), (1, 6, 6))


def test_output_must_be_one_row_of_logits() -> None:
    with pytest.raises(InputError, match="not one row of logits"):
        read(nn.Sequential(nn.Conv2d(1, 1, 3)), (1, 6, 6))


def test_weights_that_are_not_finite_are_wrong_input() -> None:
    net = nn.Sequential(nn.Linear(2, 2))
    with torch.no_grad():
        net[0].bias[1] = torch.nan
    with pytest.raises(InputError, match=r"0\.bias is not finite"):
        read(net, (2,))


class _InPlace(nn.Module):
    """ReLU in place; `again` decides whether what it overwrites is read once more."""

    def __init__(self, *, again: bool, functional: bool, view: bool) -> None:
        super().__init__()
        self.fc, self.relu = nn.Linear(2, 2), nn.ReLU(inplace=True)
        self.again, self.functional, self.view = again, functional, view
        with torch.no_grad():
            self.fc.weight[:] = torch.tensor([[1.0, -1.0]])
            self.fc.bias[:] = 0.6  # above 0 where a reading is tried, below it elsewhere

    def forward(self, x: Tensor) -> Tensor:
        before = self.fc(x)
        flat = torch.flatten(before, 1) if self.view else before
        after = nn.functional.relu(flat, inplace=True) if self.functional else self.relu(flat)
        return before + after if self.again else after + x


@pytest.mark.parametrize("functional", [True, False])
@pytest.mark.parametrize("view", [True, False])
def test_overwriting_what_is_read_again_is_refused(functional: bool, view: bool) -> None:
    bad = _InPlace(again=True, functional=functional, view=view)
    with pytest.raises(InputError, match="in place on what is used again"):
        read(bad, (2,))
    read(_InPlace(again=False, functional=functional, view=view), (2,))
