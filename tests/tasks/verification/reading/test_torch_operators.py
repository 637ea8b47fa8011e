"""Torch's operators, each held against the module, and against its float32 inside of its bounds."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.reading.layers import evaluate, is_exact
from robsweep.tasks.verification.reading.torch.module import read_as_deployed


class _Of(nn.Module):
    def __init__(self, does: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.does = does

    def forward(self, x: Tensor) -> Tensor:
        return torch.flatten(self.does(x), 1)


_FIXED = torch.linspace(-1, 1, 36).reshape(1, 2, 3, 6)
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": lambda x: x.abs(),
    "clamp": lambda x: x.clamp(-0.3, 0.4),
    "clamp_min": lambda x: torch.clamp(x, min=-0.3),
    "clamp_max": lambda x: x.clamp_max(0.1),
    "leaky": lambda x: nn.functional.leaky_relu(x, 0.2),
    "relu6": lambda x: nn.functional.relu6(9 * x),
    "maximum": lambda x: torch.maximum(x, 0.5 - x),
    "minimum": lambda x: torch.min(2 * x, -x),
    "with a constant": lambda x: torch.maximum(x, _FIXED),
    "amax": lambda x: x.amax((2, 3)),
    "amin": lambda x: x.amin(3, keepdim=True),
    "mean": lambda x: x.mean((2, 3)),
    "sum": lambda x: x.sum(1),
    "cat": lambda x: torch.cat([x, torch.relu(x), -x], 2),
    "chunk": lambda x: x.chunk(2, 3)[1] - x.chunk(2, 3)[0],
    "split": lambda x: torch.cat([x.split(2, 3)[2], x.split(2, 3)[0]], 3),
    "sign": torch.sign,
    "floor": lambda x: torch.floor(5 * x),
    "round": lambda x: torch.round(5 * x),
    "masked ReLU": lambda x: torch.relu(x) * (_FIXED > 0.3) + x * (_FIXED < -0.3),
}
LAYERS: dict[str, nn.Module] = {
    "LeakyReLU": nn.LeakyReLU(0.1),
    "PReLU": nn.PReLU(2),
    "Hardtanh": nn.Hardtanh(-0.5, 0.25),
    "Hardsigmoid": nn.Hardsigmoid(),
    "ConvTranspose2d": nn.ConvTranspose2d(2, 3, 2, stride=2, padding=1, output_padding=1),
    "ceil": nn.MaxPool2d(2, stride=2, ceil_mode=True),
    "dilated": nn.MaxPool2d(2, stride=1, dilation=2),
    "average ceil": nn.AvgPool2d(2, stride=2, padding=1, ceil_mode=True),
    "average uncounted": nn.AvgPool2d(2, padding=1, ceil_mode=True, count_include_pad=False),
    "adaptive": nn.AdaptiveAvgPool2d((2, 4)),
    "global": nn.AdaptiveMaxPool2d(1),
    "adaptive max": nn.AdaptiveMaxPool2d((3, 2)),
}
SIGNALS: dict[str, nn.Module] = {
    "Conv1d": nn.Conv1d(2, 3, 3, stride=2, padding=1),
    "MaxPool1d": nn.MaxPool1d(3, stride=2, padding=1),
    "AvgPool1d": nn.AvgPool1d(3, stride=2, padding=1, ceil_mode=True),
    "ConvTranspose1d": nn.ConvTranspose1d(2, 2, 3, stride=2),
}
JUMPING = ("sign", "floor", "round")


def _held(module: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether it is exact; its layers compute what it does, and its bounds hold in float32."""
    module = module.eval().requires_grad_(False)
    torch.manual_seed(0)
    network = read_as_deployed(module, shape)
    assert network.steps is not None
    x = torch.rand(40, *shape) * 2 - 1
    outputs = module(x)
    low, high = interval(network, Bounds(x.double(), x.double()))[-1]
    assert (low <= outputs).all()
    assert (outputs <= high).all()
    if is_exact(network):
        values = evaluate(network, x.double())[-1]
        torch.testing.assert_close(values.float(), outputs, rtol=1e-5, atol=1e-5)
        assert float((high - low).max()) < 1e-4
    box = Bounds(x.double().amin(0, keepdim=True), x.double().amax(0, keepdim=True))
    low, high = interval(network, box)[-1]
    assert (low <= outputs).all()
    assert (outputs <= high).all()
    return is_exact(network)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    assert _held(_Of(FUNCTIONS[name]), (2, 3, 6)) == (name not in JUMPING)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name: str) -> None:
    layer = LAYERS[name]
    assert _held(nn.Sequential(layer, nn.Flatten()), (2, 3, 8) if "adaptive" not in name
                 else (2, 6, 8))  # fmt: skip


@pytest.mark.parametrize("name", SIGNALS)
def test_signals(name: str) -> None:
    assert _held(nn.Sequential(SIGNALS[name], nn.ReLU(), nn.Flatten()), (2, 7))


def test_what_puts_samples_together_is_refused() -> None:
    for does in (lambda x: x.mean(0), lambda x: torch.cat([x, x], 0), lambda x: x.amax((0, 1))):
        with pytest.raises(InputError, match="samples together"):
            read_as_deployed(_Of(does), (2, 3, 6))
    with pytest.raises(InputError, match="5 windows do not divide 6"):
        read_as_deployed(nn.Sequential(nn.AdaptiveMaxPool2d((3, 5)), nn.Flatten()), (2, 3, 6))


def test_numbers_taken_from_the_images_are_no_constants() -> None:
    for does in (
        lambda x: (x - torch.aminmax(x)[0]) / torch.aminmax(x)[1],
        lambda x: x - torch.std_mean(x)[1],
        lambda x: x - torch.max(x, 0)[0],
        lambda x: x - x.max(0).values,
        lambda x: x * torch.allclose(x, 0 * x),
    ):
        with pytest.raises(InputError, match="numbers that depend on the images"):
            read_as_deployed(_Of(does), (2, 3, 6))
    assert _held(_Of(lambda x: x * x.size(1) + x.shape[2]), (2, 3, 6))
