"""Small networks and questions for certificates, and their smallest margins by brute force."""

import numpy as np
from torch import nn

from robsweep.tasks.certificates.network import Network, Question, evaluate, question
from robsweep.tasks.recheck.chain import as_certified
from robsweep.tasks.recheck.network import read


def network(net: nn.Module, *shape: int) -> Network:
    return as_certified(read(net, shape), int(np.prod(shape)))


def asked(centre: np.ndarray, eps: float, label: int, classes: int) -> Question:
    """Whether another class ties or wins in a ball."""
    eye = np.eye(classes)
    bias = np.where(np.arange(classes) == label, np.inf, 0.0)
    weight = (eye[label] - eye)[:, None]
    return question(centre - eps, centre + eps, weight, bias[:, None])


def lowest_seen(net: Network, what: Question, points: int, seed: int = 0) -> float:
    """The smallest value of any row at random points and corners: one row per disjunct here."""
    draw = np.random.default_rng(seed).uniform(size=(points, net.inputs))
    draw[: points // 2] = draw[: points // 2].round()
    least = np.inf
    for share in draw:
        x = what.lower + share * (what.upper - what.lower)
        outputs = evaluate(net, x)[-1]
        least = min(least, *(float(u.weight[0] @ outputs + u.bias[0]) for u in what.unsafe))
    return least
