"""Counterexamples in regions so small that no search finds them, and just outside the ball."""

import pytest
import torch
from torch import Tensor, nn

from tests.tasks.verification.deciding import margin_at, verdict_of

pytest.importorskip("ortools")

EPS, PIXELS = 0.1, 16
KINDS = ("dense", "conv", "residual", "pooled")


class Planted(nn.Module):
    """Class 0 wins but where `t`, which is 16 eps in one corner of the ball, is near `at`.

    Elsewhere the margin is between 0.35 and 0.65 and falls towards the opposite corner, where any
    search is led to. Some random units that change little stand in the solver's way.
    """

    def __init__(self, kind: str, seed: int, at: float, slab: float | None) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.kind, shape = kind, (1, 4, 4)
        self.register_buffer("image", torch.rand(shape) * 0.5 + 0.25)
        sign = torch.rand(shape).round() * 2 - 1
        if kind == "pooled":
            sign = torch.ones(shape)
        self.register_buffer("sign", sign)  # of the corner
        self.twice, self.less = nn.Conv2d(1, 2, 1), nn.Conv2d(1, 1, 1)
        features = {"conv": 32, "pooled": 4}.get(kind, 16)
        noise, kinks = 6, [at] if slab is None else [at - slab, at, at + slab]
        self.hidden = nn.Linear(features, 1 + len(kinks) + noise)
        self.out = nn.Linear(1 + len(kinks) + noise, 2)
        with torch.no_grad():
            self.twice.weight[:, 0, 0, 0] = torch.tensor([1.0, -1.0])
            self.twice.bias[:] = torch.tensor([0.0, 0.5])
            self.less.weight[:], self.less.bias[:] = 0.5, 0.0
            if kind == "pooled":
                direction, offset = torch.full((4,), -4.0), torch.zeros(())
            else:
                direction = torch.cat([sign.flatten(), torch.zeros(features - 16)])
                offset = -(sign * self.image).sum()
            rows = 1 + len(kinks)
            self.hidden.weight[:rows] = direction
            self.hidden.bias[:rows] = offset - torch.tensor([-100.0, *kinks])
            self.hidden.bias[rows:] -= self.hidden.weight[rows:] @ self._front(self.image[None])[0]
            full, deep = PIXELS * EPS, 1.2
            self.out.weight[:] = 0
            self.out.weight[0, 0], self.out.bias[:] = 0.1 / full, torch.tensor([-10 / full, -0.5])
            fires = [deep / (full - at)] if slab is None else [deep / slab * f for f in (1, -2, 1)]
            self.out.weight[1, 1:rows] = torch.tensor(fires)
            self.out.weight[:, rows:] = 0.005 * (torch.rand(2, noise) - 0.5)

    def _front(self, x: Tensor) -> Tensor:
        if self.kind == "pooled":
            return torch.flatten(nn.functional.max_pool2d(self.image - x, 2), 1)
        if self.kind == "conv":
            x = torch.relu(self.twice(x))
        elif self.kind == "residual":
            x = self.less(x) + torch.relu(self.less(x))
        return torch.flatten(x, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.relu(self.hidden(self._front(x))))
        return out


def planted(kind: str, seed: int, at: float, slab: float | None = None) -> Planted:
    return Planted(kind, seed, at, slab).eval().requires_grad_(False)


def no_random_point_finds_it(net: Planted) -> bool:
    points = net.image + EPS * (2 * torch.rand(100_000, 1, 4, 4) - 1)
    return bool((margin_at(net, points, 0) > 0).all())


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_corner_of_the_ball(kind: str, seed: int) -> None:
    net = planted(kind, seed, PIXELS * EPS - 0.05)
    assert no_random_point_finds_it(net)
    assert verdict_of(net, net.image, 0, EPS) == "falsified"
    # the corner of this ball is 1e-4 before the place where the unit begins to fire
    assert verdict_of(net, net.image, 0, EPS - 0.05 / PIXELS - 1e-4) == "verified"


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
@pytest.mark.parametrize("kind", KINDS)
def test_a_slab_through_the_ball(kind: str, seed: int) -> None:
    at, width = PIXELS * EPS * (0.3 + 0.2 * seed), 1e-3
    net = planted(kind, seed, at, width)
    # a solver's point on the border of something so thin need not survive rounding to float32
    assert verdict_of(net, net.image, 0, EPS) == "falsified"
    assert verdict_of(net, net.image, 0, (at - width) / PIXELS - 1e-4) == "verified"
    net.out.weight[1, 1:4] *= 0.25  # the slab is there, and not deep enough
    assert verdict_of(net, net.image, 0, EPS) == "verified"
