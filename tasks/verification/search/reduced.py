"""A smaller network that is the same over one sample's box: without units that stay off there."""

from dataclasses import replace

from robsweep.tasks.verification.bounds.alpha import Relaxed
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.layers import Linear, Relu, in_float32


def without_dead_units(relaxed: Relaxed) -> Relaxed:
    """Takes out the ReLUs between two dense layers that are 0 all over the box, of one sample."""
    network, bounds = relaxed.exact, relaxed.bounds
    layers, shapes, kept = list(network.layers), list(network.shapes), list(bounds)
    slacks = dict(relaxed.slacks)
    readers = [[k for k, read in enumerate(network.inputs) if v in read] for v in range(len(kept))]
    for k, layer in enumerate(network.layers):
        value = network.inputs[k][0]
        before, after = layers[value - 1] if value else None, readers[k + 1]
        if not isinstance(layer, Relu) or readers[value] != [k] or len(after) != 1:
            continue
        behind = layers[after[0]]
        if isinstance(before, Linear) and isinstance(behind, Linear):
            upper = bounds[value].upper[0]
            alive = (upper >= upper.max().clamp(max=1e-300)).nonzero()[:, 0]  # one at least
            weight, bias = before.weight[alive], before.bias[alive]
            layers[value - 1] = replace(before, weight=weight, bias=bias)
            layers[after[0]] = replace(behind, weight=behind.weight[:, alive])
            for v in (value, k + 1):
                shapes[v] = (len(alive),)
                kept[v] = Bounds(*(end[:, alive] for end in kept[v]))
                if v in slacks:
                    slacks[v] = slacks[v][:, alive]
    # a 0 adds nothing to a sum and no rounding, so what rounding may add is still the same
    smaller = network._replace(layers=tuple(layers), shapes=tuple(shapes))
    return Relaxed(smaller, in_float32(smaller), kept, slacks)
