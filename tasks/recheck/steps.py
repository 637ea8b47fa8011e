"""A torch module as a list of steps: torch's own layers, sums, and arithmetic with constants."""

import operator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from robsweep.tasks.errors import InputError

SUPPORTED = (
    "Sequential, Linear, Conv2d, BatchNorm1d, BatchNorm2d, ReLU, MaxPool2d, AvgPool2d, Flatten, "
    "Unflatten, Dropout, Identity, sums, arithmetic with constants"
)
_NOTHING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.Identity)
_LAYERS = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.Flatten,
    nn.Unflatten,
)


@dataclass(frozen=True)
class Sum:
    """Of two values, each times its factor."""

    factors: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Scale:
    """`weight * x + bias`, broadcast over one image's value."""

    weight: Tensor
    bias: Tensor


class Step(NamedTuple):
    """Gives one more value; value 0 is the image."""

    does: nn.Module | Sum | Scale
    reads: tuple[int, ...]
    where: str


class Program(NamedTuple):
    steps: list[Step]
    output: int


def steps_of(module: nn.Module, where: str) -> Program:
    """Writes out what a module does to a batch.

    Raises:
        InputError: Something in it is not known here, or it cannot be traced.
    """
    steps: list[Step] = []
    return Program(steps, _walk(module, 0, steps, where))


def _walk(module: nn.Module, value: int, steps: list[Step], where: str) -> int:
    """Its exact type counts, as a subclass may do something else."""
    kind = type(module)
    if kind is nn.Sequential:
        for name, part in module._modules.items():  # named_children leaves repeated ones out
            assert part is not None
            value = _walk(part, value, steps, f"{where}.{name}")
        return value
    if kind in _NOTHING:
        return value
    if kind in _LAYERS:
        return _added(steps, module, (value,), where)
    if kind.__module__.startswith("torch.nn.modules"):
        raise unknown(where, kind.__name__)
    return _traced(module, value, steps, f"{where} ({kind.__name__})")


def unknown(where: str, what: str) -> InputError:
    return InputError(
        f"{where}: {what}, as set up here, cannot be rechecked; supported: {SUPPORTED}"
    )


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """All parts are: they are walked by themselves."""
        return True


def _traced(module: nn.Module, value: int, steps: list[Step], where: str) -> int:
    """Follows a `forward` of a user's own."""
    try:
        graph = _Tracer().trace(module)
    except Exception as error:
        raise InputError(f"{where}: cannot be traced: {error}") from error
    known: dict[fx.Node, Any] = {}  # a value's number, or a constant
    images: set[fx.Node] = set()
    for node in graph.nodes:
        args = [known.get(a) if isinstance(a, fx.Node) else a for a in node.args]
        reads = [a for a in node.args if isinstance(a, fx.Node) and a in images]
        if node.op == "placeholder" and not images:
            known[node] = value
        elif node.op == "get_attr":
            known[node] = operator.attrgetter(str(node.target))(module)
            continue
        elif node.op == "output":
            if reads:
                return int(known[reads[0]])
            break
        elif node.op == "call_module" and len(reads) == 1:
            part = module.get_submodule(str(node.target))
            known[node] = _walk(part, known[reads[0]], steps, f"{where}.{node.target}")
        else:
            name = node.target if isinstance(node.target, str) else node.target.__name__
            made = _operation(name, node, args, reads, steps, where)
            known[node] = made
            if made is None:  # a size, which only a reshape may use
                continue
        images.add(node)
    raise InputError(f"{where}: returns something else than logits")


def _operation(
    name: str, node: fx.Node, args: list[Any], reads: list[fx.Node], steps: list[Step], where: str
) -> int | None:
    """The number of a function's or method's value; None where it is a size."""
    first = bool(reads) and node.args[0] is reads[0]
    if name in ("size", "getattr", "getitem", "len"):
        return None
    plain = not node.kwargs or (name == "relu" and node.kwargs == {"inplace": False})
    if not (plain and reads):
        raise unknown(where, name)
    if name == "relu":
        return _added(steps, nn.ReLU(), (args[0],), where)
    if name == "flatten" and args[1:] in ([1], [1, -1]) and first:
        return _added(steps, nn.Flatten(), (args[0],), where)
    if name in ("view", "reshape") and first and len(args) == 3 and args[2] == -1:
        return _added(steps, nn.Flatten(), (args[0],), where)
    if name in ("add", "sub", "mul", "truediv", "neg") and len(args) <= 2:
        return _arithmetic(name, args, reads, steps, where, first=first)
    raise unknown(where, name)


def _arithmetic(
    name: str, args: list[Any], reads: list[fx.Node], steps: list[Step], where: str, *, first: bool
) -> int:
    if len(reads) == 2:
        if name not in ("add", "sub"):
            raise unknown(where, f"{name} of two branches")
        factors = (1.0, 1.0 if name == "add" else -1.0)
        return _added(steps, Sum(factors), (args[0], args[1]), where)
    value = args[0] if first else args[1]
    other = 1.0 if name == "neg" else args[1] if first else args[0]
    constant = torch.as_tensor(other, dtype=torch.float64).detach().cpu()
    one, zero = torch.ones(()).double(), torch.zeros(()).double()
    match name:
        case "add":
            scale = Scale(one, constant)
        case "sub":
            scale = Scale(one, -constant) if first else Scale(-one, constant)
        case "mul":
            scale = Scale(constant, zero)
        case "truediv" if first:
            scale = Scale(1 / constant, zero)
        case "neg":
            scale = Scale(-one, zero)
        case _:
            raise unknown(where, "division by the image")
    return _added(steps, scale, (value,), where)


def _added(
    steps: list[Step], does: nn.Module | Sum | Scale, reads: tuple[int, ...], where: str
) -> int:
    steps.append(Step(does, reads, where))
    return len(steps)
