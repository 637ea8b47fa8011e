"""Reads a torch module as a network, through torch.fx."""

import copy

import torch
from torch import Tensor, fx, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.graph import in_float32_as
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.torch.reader import Reader, Reading


def read(module: nn.Module, shape: tuple[int, ...]) -> Network:
    """Reads a module in evaluation mode; its weights become float64.

    Args:
        shape: Of one input.

    Raises:
        InputError: An operator that is not supported, weights that are not finite, or a reading
            that does not compute what the module computes.
    """
    return _in_double(module, shape).over_reals()


def read_as_deployed(module: nn.Module, shape: tuple[int, ...]) -> Network:
    """As `read`, with its steps as it runs in float32; without, if it runs in less.

    Raises:
        InputError: As `read`.
    """
    network = _in_double(module, shape)
    if any(one.dtype in (torch.half, torch.bfloat16) for one in module.state_dict().values()):
        return network.over_reals()
    # what the module computes from its weights, and numbers in its code, differ in float32
    single = copy.deepcopy(module).eval().float().requires_grad_(False)
    with torch.no_grad():
        read = _read_at(operations_of(single), type(module).__name__, _probe(single, shape).float())
    return in_float32_as(network, read.network)


def _in_double(module: nn.Module, shape: tuple[int, ...]) -> Network:
    module = copy.deepcopy(module).eval().double().requires_grad_(False)
    name = type(module).__name__
    for key, value in module.state_dict().items():
        if not torch.isfinite(value).all():
            raise InputError(f"model {name}: {key} is not finite")
    probe = _probe(module, shape)
    with torch.no_grad():
        network = _read_at(operations_of(module), name, probe).network
        same = torch.allclose(evaluate(network, probe)[-1], module(probe), rtol=1e-9, atol=1e-9)
    if not same:
        raise InputError(f"model {name}: its layers do not compute what it computes")
    return network


def _probe(module: nn.Module, shape: tuple[int, ...]) -> Tensor:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    probe = torch.linspace(0, 1, 2 * torch.Size(shape).numel(), device=device).double()
    return probe.reshape(2, *shape)


def operations_of(module: nn.Module) -> fx.GraphModule:
    """The operations of a module, which share its weights.

    Raises:
        InputError: torch.fx cannot follow it.
    """
    # torch's own layers are only recognised inside another module
    leaf = fx.Tracer().is_leaf_module(module, "")
    try:
        return fx.symbolic_trace(nn.Sequential(module).train(module.training) if leaf else module)
    except Exception as error:
        name = type(module).__name__
        raise InputError(f"model {name}: torch.fx cannot trace it: {error}") from error


def read_at(operations: fx.GraphModule, name: str, images: Tensor) -> Reading:
    """Reads a module while it runs on images (N, *shape), with its weights as they are.

    Gradients reach the weights through the network and through the logits. A layer in training mode
    works on these images as it would in training, and is in the network as what it makes of every
    image: dropout as the identity, batch normalisation with the statistics of these images.

    Raises:
        InputError: As `read`.
    """
    reading = _read_at(operations, name, images)
    return reading._replace(network=reading.network.over_reals())


def _read_at(operations: fx.GraphModule, name: str, images: Tensor) -> Reading:
    network, logits = Reader(operations, name, images).run()
    if len(network.shapes[-1]) != 1:
        got = network.shapes[-1]
        raise InputError(f"model {name}: returns {got} per sample, not one row of logits")
    return Reading(network, logits)
