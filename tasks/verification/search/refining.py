"""Bounds on what enters each ReLU, by a small search tree for either end of each undecided unit.

One unit's lower bound suffers from few of the ReLUs before it, so some dozens of subproblems take
most of what relaxation loses. Layer after layer, what comes later starts from tighter bounds: in
deep dense networks, where losses multiply from layer to layer, that is what decides.
"""

import time
from typing import NamedTuple

import torch

from robsweep.tasks.verification.bounds.alpha import Relaxed
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import crown
from robsweep.tasks.verification.reading.layers import BENT, Network, Relu, Reshape, is_exact
from robsweep.tasks.verification.reading.properties import Property
from robsweep.tasks.verification.search.branching import Search

_NUMBERS = 2**24  # in one value of all trees' roots; where they are more, the widest units get one


class Refined(NamedTuple):
    bounds: list[Bounds]  # of one sample, on each value
    branches: int  # subproblems of all trees


def can_refine(network: Network) -> bool:
    """Whether a ReLU comes behind another bent layer, and all of them are lines."""
    bent = [layer for layer in network.layers if isinstance(layer, BENT)]
    return is_exact(network) and any(isinstance(layer, Relu) for layer in bent[1:])


def refined(network: Network, bounds: list[Bounds], rounds: int, until: float) -> Refined:
    """Splits the lowest subproblem of every undecided unit's ends `rounds` times.

    Args:
        bounds: On each value, each (1, *shape).
        until: On the monotonic clock.
    """
    branches = 0
    for k, layer in enumerate(network.layers):
        value = network.inputs[k][0]
        prefix = network.up_to(value)
        if not isinstance(layer, Relu) or not any(isinstance(one, BENT) for one in prefix.layers):
            continue
        if not is_exact(prefix) or time.monotonic() >= until:
            break
        found = _by_trees(prefix, bounds[: value + 1], rounds, until)
        branches += found.branches
        within = [*bounds[:value], *found.bounds, *bounds[value + 1 :]]
        bounds = crown(network, bounds[0], within=within)
    return Refined(bounds, branches)


def _by_trees(network: Network, bounds: list[Bounds], rounds: int, until: float) -> Refined:
    """Of the network's last value alone."""
    lower, upper = (end[0].flatten() for end in bounds[-1])
    gap = torch.where((lower < 0) & (upper > 0), -lower * upper / (upper - lower), 0)
    widest = max(torch.Size(shape).numel() for shape in network.shapes)
    units = gap.nonzero()[:, 0]
    if len(units) > (most := max(1, _NUMBERS // (2 * widest))):
        units = gap.topk(most).indices
    if not len(units):
        return Refined(bounds[-1:], 0)
    rows = torch.zeros(len(units), len(lower), dtype=lower.dtype, device=lower.device)
    rows[torch.arange(len(units)), units] = 1.0
    both = torch.cat([rows, -rows]).reshape(1, -1, 1, len(lower))
    ends = torch.cat([lower[units], -upper[units]])
    search = Search(
        Relaxed.of(_flattened(network), [*bounds, Bounds(lower[None], upper[None])]),
        Property(both, torch.zeros_like(both[..., 0])),
        dict(enumerate(ends.tolist())),
    )
    search.deepen(rounds, until)
    ends = torch.tensor([*search.lower().values()], dtype=lower.dtype, device=lower.device)
    low, minus_high = ends.chunk(2)
    shape = bounds[-1].lower.shape
    lower = lower.scatter(0, units, low).reshape(shape)
    return Refined(
        [Bounds(lower, upper.scatter(0, units, -minus_high).reshape(shape))], search.branches
    )


def _flattened(network: Network) -> Network:
    value, shape = len(network.layers), (torch.Size(network.shapes[-1]).numel(),)
    return network._replace(
        layers=(*network.layers, Reshape(shape)),
        shapes=(*network.shapes, shape),
        inputs=(*network.inputs, (value,)),
        steps=None if network.steps is None else (*network.steps, ()),
    )
