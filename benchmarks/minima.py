"""Compares the verifier with exact minima of random questions about tiny networks.

    python benchmarks/minima.py [--questions 200]

Near the radius where the answer changes, against scipy's MILP solver and the encoding of `robsweep
recheck`, which shares no code with the verifier. Exits 1 if anything contradicts. Needs OR-tools.
"""

import argparse
import sys
import time
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from scipy import optimize, sparse
from soundness import Skip, decided, listed, margins
from torch import nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.recheck.bounds import ball, relaxed
from robsweep.tasks.recheck.layers import Layer, forward
from robsweep.tasks.recheck.milp import encoded
from robsweep.tasks.recheck.network import read
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one

TOLERANCE = 1e-6  # of the MILP solver
# In turn, so that each stage has to answer for itself; the first is what sweeps do.
METHODS = (STAGES, ("crown", "branching"), ("crown", "milp"), ("interval", "alpha", "milp"))


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
    print(f"{posed} questions on tiny networks: {listed(counts)}; {listed(verdicts)}; ", end="")
    print(
        f"decided by {listed(deciding)}; smallest minimum of one verified {nearest:.1e}; ",
        end="",
    )
    print(f"the MILP's bounds and points at most {apart:.1e} apart ", end="")
    print(f"({time.perf_counter() - started:.0f} s)")
    return counts["contradicted"] == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--time-limit", type=float, default=10.0, help="seconds a sample's solve")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    stands = ask_about_tiny_networks(options)
    print("nothing contradicts" if stands else "CONTRADICTED")
    return int(not stands)


if __name__ == "__main__":
    sys.exit(main())
