"""Tries to break what the verifier says: a hard attack on what is verified, and exact minima.

    python benchmarks/soundness.py [--samples 100] [--restarts 50] [--steps 1000] [--questions 200]
        [--parts attack minima]

First a small convolutional network with batch normalisation, max pooling and a skip connection,
trained on `digits`: the test images are verified as sweeps do it, then the verified ones of which
the verifier's own attack came nearest are attacked in float64, and the points found are judged in
float32 too; the same attack must break those that are falsified. Then random questions about tiny
networks, near the radius where the answer changes, against scipy's MILP solver and the encoding of
`robsweep recheck`, which shares no code with the verifier. Exits 1 if anything contradicts, or if
the attack is too weak to say anything. Needs scikit-learn and OR-tools.
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
from scipy import optimize, sparse
from torch import Tensor, nn

from robsweep.tasks.ball import box, inside, pull_inside
from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.recheck.bounds import ball, relaxed
from robsweep.tasks.recheck.layers import Layer, forward
from robsweep.tasks.recheck.milp import encoded
from robsweep.tasks.recheck.network import read
from robsweep.tasks.training.fit import Setup, fit
from robsweep.tasks.training.losses.adversarial import pgd
from robsweep.tasks.training.recipe import Recipe
from robsweep.tasks.verification.cascade import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from robsweep.tasks.verification.verdicts import Row

SHAPE, CLASSES = (1, 8, 8), 10
CORNERS, TOGETHER = 5000, 10  # random corners a sample; samples attacked in one batch
TOLERANCE = 1e-6  # of the MILP solver
WEAK = 0.9  # the attack must break this share of what is falsified
# In turn, so that each stage has to answer for itself; the first is what sweeps do.
METHODS = (STAGES, ("crown", "branching"), ("crown", "milp"), ("interval", "alpha", "milp"))


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
    print(f"digits, linf {eps:g}, {len(rows)} images: {_listed(counts)}; ", end="")
    print(f"verified by {_listed(stages)} ({time.perf_counter() - started:.0f} s)", flush=True)
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


def tiny(kind: str) -> tuple[nn.Sequential, tuple[int, ...]]:
    """A random network, all of whose classes tie at the grey image, and its input shape."""
    layers, shape = {
        "dense2": lambda: ([nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 4)], (4,)),
        "dense3": lambda: (
            [nn.Linear(3, 7), nn.ReLU(), nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 3)], (3,)
        ),
        "conv": lambda: (
            [nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)],
            (1, 5, 5),
        ),
        "pooled": lambda: (
            [nn.Conv2d(1, 2, 2), nn.ReLU(), nn.MaxPool2d(2, 1), nn.Flatten(), nn.Linear(8, 5),
             nn.ReLU(), nn.Linear(5, 4)],
            (1, 4, 4),
        ),
        "residual": lambda: (
            [nn.Conv2d(1, 2, 3), nn.ReLU(), Skip(2), nn.Flatten(), nn.Linear(8, 3)], (1, 4, 4)
        ),
    }[kind]()  # fmt: skip
    net = nn.Sequential(*layers).eval().requires_grad_(False)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
    net[-1].weight *= 3
    net[-1].bias -= net(torch.full((1, *shape), 0.5))[0]
    return net, shape


class Minimum(NamedTuple):
    """The least margin in a box lies between the solver's bound and its point's own margin."""

    bound: float
    value: float


def unsafe_forms(asked: Robustness, label: int, classes: int) -> list[np.ndarray]:
    """One matrix for each way to be unsafe: all rows @ logits <= the margin."""
    eye = np.eye(classes)
    if asked.targets:
        return [np.delete(eye, t, 0) - eye[t] for t in asked.targets if t != label]
    return [eye[label : label + 1] - eye[c] for c in range(classes) if c != label]


def minimum(
    layers: list[Layer], image: np.ndarray, label: int, asked: Robustness, gap: float = 0.0
) -> Minimum:
    """With a gap, only the sign of the value means anything."""
    assert asked.eps is not None
    bounds = relaxed(layers, ball(image, asked.eps))
    program, lower, upper = encoded(layers, bounds), bounds[0].lower, bounds[0].upper
    classes, variables = len(program.outputs), len(program.lower)
    found = []
    for form in unsafe_forms(asked, label, classes):
        over = np.zeros((len(form), variables))
        over[:, program.outputs] = -form  # the variable that is added is above each row
        rows = sparse.block_array(
            [[program.rows, None], [sparse.csr_array(over), np.ones((len(form), 1))]], format="csr"
        )
        end = np.zeros(len(form))
        result = optimize.milp(
            np.append(np.zeros(variables), 1.0),
            integrality=np.append(program.integer, 0),
            bounds=optimize.Bounds(
                np.append(program.lower, -np.inf), np.append(program.upper, np.inf)
            ),
            constraints=optimize.LinearConstraint(
                rows,
                np.concatenate([program.row_lower, end]),
                np.concatenate([program.row_upper, end + np.inf]),
            ),
            options={"mip_rel_gap": gap, "time_limit": 60.0},
        )
        if result.status != 0:
            raise RuntimeError(f"the MILP solver: {result.message}")
        bound = result.fun if result.mip_dual_bound is None else result.mip_dual_bound
        pixels = np.clip(result.x[: len(lower)], lower, upper)
        value = (forward(layers, pixels[None]) @ form.T).max()
        found.append(Minimum(float(bound), float(value)))
        if gap and value <= asked.margin:
            break
    return Minimum(*(min(ends) - asked.margin for ends in zip(*found, strict=True)))


def near_the_flip(
    layers: list[Layer],
    image: np.ndarray,
    label: int,
    asked: Robustness,
    random: np.random.Generator,
) -> Robustness:
    """The same question at a radius a little above or below the one where the answer changes."""
    low, high = 0.0, 0.6
    for k in range(12):
        middle = 0.02 * 2**k if high == 0.6 and 0.02 * 2**k < high else (low + high) / 2
        here = asked._replace(eps=middle)
        safe = minimum(layers, image, label, here, gap=0.9).value > 0  # below 1: the sign is right
        low, high = (middle, high) if safe else (low, middle)
    off = random.choice([-1, 1]) * 10 ** random.uniform(-3.5, -0.5)
    return asked._replace(eps=float(high * (1 + off)))


def asked_at_random(
    label: int, margin: float, classes: int, random: np.random.Generator
) -> Robustness:
    others = [c for c in range(classes) if c != label]
    return [
        Robustness(None),
        Robustness(None, margin=float(margin * random.uniform(0.1, 0.7))),
        Robustness(
            None, targets=tuple(random.permutation(others)[: random.integers(1, 3)].tolist())
        ),
    ][random.integers(3)]


def ask_about_tiny_networks(options: argparse.Namespace) -> bool:
    """Whether verifier and MILP agree wherever both are sure."""
    random, started = np.random.default_rng(options.seed), time.perf_counter()
    counts: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    deciding: Counter[str] = Counter()
    apart, nearest, posed = 0.0, np.inf, 0
    while posed < options.questions:
        kind = ("dense2", "dense3", "conv", "pooled", "residual")[posed % 5]
        net, shape = tiny(kind)
        x = torch.rand(1, *shape)
        label = net(x).argmax(1)
        margin = float(margins(net, x, label).min())
        if margin < 0.01:  # the answer changes at no radius to speak of
            continue
        layers, image = read(net, shape), x[0].numpy()
        plain = asked_at_random(int(label), margin, net[-1].out_features, random)
        asked = near_the_flip(layers, image, int(label), plain, random)
        exact = minimum(layers, image, int(label), asked)
        stages = METHODS[posed // 5 % len(METHODS)]
        if stages == STAGES:
            (row,) = decided(net, Labelled(x, label), asked, options.time_limit)
        else:
            question = Question(subject_of(net, shape), x, label, asked)
            row, _ = solve_one(question, Method(frozenset(stages)), options.time_limit)
        posed += 1
        wrong = {
            "verified": exact.value <= 0 or exact.bound < -TOLERANCE,
            "falsified": exact.bound > TOLERANCE,
            "misclassified": True,
            "error": True,
        }.get(row.verdict)
        counts["unknown" if wrong is None else "contradicted" if wrong else "agreed"] += 1
        verdicts[row.verdict] += 1
        if wrong is None:
            reals = row.arithmetic == "reals"
            deciding[
                "nothing over the reals only" if reals else f"nothing of {'+'.join(stages)}"
            ] += 1
        else:
            deciding[str(row.decided_by)] += 1
        apart = max(apart, exact.value - exact.bound)
        if row.verdict == "verified":
            nearest = min(nearest, exact.value)
        if wrong:
            print(f"CONTRADICTION: {kind}, question {posed}, {asked}: {row}, {exact}")
    print(f"{posed} questions on tiny networks: {_listed(counts)}; {_listed(verdicts)}; ", end="")
    print(
        f"decided by {_listed(deciding)}; smallest minimum of one verified {nearest:.1e}; ",
        end="",
    )
    print(f"the MILP's bounds and points at most {apart:.1e} apart ", end="")
    print(f"({time.perf_counter() - started:.0f} s)")
    return counts["contradicted"] == 0


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


PARTS = {"attack": attack_what_is_verified, "minima": ask_about_tiny_networks}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eps", type=float, default=0.04)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds a sample's solve")
    parser.add_argument("--parts", nargs="+", default=[*PARTS], choices=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    stands = []
    for part in options.parts:
        torch.manual_seed(options.seed)
        stands.append(PARTS[part](options))
    print("nothing contradicts" if all(stands) else "CONTRADICTED, or the attack is too weak")
    return int(not all(stands))


if __name__ == "__main__":
    sys.exit(main())
