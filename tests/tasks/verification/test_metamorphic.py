"""Networks rewritten so that they compute the same: every verdict stays."""

import copy
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from tests.tasks.verification.deciding import verdict_of

pytest.importorskip("ortools")

SEEDS = (1, 4)


class Case(NamedTuple):
    net: nn.Sequential  # conv, ReLU, conv, ReLU, Flatten, Linear, ReLU, Linear
    image: Tensor
    label: int


class Known(NamedTuple):
    case: Case
    robust: float  # the largest eps known to be verified
    broken: float  # the smallest eps known to be falsified


def case(seed: int) -> Case:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 8),
        nn.ReLU(),
        nn.Linear(8, 3),
    )
    image = torch.rand(2, 4, 4)
    with torch.no_grad():
        net[-1].weight *= 20
        net[-1].bias -= net(image[None])[0]
        net[-1].bias[seed % 3] += 0.3
    return Case(net.eval().requires_grad_(False), image, seed % 3)


@pytest.fixture(
    scope="module",
    params=[SEEDS[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])],
)
def known(request: pytest.FixtureRequest) -> Known:
    """A case, and its distance to 3 %."""
    one = case(request.param)
    low, high = 0.04, 0.08
    assert verdict_of(*one, low) == "verified"
    assert verdict_of(*one, high) == "falsified"
    while high > 1.03 * low:
        middle = (low + high) / 2
        verdict = verdict_of(*one, middle)
        assert verdict in ("verified", "falsified")
        low, high = (middle, high) if verdict == "verified" else (low, middle)
    return Known(one, low, high)


def permuted_units(one: Case) -> Case:
    """Channels of both convolutions and units of the dense layer in another order."""
    net = copy.deepcopy(one.net)
    first, second, units = torch.randperm(4), torch.randperm(4), torch.randperm(8)
    _take(net[0], first), _take(net[2], second), _take(net[5], units)
    net[2].weight[:] = net[2].weight[:, first].clone()
    net[5].weight[:] = net[5].weight.reshape(8, 4, 4)[:, second].reshape(8, 16).clone()
    net[7].weight[:] = net[7].weight[:, units].clone()
    return one._replace(net=net)


def _take(layer: nn.Linear | nn.Conv2d, order: Tensor) -> None:
    layer.weight[:], layer.bias[:] = layer.weight[order].clone(), layer.bias[order].clone()


def scaled(least: float, most: float) -> Callable[[Case], Case]:
    def rewrite(one: Case) -> Case:
        """Every unit times its own factor, undone by the next layer."""
        net = copy.deepcopy(one.net)
        for layer, after in ((0, 2), (2, 5), (5, 7)):
            factor = torch.logspace(*torch.tensor([least, most]).log10().tolist(), 8)
            factor = factor[torch.randperm(8)][: len(net[layer].weight)]
            back = factor.repeat_interleave(net[after].weight.shape[1] // len(factor))
            net[layer].weight *= factor.reshape(-1, *[1] * (net[layer].weight.dim() - 1))
            net[layer].bias *= factor
            net[after].weight /= back.reshape(1, -1, *[1] * (net[after].weight.dim() - 2))
        return one._replace(net=net)

    return rewrite


def shifted_input(one: Case) -> Case:
    """Pixels + t by a layer of its own, and - t by another one."""
    there, back = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 1)
    for layer, t in ((there, 0.75), (back, -0.75)):
        layer.weight[:], layer.bias[:] = torch.eye(2)[:, :, None, None], t
    return one._replace(net=nn.Sequential(there, nn.ReLU(), back, *one.net))


def identity_layers(one: Case) -> Case:
    """ReLUs on what is >= 0 anyway, identities, and a dense identity."""
    eye = nn.Linear(8, 8)
    eye.weight[:], eye.bias[:] = torch.eye(8), 0
    parts = [nn.ReLU(), *one.net[:4], nn.Identity(), nn.ReLU(), *one.net[4:7], eye, nn.ReLU()]
    return one._replace(net=nn.Sequential(*parts, one.net[7]))


def doubled_units(one: Case) -> Case:
    """Each hidden unit twice, and half of each taken."""
    net = copy.deepcopy(one.net)
    wide, after = nn.Linear(16, 16), nn.Linear(16, 3)
    wide.weight[:], wide.bias[:] = net[5].weight.repeat(2, 1), net[5].bias.repeat(2)
    after.weight[:], after.bias[:] = net[7].weight.repeat(1, 2) / 2, net[7].bias
    return one._replace(net=nn.Sequential(*net[:5], wide, nn.ReLU(), after))


class Turned(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x.flip(1).transpose(2, 3))
        return out


def turned_pixels(one: Case) -> Case:
    """The image turned and its channels swapped, and turned back inside."""
    image = one.image.transpose(1, 2).flip(0).contiguous()
    return one._replace(net=Turned(one.net), image=image)


class Branches(nn.Module):
    """A layer as the sum of two, and a ReLU as x + relu(-x)."""

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net, self.one, self.other = net, copy.deepcopy(net[2]), copy.deepcopy(net[2])
        share = torch.rand_like(self.one.weight) * 3 - 1
        self.one.weight *= share
        self.one.bias *= 4
        self.other.weight -= self.one.weight
        self.other.bias -= self.one.bias

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.net[0](x))
        x = self.one(x) + self.other(x)
        x = self.net[5](torch.flatten(x + torch.relu(-x), 1))
        out: Tensor = self.net[7](torch.relu(x))
        return out


def branched(one: Case) -> Case:
    return one._replace(net=Branches(one.net))


def permuted_classes(one: Case) -> Case:
    net = copy.deepcopy(one.net)
    _take(net[7], torch.tensor([2, 0, 1]))
    return one._replace(net=net, label=(one.label + 1) % 3)


def pooled(one: Case) -> Case:
    """Through poolings of one pixel, and an average that is undone."""
    most, mean = nn.MaxPool2d(1), nn.AvgPool2d(1)
    return one._replace(net=nn.Sequential(mean, *one.net[:2], most, *one.net[2:]))


@pytest.mark.parametrize(
    "rewrite",
    [
        permuted_units,
        pytest.param(scaled(0.5, 3), id="scaled"),
        pytest.param(scaled(1e-3, 1e3), id="scaled_unevenly"),
        shifted_input,
        identity_layers,
        doubled_units,
        turned_pixels,
        branched,
        permuted_classes,
        pooled,
    ],
)
def test_a_rewritten_network_keeps_its_verdicts(
    known: Known, rewrite: Callable[[Case], Case]
) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        one = rewrite(known.case)
    one.net.eval().requires_grad_(False)
    x = one.image[None]
    logits = known.case.net(known.case.image[None])[0]
    if rewrite is permuted_classes:
        logits = logits[[2, 0, 1]]
    torch.testing.assert_close(one.net(x)[0], logits, atol=1e-4, rtol=1e-4)
    assert verdict_of(*one, 0.98 * known.robust) == "verified"
    assert verdict_of(*one, 1.02 * known.broken) == "falsified"
