"""Networks on 3x32x32 images whose exact answer is found by enumeration."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from tests.tasks.verification.deciding import margin_at, verdict_of

pytest.importorskip("ortools")

UNSTABLE, HIDDEN = 3, 3
Relu = Callable[[int, Tensor], Tensor]


class Small(nn.Module):
    """A strided convolution, a second one with or without a skip connection, two dense layers."""

    def __init__(self, seed: int, *, skip: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = nn.Conv2d(3, 4, 5, stride=4), nn.Conv2d(4, 4, 3, padding=1)
        self.hidden, self.out = nn.Linear(196, HIDDEN), nn.Linear(HIDDEN, 3)
        self.skip = skip
        self.register_buffer("image", torch.rand(3, 32, 32))
        with torch.no_grad():
            # one bends near the image, one just behind it; the third keeps the margin falling
            at = torch.tensor([0.002, -0.002, 0.1])
            self.hidden.bias += at - self.steps(self.image[None], _usual)[1][0]
            self.out.weight *= 30

    def steps(self, x: Tensor, relu: Relu) -> tuple[Tensor, Tensor, Tensor]:
        """What enters the first ReLUs, what enters the second ones, and the logits."""
        first = self.first(x)
        second = self.second(relu(0, first))
        hidden = self.hidden(torch.flatten(first + second if self.skip else second, 1))
        return first, hidden, self.out(relu(1, hidden))

    def forward(self, x: Tensor) -> Tensor:
        return self.steps(x, _usual)[2]


def _usual(_: int, x: Tensor) -> Tensor:
    return torch.relu(x)


def radius(net: Small, image: Tensor) -> float:
    """Up to where no more than `UNSTABLE` units of the first layer can change sides, exactly."""
    reach = net.first.weight.abs().sum((1, 2, 3))[:, None, None]
    changes = (net.first(image[None])[0].abs() / reach).flatten().sort().values
    return float(changes[UNSTABLE]) * 0.999


def exact_margin(net: Small, image: Tensor, label: int, eps: float) -> float:
    """One linear program for each activation pattern and class; needs eps <= `radius`."""
    x = image.double()
    low, high = (x - eps).clamp(min=0).flatten(), (x + eps).clamp(max=1).flatten()
    before = net.first(x[None])[0].flatten()
    reach = net.first.weight.abs().sum((1, 2, 3)).repeat_interleave(len(before) // 4)
    unstable = (before.abs() <= eps * reach).nonzero()[:, 0]
    assert len(unstable) <= UNSTABLE
    smallest = np.inf
    for pattern in product((0.0, 1.0), repeat=len(unstable) + HIDDEN):
        bits = torch.tensor(pattern, dtype=torch.float64)
        mask = (before > 0).double()
        mask[unstable] = bits[: len(unstable)]
        masks = mask.reshape(1, 4, 7, 7), bits[len(unstable) :]

        def affine(flat: Tensor, masks=masks) -> Tensor:  # type: ignore[no-untyped-def]
            steps = net.steps(flat.reshape(1, 3, 32, 32), lambda layer, z: z * masks[layer])
            return torch.cat([steps[0].flatten()[unstable], steps[1][0], steps[2][0]])

        slopes = torch.autograd.functional.jacobian(affine, x.flatten(), vectorize=True)
        offsets = (affine(x.flatten()) - slopes @ x.flatten()).detach().numpy()
        slopes, sign = slopes.numpy(), 1 - 2 * np.array(pattern)
        rows, ends = sign[:, None] * slopes[:-3], -sign * offsets[:-3]
        for other in {0, 1, 2} - {label}:
            cost = slopes[-3 + label] - slopes[-3 + other]
            limits = np.stack([low.numpy(), high.numpy()], 1)
            found = linprog(cost, rows, ends, bounds=limits)
            if found.status == 0:
                constant = offsets[-3 + label] - offsets[-3 + other]
                smallest = min(smallest, float(found.fun + constant))
    return smallest


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])
def test_verdicts_flip_at_the_enumerated_distance(seed: int, *, skip: bool) -> None:
    net = Small(seed, skip=skip).eval().requires_grad_(False)
    image, label = net.image.clone(), seed % 3
    double = Small(seed, skip=skip).eval().requires_grad_(False).double()
    distance = 0.8 * radius(double, image.double())
    with torch.no_grad():
        shift = exact_margin(double, image, label, distance)
        for one in (double, net):
            one.out.bias[label] -= shift
    assert margin_at(net, image[None], label)[0] > 0
    # no more than what float32 makes of the shifted bias
    assert abs(exact_margin(net.double(), image, label, distance)) < 1e-5
    net.float()
    for share, verdict in ((0.6, "verified"), (0.99, "verified"), (1.01, "falsified")):
        assert verdict_of(net, image, label, share * distance) == verdict, share
