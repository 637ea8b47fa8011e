"""Random networks small enough to be checked by brute force, and the brute force."""

from itertools import product

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from robsweep.tasks.ball import box
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.problem import Method

MILP = Method(frozenset({"crown", "milp"}))  # no other stage takes the solver's work away


def dense(seed: int, *widths: int) -> nn.Sequential:
    """Fully connected; all classes tie at the grey image, so no class wins everywhere."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i in range(len(widths) - 1):
        layers += [nn.Linear(widths[i], widths[i + 1]), nn.ReLU()]
    net = nn.Sequential(*layers[:-1]).eval().requires_grad_(False)
    net[-1].bias -= net(torch.full((1, widths[0]), 0.5))[0]
    return net


class Skip(nn.Module):
    """x + f(x), from the weights of a chain that carries x along; for images, which are >= 0."""

    def __init__(self, chain: nn.Sequential) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)
        self.out = nn.Linear(2, 3)
        with torch.no_grad():
            chain[0].weight[3:], chain[0].bias[3:] = torch.eye(2), 0
            chain[2].weight[:] = torch.cat([self.last.weight, torch.eye(2)], 1)
            chain[2].bias[:] = self.last.bias
            self.first.weight[:], self.first.bias[:] = chain[0].weight[:3], chain[0].bias[:3]
            self.out.load_state_dict(chain[4].state_dict())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(torch.relu(x + self.last(torch.relu(self.first(x)))))
        return out


class Functional(nn.Module):
    """Normalisation inside, function forms, a batch norm behind a pooling layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(4)
        self.out = nn.Linear(16, 3)
        self.register_buffer("mean", torch.rand(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu(self.conv((x - self.mean) / 0.3))
        x = self.norm(nn.functional.max_pool2d(x, 2))
        x = nn.functional.dropout(torch.relu(x), training=self.training)
        return self.out(torch.flatten(x, 1))


class Residual(nn.Module):
    """A skip connection around two layers, one of two computed branches, and a value used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = (nn.Conv2d(i, 2, 3, padding=1) for i in (1, 2, 2))
        self.short, self.norm = nn.Conv2d(2, 3, 1, stride=2), nn.BatchNorm2d(3)
        self.long, self.out = nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.two(torch.relu(self.one(torch.relu(x))))
        x = torch.relu(self.norm(self.short(x)) - torch.relu(self.long(x)))
        x = torch.add(x, x).reshape(x.size(0), -1)
        return self.out(x)


class Rearranged(nn.Module):
    """Everything that only moves values, and arithmetic that is not one per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.same = nn.Conv2d(2, 2, 3), nn.Conv2d(2, 1, (1, 3), padding="same")
        self.dense, self.out = nn.Linear(3, 3), nn.Linear(6, 3)
        self.register_buffer("mask", torch.rand(2, 4, 3) - 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.pad(x.view(-1, 3, 4, 2).permute(0, 3, 2, 1), (1, 0, 0, 1))
        x = torch.relu(self.conv(1 - x * 2)).unsqueeze(1).squeeze(1)
        x = torch.relu(self.same(x.transpose(2, 3)))
        x = torch.cat([x[:, :, :1], x[:, :, :1]], 2) if self.training else x[..., :, :]
        return self.out(torch.flatten(-x.flip(3), start_dim=1))


class Curved(nn.Module):
    """Activations that have bounds only, in modules and functions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(5, 5) for _ in range(3))
        self.elu, self.out = nn.ELU(), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(3 * self.first(x))
        x = self.elu(self.second(x)) + torch.sigmoid(x) - nn.functional.softplus(x)
        return self.out(torch.tanh(self.third(x)))


def convolutional(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A network in evaluation mode with random batch statistics, and its input shape."""
    torch.manual_seed(1)
    net, shape = {
        "functional": lambda: (Functional(), (2, 8, 8)),
        "residual": lambda: (Residual(), (1, 4, 4)),
        "rearranged": lambda: (Rearranged(), (2, 3, 4)),
        "curved": lambda: (Curved(), (5,)),
        "pooled": lambda: (
            nn.Sequential(
                nn.Conv2d(1, 2, 3),
                nn.MaxPool2d(3, 2, 1),
                nn.ReLU(),
                nn.Conv2d(2, 3, 3, padding=2, dilation=2),
                nn.BatchNorm2d(3),
                nn.ReLU(),
                nn.MaxPool2d(2, 1),
                nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(12, 4), nn.BatchNorm1d(4)),
            ),
            (1, 7, 7),
        ),
        "averaged": lambda: (
            nn.Sequential(
                nn.AvgPool2d(2, 1),
                nn.Conv2d(1, 2, 3, stride=2),
                nn.ReLU(),
                nn.AvgPool2d(3, 2, 1, count_include_pad=False),
                nn.Identity(),
                nn.Flatten(),
                nn.Linear(8, 6),
                nn.ReLU(),
                nn.Linear(6, 3),
            ),
            (1, 8, 8),
        ),
    }[name]()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
            nn.init.normal_(part.weight)
    return net.eval().requires_grad_(False), shape


def points_in(images: Tensor, eps: float, n: int) -> list[Tensor]:
    """Float64 batches from the box, half of them corners."""
    lower, upper = box(images, eps)
    batches = []
    for i in range(n):
        share = torch.rand_like(lower)
        batches.append(lower + (share.round() if i % 2 else share) * (upper - lower))
    return batches


def ball(images: Tensor, eps: float) -> Bounds:
    return Bounds(*box(images, eps))


def smallest_margin(net: nn.Sequential, image: Tensor, label: int, eps: float) -> float:
    """The exact minimum over the box: one linear program for each activation pattern and class."""
    linear = [
        (one.weight.double().numpy(), one.bias.double().numpy())
        for one in net
        if isinstance(one, nn.Linear)
    ]
    hidden = sum(len(bias) for _, bias in linear[:-1])
    limits = torch.stack(box(image.flatten(), eps), dim=1).numpy()
    smallest = np.inf
    for pattern in product((False, True), repeat=hidden):
        slope, offset = np.eye(len(limits)), np.zeros(len(limits))
        rows, bounds, used = [], [], 0
        for weight, bias in linear[:-1]:
            slope, offset = weight @ slope, weight @ offset + bias
            on = np.array(pattern[used : used + len(bias)])
            used += len(bias)
            sign = np.where(on, -1.0, 1.0)
            rows.append(sign[:, None] * slope)
            bounds.append(-sign * offset)
            slope, offset = on[:, None] * slope, on * offset
        slope, offset = linear[-1][0] @ slope, linear[-1][0] @ offset + linear[-1][1]
        for other in range(len(offset)):
            if other != label:
                cost = slope[label] - slope[other]
                found = linprog(cost, np.vstack(rows), np.hstack(bounds), bounds=limits)
                if found.status == 0:
                    smallest = min(smallest, found.fun + offset[label] - offset[other])
    return float(smallest)
