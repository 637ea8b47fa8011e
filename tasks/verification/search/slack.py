"""Looking for the middle of a conjunction: a point at which its tightest constraint has most room.

Signed gradient steps follow one constraint at a time and rarely meet a small region that several of
them leave. Here all of them are linearised together, and a linear program finds the step.
Source: successive linear programming with a trust region, Nocedal and Wright 2006, section 18.5.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.properties import Property

_LEAST = 1e-9  # of the box, as a trust region


class Ends(NamedTuple):
    """A box, (*shape) each."""

    low: Tensor
    high: Tensor


def roomiest(
    network: Network, box: Ends, unsafe: Property, start: Tensor, rounds: int, reach: float = 0.25
) -> Tensor:
    """A point (*shape) of the box, where the margin is no larger than at the start.

    Args:
        unsafe: Of one sample; the disjunct that is nearest at the start is the one to reach.
        reach: The first trust region, as a share of the box.
    """
    x = start.clamp(box.low, box.high)
    nearest = int(_margins(network, unsafe, x).argmin())
    one = Property(unsafe.weight[:, nearest : nearest + 1], unsafe.bias[:, nearest : nearest + 1])
    best = float(_margins(network, one, x)[0])
    for _ in range(rounds):
        if reach < _LEAST or not np.isfinite(best):
            break
        step = _step(network, box, one, x, reach)
        if step is None:
            break
        moved = step.clamp(box.low, box.high)
        found = float(_margins(network, one, moved)[0])
        if found < best:
            x, best, reach = moved, found, min(1.0, 2 * reach)
        else:
            reach /= 8
    return x


def _margins(network: Network, unsafe: Property, x: Tensor) -> Tensor:
    """Of each disjunct: (D,)."""
    with torch.no_grad():
        logits = evaluate(network, x[None])[-1][0]
    return (unsafe.weight[0] @ logits + unsafe.bias[0]).amax(1)


def _step(network: Network, box: Ends, one: Property, x: Tensor, reach: float) -> Tensor | None:
    """Where the linearised constraints have most room, within reach; None without a solution."""
    from scipy.optimize import linprog

    weight, bias = one.weight[0, 0], one.bias[0, 0]
    both = np.unique(torch.cat([weight, bias[:, None]], 1).numpy(), axis=0)  # short ones repeat
    weight, bias = torch.from_numpy(both[:, :-1]), torch.from_numpy(both[:, -1])
    point = x.detach().requires_grad_()
    with torch.enable_grad():
        values = weight @ evaluate(network, point[None])[-1][0] + bias
        slopes = [torch.autograd.grad(v, point, retain_graph=True)[0].flatten() for v in values]
    # variables: the step, and the largest of the constraints
    rows = np.concatenate([torch.stack(slopes).numpy(), -np.ones((len(values), 1))], 1)
    size = box.high - box.low
    least = torch.maximum(box.low - x, -reach * size)
    most = torch.minimum(box.high - x, reach * size)
    ends = [*zip(least.flatten().tolist(), most.flatten().tolist(), strict=True), (None, None)]
    objective = np.zeros(rows.shape[1])
    objective[-1] = 1.0
    limit = -values.detach().numpy()
    if not (np.isfinite(rows).all() and np.isfinite(limit).all()):
        return None
    solved = linprog(objective, A_ub=rows, b_ub=limit, bounds=ends, method="highs")
    if solved.x is None:
        return None
    return x + torch.from_numpy(np.asarray(solved.x[:-1])).reshape(x.shape)


def is_joint(unsafe: Property) -> bool:
    """Whether some disjunct has several constraints."""
    first = (unsafe.weight[:, :, :1], unsafe.bias[:, :, :1])
    return bool((unsafe.weight != first[0]).any() or (unsafe.bias != first[1]).any())
