"""Tries to break what the verifier says, by a hard attack on what is verified.

    python benchmarks/soundness.py [--samples 100] [--restarts 50] [--steps 1000]

A small convolutional network with batch normalisation, max pooling and a skip connection, trained
on `digits`: the test images are verified as sweeps do it, then the verified ones of which the
verifier's own attack came nearest are attacked in float64, and the points found are judged in
float32 too; the same attack must break those that are falsified. Exits 1 if anything contradicts,
or if the attack is too weak to say anything. Needs scikit-learn and OR-tools.
"""

import argparse
import copy
import math
import sys
import time
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from robsweep.tasks.ball import box, inside, pull_inside
from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.training.fit import Setup, fit
from robsweep.tasks.training.losses.adversarial import pgd
from robsweep.tasks.training.recipe import Recipe
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from robsweep.tasks.verification.verdicts import Row

SHAPE, CLASSES = (1, 8, 8), 10
CORNERS, TOGETHER = 5000, 10  # random corners a sample; samples attacked in one batch
WEAK = 0.9  # the attack must break this share of what is falsified


class Skip(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.two(torch.relu(self.norm(self.one(x)))))


class Attacked(NamedTuple):
    """The smallest margins found in one sample's box."""

    exact: float  # in float64
    deployed: float  # in float32, at float32 points in the box, in batches of one and of many


def trained(eps: float, epochs: int) -> nn.Module:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        Skip(4), nn.Flatten(), nn.Linear(64, CLASSES),
    )  # fmt: skip
    train, validation = (load("digits", split, "") for split in ("train", "validation"))
    loss = pgd(Setup(net, train, epochs, lambda *_: train), eps=eps)
    fit(net, train, validation, loss, Recipe(epochs=epochs, batch_size=32, lr=2e-3))
    return net.eval().requires_grad_(False)


def decided(net: nn.Module, data: Labelled, asked: Robustness, limit: float) -> list[Row]:
    """As a sweep does it: one screen, then solves."""
    subject = subject_of(net, tuple(data.images.shape[1:]))
    rows = screen_group(subject, *data, asked, Attack()).rows
    for i, row in enumerate(rows):
        if row.verdict == "unknown":
            image, label = data.images[i : i + 1], data.labels[i : i + 1]
            question = Question(subject, image, label, asked)
            solved, _ = solve_one(question, Method(), limit)
            rows[i] = solved._replace(upper_bound=min(upper(row), upper(solved)))
    return rows


def upper(row: Row) -> float:
    return math.inf if row.upper_bound is None else row.upper_bound


def margins(net: nn.Module, points: Tensor, labels: Tensor) -> Tensor:
    """The label's logit less each other one, (M, K); infinite for the label itself."""
    logits = net(points).double()
    own = labels[:, None]
    return (logits.gather(1, own) - logits).scatter(1, own, torch.inf)


