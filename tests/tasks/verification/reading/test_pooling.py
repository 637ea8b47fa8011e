"""Poolings of any kernel, stride and padding: readings, bounds and verdicts."""

import numpy as np
import pytest
import torch
from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.deciding import lower_bound_of, margin_at, verdict_of

pytest.importorskip("ortools")


def pooling(random: np.random.Generator) -> nn.Module:
    """Overlapping or not, with gaps or not, padded by up to half a kernel."""
    kernel = tuple(int(k) for k in random.integers(1, 5, size=2))
    stride = tuple(int(s) for s in random.integers(1, 4, size=2))
    padding = tuple(int(random.integers(0, k // 2 + 1)) for k in kernel)
    if random.random() < 0.5:
        dilation = tuple(int(d) for d in random.integers(1, 3, size=2))
        if any(d * (k - 1) >= 6 for d, k in zip(dilation, kernel, strict=True)):
            dilation = (1, 1)
        return nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=bool(dilation[0] > 1))
    counted = bool(random.random() < 0.5)
    divisor = int(random.integers(1, 6)) if random.random() < 0.3 else None
    return nn.AvgPool2d(kernel, stride, padding, bool(random.random() < 0.3), counted, divisor)


def net_of(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    pool = pooling(np.random.default_rng(seed))
    layers = [nn.Conv2d(2, 2, 2), pool, nn.ReLU(), nn.Flatten(), nn.LazyLinear(4), nn.ReLU()]
    net = nn.Sequential(*layers, nn.Linear(4, 3))
    with torch.no_grad():
        net[-1].bias -= net(torch.full((1, 2, 8, 7), 0.5))[0]
    return net.eval().requires_grad_(False)


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("seed", range(40))
def test_the_reading_computes_what_torch_computes(seed: int) -> None:
    net = net_of(seed)
    x = torch.randn(4, 2, 8, 7, dtype=torch.float64)
    found = evaluate(read(net, (2, 8, 7)), x)[-1]
    torch.testing.assert_close(found, net.double()(x), rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("seed", range(40))
def test_bounds_hold_at_samples(seed: int) -> None:
    net = net_of(seed)
    image = torch.rand(2, 8, 7)
    label = int(net(image[None]).argmax())
    for eps in (0.01, 0.1, 0.4):
        share = torch.rand(500, 2, 8, 7, dtype=torch.float64)
        share[::2] = share[::2].round()
        low, high = (image.double() - eps).clamp(min=0), (image.double() + eps).clamp(max=1)
        least = margin_at(net, low + share * (high - low), label).min()
        row = lower_bound_of(net, image, label, eps)
        assert row <= least + 1e-9


@pytest.mark.filterwarnings("ignore:Lazy modules")
@pytest.mark.parametrize("seed", range(8))
def test_verdicts_agree_with_the_same_network_of_explicit_maxima(seed: int) -> None:
    """A maximum of two is `a + relu(b - a)`; the pooling here is 1x2, then 2x1."""
    torch.manual_seed(seed)
    first, hidden, out = nn.Conv2d(1, 2, 2), nn.Linear(8, 3), nn.Linear(3, 3)
    pooled = nn.Sequential(
        first, nn.MaxPool2d(2), nn.Flatten(), hidden, nn.ReLU(), out
    ).requires_grad_(False)
    out.weight *= 5
    image = torch.rand(1, 5, 5)
    out.bias -= pooled(image[None])[0]
    out.bias[0] += 0.2
    explicit = _Explicit(first, hidden, out).requires_grad_(False)
    torch.testing.assert_close(explicit(image[None]), pooled(image[None]))
    verdicts = [verdict_of(pooled.eval(), image, 0, eps) for eps in (0.02, 0.1, 0.3)]
    assert set(verdicts) <= {"verified", "falsified"}
    assert [verdict_of(explicit.eval(), image, 0, eps) for eps in (0.02, 0.1, 0.3)] == verdicts


class _Explicit(nn.Module):
    def __init__(self, first: nn.Conv2d, hidden: nn.Linear, out: nn.Linear) -> None:
        super().__init__()
        self.first, self.hidden, self.out = first, hidden, out

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.first(x)
        x = x[:, :, ::2] + torch.relu(x[:, :, 1::2] - x[:, :, ::2])
        x = x[:, :, :, ::2] + torch.relu(x[:, :, :, 1::2] - x[:, :, :, ::2])
        return self.out(torch.relu(self.hidden(torch.flatten(x, 1))))


@pytest.mark.parametrize(
    "layer",
    [
        nn.AdaptiveMaxPool2d(4),
        nn.MaxPool2d(2, return_indices=True),
        nn.LPPool2d(2, 2),
        nn.FractionalMaxPool2d(2, output_size=2),
    ],
)
def test_poolings_that_are_not_supported_are_named(layer: nn.Module) -> None:
    with pytest.raises(InputError, match=type(layer).__name__):
        read(nn.Sequential(layer, nn.Flatten()), (1, 6, 6))
