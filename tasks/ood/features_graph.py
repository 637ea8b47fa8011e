"""Where a traced network's features are, and the linear head behind them."""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.ood.fits import Head

_NAMED = 12  # layers in one message
_CHUNK = 512  # directions that a head is asked about at once
_SAME = 1e-6  # of a head, relative to its largest value

# What may stand behind the last linear layer.
_BEHIND = (nn.BatchNorm1d, nn.Identity, nn.Dropout, nn.Flatten, nn.LogSoftmax, nn.Softmax)
_BEHIND_WORDS = frozenset({
    "add", "contiguous", "div", "dropout", "flatten", "log_softmax", "mul", "neg", "reshape",
    "softmax", "squeeze", "sub", "truediv", "view",
})  # fmt: skip
_LINEAR = frozenset({"linear", "matmul", "mm", "addmm"})
# What only makes one row of a spatial map.
_MOVES = frozenset({"contiguous", "dropout", "flatten", "reshape", "view"})


def named_layer(traced: fx.GraphModule, model: nn.Module, layer: str) -> fx.Node:
    inside = {*dict(model.named_modules())}
    for node in reversed(traced.graph.nodes):
        if node.op == "call_module" and str(node.target) in {layer, f"0.{layer}"}:
            return node  # type: ignore[no-any-return]
    what = "is made of other layers" if layer in inside else "does not exist"
    raise InputError(f"layer {layer!r} {what}: {layers_of(model)}")


def before_last_linear(traced: fx.GraphModule, model: nn.Module) -> fx.Node:
    seen = _seen(traced)
    (out,) = (n for n in traced.graph.nodes if n.op == "output")
    node = out.args[0]
    while isinstance(node, fx.Node):
        before = [n for n in node.all_input_nodes if n in seen]
        layer = _layer(traced, node)
        if len(before) == 1 and (isinstance(layer, nn.Linear) or _word(node) in _LINEAR):
            (found,) = before
            if map_behind(found).op != "placeholder":
                return found
            raise InputError(
                f"its only linear layer reads the image itself: there is no penultimate one; "
                f"name one with `layer:`; {layers_of(model)}"
            )
        if len(before) != 1 or not (isinstance(layer, _BEHIND) or _word(node) in _BEHIND_WORDS):
            break
        (node,) = before
    raise InputError(
        f"it does not end in a linear layer, so that its penultimate one is not known: "
        f"name one with `layer:`; {layers_of(model)}"
    )


def _seen(traced: fx.GraphModule) -> set[fx.Node]:
    """The nodes that depend on the images."""
    seen: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder" or any(n in seen for n in node.all_input_nodes):
            seen.add(node)
    return seen


def map_behind(node: fx.Node) -> fx.Node:
    """The value that reshapes make a row of."""
    while _word(node) in _MOVES and node.all_input_nodes:
        node = node.all_input_nodes[0]
    return node


def _layer(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _word(node: fx.Node) -> str:
    """What a node does; of torch's own modules that move and drop, their function's name."""
    if node.op == "call_module":
        module = node.graph.owning_module
        layer = None if module is None else module.get_submodule(str(node.target))
        words = {nn.Flatten: "flatten", nn.Identity: "contiguous", nn.Dropout: "dropout"}
        return words.get(type(layer), "")
    if node.op == "call_method":
        return str(node.target)
    if node.op == "call_function":
        return getattr(node.target, "__name__", "").strip("_")
    return ""


def cut_at(traced: fx.GraphModule, outputs: tuple[Any, ...]) -> fx.GraphModule:
    """The same operations with these nodes' values as outputs."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(traced.graph, copies)
    graph.output(tuple(copies[node] for node in outputs))
    return fx.GraphModule(traced, graph)


def head_behind(traced: fx.GraphModule, start: fx.Node, at: Tensor, logits: Tensor) -> Head:
    """The affine map of what stands behind a node, held against it.

    Raises:
        InputError: It is not affine, or logits depend on the images in other ways too.
    """
    tail = tail_behind(traced, start).double()
    shape, size = at.shape[1:], at[0].numel()
    zeros = torch.zeros(1, *shape, dtype=torch.float64, device=at.device)
    with torch.no_grad():
        bias = tail(zeros)[0]
        weight = torch.empty(size, len(bias), dtype=torch.float64, device=at.device)
        for first in range(0, size, _CHUNK):
            some = torch.arange(first, min(first + _CHUNK, size), device=at.device)
            ones = F.one_hot(some, size).double().reshape(-1, *shape)
            weight[some] = tail(ones) - bias
        generator = torch.Generator().manual_seed(0)
        drawn = torch.randn(8, *shape, generator=generator, dtype=torch.float64).to(at.device)
        drawn = torch.cat([at.double(), drawn * (1 + at.double().abs().mean())])
        wanted = tail(drawn)
        got = drawn.flatten(1) @ weight + bias
    reach = (drawn.flatten(1).abs() @ weight.abs() + bias.abs()).amax()
    off = float((got - wanted).abs().amax() / reach.clamp(min=1e-300))
    if off > _SAME:
        raise InputError("what is behind its features is not affine")
    beside = float((got[: len(logits)] - logits.double()).abs().amax() / reach.clamp(min=1e-300))
    if beside > 1e-4:  # the logits are float32's
        raise InputError("its logits are not what its last linear layer makes of the features")
    return Head(weight.T.contiguous(), bias, exact=True)


def tail_behind(traced: fx.GraphModule, start: fx.Node) -> fx.GraphModule:
    """From a node's value to the output, as a copy."""
    seen = _seen(traced)
    behind = {start}
    for node in traced.graph.nodes:
        if any(n in behind for n in node.all_input_nodes):
            behind.add(node)
    graph = fx.Graph()
    copies = {start: graph.placeholder("features")}
    for node in traced.graph.nodes:
        if node is start or node.op == "output":
            continue
        if node in behind or node not in seen:
            if beside := [n for n in node.all_input_nodes if n not in copies]:
                raise InputError(f"its logits depend on {beside[0].name} beside the features")
            copies[node] = graph.node_copy(node, copies.__getitem__)
    (out,) = (n for n in traced.graph.nodes if n.op == "output")
    if out.args[0] not in copies:
        raise InputError("its logits do not depend on the features")
    graph.output(copies[out.args[0]])
    return copy.deepcopy(fx.GraphModule(traced, graph)).eval()


def layers_of(model: nn.Module) -> str:
    names = [f"{name} ({type(m).__name__})" for name, m in model.named_modules()
             if name and not any(m.children())]  # fmt: skip
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(names[:_NAMED])
    return f"its layers are {shown}{more}" if names else "it has no layers that have a name"