def descended(exact: nn.Module, data: Labelled, eps: float, restarts: int, steps: int) -> Tensor:
    """The best float64 point of each restart of signed gradient descent, (N, restarts, ...).

    Of two restarts one descends the smallest margin and the other that of one class, in turn; of
    four, two begin in a corner. The first one begins at the image.
    """
    n, turn = len(data.labels), torch.arange(restarts)
    labels = data.labels.repeat_interleave(restarts)
    low, high = (end.repeat_interleave(restarts, 0) for end in box(data.images, eps))
    share = torch.rand(n, restarts, *SHAPE, dtype=torch.float64)
    share[:, turn // 2 % 2 == 1] = share[:, turn // 2 % 2 == 1].round()
    x = low + share.flatten(0, 1) * (high - low)
    x[::restarts] = data.images.double()
    target = (labels + 1 + (turn // 2 % (CLASSES - 1)).repeat(n)) % CLASSES
    of_all = (turn % 2 == 0).repeat(n)
    best, least = x.clone(), torch.full((len(x),), torch.inf, dtype=torch.float64)
    for step in range(steps + 1):
        x = x.detach().clamp(low, high).requires_grad_()
        found = margins(exact, x, labels)
        smallest = found.amin(1)
        aim = torch.where(of_all, smallest, found.gather(1, target[:, None])[:, 0])
        (gradient,) = torch.autograd.grad(aim.sum(), x)
        better = smallest.detach() < least
        best[better], least[better] = x.detach()[better], smallest.detach()[better]
        if (least.reshape(n, restarts) <= 0).any(1).all():
            break
        x = x - eps * (1 - step / (steps + 1)) * gradient.sign()
    return best.reshape(n, restarts, *SHAPE)


def flipped(exact: nn.Module, start: Tensor, label: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Sends single pixels to an end of the box, the best one each time, while that gains."""
    point, pixels = start, start.numel()
    least = float(margins(exact, point[None], label).min())
    places = torch.arange(2 * pixels)
    ends = torch.cat([low.flatten(), high.flatten()])
    while True:
        moved = point.flatten().repeat(2 * pixels, 1)
        moved[places, places % pixels] = ends
        moved = moved.reshape(-1, *SHAPE)
        found = margins(exact, moved, label.expand(len(moved))).amin(1)
        if not float(found.min()) < least:
            return point
        least, point = float(found.min()), moved[found.argmin()]


def attacked(
    net: nn.Module, data: Labelled, eps: float, restarts: int, steps: int
) -> list[Attacked]:
    """Descent, random corners, flips from the best of both; all that is found is judged."""
    exact, results = copy.deepcopy(net).double(), []
    for chunk in torch.arange(len(data.labels)).split(TOGETHER):
        some = Labelled(data.images[chunk], data.labels[chunk])
        points = descended(exact, some, eps, restarts, steps)
        for image, label, ours in zip(some.images, some.labels[:, None], points, strict=True):
            low, high = box(image, eps)
            corners = torch.where(torch.rand(CORNERS, *SHAPE) < 0.5, low, high)
            best, corner = (
                some[margins(exact, some, label.expand(len(some))).amin(1).argmin()]
                for some in (ours, corners)
            )
            nearest = torch.where(best - low < high - best, low, high)
            refined = [flipped(exact, p, label, low, high) for p in (best, nearest, corner)]
            results.append(judged(net, exact, (image, label), torch.stack([*ours, *refined]), eps))
    return results


def judged(
    net: nn.Module, exact: nn.Module, sample: tuple[Tensor, Tensor], points: Tensor, eps: float
) -> Attacked:
    image, label = sample[0].expand(points.shape), sample[1].expand(len(points))
    low, high = box(image, eps)
    rounded = pull_inside(image, points, "linf", eps)
    assert bool(((points >= low) & (points <= high)).all())
    assert bool(inside(image, rounded, "linf", eps).all())
    alone = [margins(net, point[None], sample[1]).min() for point in rounded]
    most = torch.cat([points, rounded.double()])
    deployed = min(*alone, margins(net, rounded, label).min())
    return Attacked(float(margins(exact, most, label.repeat(2)).min()), float(deployed))


def attack_what_is_verified(options: argparse.Namespace) -> bool:
    """Whether the verifier's answers stand."""
    eps = options.eps
    net = trained(eps, options.epochs)
    data = Labelled(*(part[: options.images] for part in load("digits", "test", "")))
    started = time.perf_counter()
    rows = decided(net, data, Robustness(eps), options.time_limit)
    counts = Counter(row.verdict for row in rows)
    stages = Counter(row.decided_by for row in rows if row.verdict == "verified")
    print(f"digits, linf {eps:g}, {len(rows)} images: {listed(counts)}; ", end="")
    print(f"verified by {listed(stages)} ({time.perf_counter() - started:.0f} s)", flush=True)
    stands = True
    for verdict in ("verified", "falsified"):
        which = [i for i, row in enumerate(rows) if row.verdict == verdict]
        if not which:
            print(f"none is {verdict}: this shows nothing")
            stands = False
            continue
        which = sorted(which, key=lambda i: upper(rows[i]))[: options.samples]
        some = Labelled(data.images[which], data.labels[which])
        started = time.perf_counter()
        found = attacked(net, some, eps, options.restarts, options.steps)
        broken = sum(one.exact <= 0 or one.deployed <= 0 for one in found)
        exact = [one.exact for one in found]
        print(f"{len(found)} {verdict}: {broken} broken; margins found: ", end="")
        print(f"smallest {min(exact):.6f}, mean {np.mean(exact):.4f}, ", end="")
        print(f"in float32 smallest {min(one.deployed for one in found):.6f}", end="")
        if verdict == "verified":
            lower = [rows[i].lower_bound or 0.0 for i in which]
            gaps = [min(one) - bound for one, bound in zip(found, lower, strict=True)]
            below = sum(gap < 0 for gap in gaps)
            own = np.mean([upper(rows[i]) for i in which])
            clean = margins(net, some.images, some.labels).amin(1).mean()
            print(
                f" (mean at the images {clean:.4f}, by the verifier's attack {own:.4f}); ", end=""
            )
            print(f"{below} below the verifier's lower bound, nearest {min(gaps):.6f}", end="")
            stands &= broken == below == 0
        else:
            stands &= broken >= WEAK * len(found)
        print(f" ({time.perf_counter() - started:.0f} s)", flush=True)
    return stands


def listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eps", type=float, default=0.04)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds a sample's solve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    stands = attack_what_is_verified(options)
    print("nothing contradicts" if stands else "CONTRADICTED, or the attack is too weak")
    return int(not stands)


if __name__ == "__main__":
    sys.exit(main())
