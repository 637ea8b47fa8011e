"""Several networks as one, whose outputs a property can compare with each other and with inputs."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import Affine, Gather, Network, Step


def joint(networks: Sequence[Network], free: NDArray[np.int64], *, beside: bool) -> Network:
    """From the free inputs to all outputs, one network's behind the other's.

    Only the layers of the networks round: neither taking inputs apart nor putting outputs together.

    Args:
        free: (inputs,) of all networks, which of the free inputs each one is.
        beside: Whether the free inputs follow the outputs.
    """
    apart = len(networks) > 1 or len(set(free.tolist())) < len(free)
    if not apart and not beside:
        return networks[0]
    shape = (int(free.max()) + 1,) if apart else networks[0].shapes[0]
    graph = Graph(shape, torch.device("cpu"))
    steps: list[tuple[Step, ...]] = []
    outputs: list[int] = []
    softmaxes: list[tuple[int, ...]] = []
    ends: list[int] = []
    first = count = 0
    for network in networks:
        size = torch.Size(network.shapes[0]).numel()
        start = 0
        if apart:
            index = torch.from_numpy(free[first : first + size]).reshape(network.shapes[0])
            start = graph.add(Gather(index), 0)
            steps.append((Step(graph.layers[-1]),))
        base = len(graph.layers)
        for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
            graph.add(layer, *(base + v if v else start for v in read))
            steps.append(network.steps[k] if network.steps is not None else ())
        outputs.append(len(graph.layers) if network.layers else start)
        softmaxes += [tuple(count + i for i in group) for group in network.softmaxes]
        ends += network.ends
        first, count = first + size, count + network.shapes[-1][0]
    graph.joined([*outputs, *([0] if beside else [])])
    steps += [(Step(layer),) for layer in graph.layers[len(steps) :]]
    known = all(network.steps is not None for network in networks)
    return Network(
        tuple(graph.layers),
        tuple(graph.shapes),
        tuple(graph.inputs),
        tuple(steps) if known else None,
        max(network.unit for network in networks),
        tuple(softmaxes),
        tuple(ends),
    )


def alike(one: Network, other: Network) -> bool:
    """Whether two networks are the same but for the numbers in them."""

    def kinds(network: Network) -> list[object]:
        return [
            (type(layer), layer.weight.shape) if isinstance(layer, Affine) else type(layer)
            for layer in network.layers
        ]

    return (kinds(one), one.inputs, one.shapes) == (kinds(other), other.inputs, other.shapes)
