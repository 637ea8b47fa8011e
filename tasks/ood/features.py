"""A model's penultimate layer: found through its graph, or named; and the head behind it."""

import copy
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.ood.fits import Head
from robsweep.tasks.verification.reading.torch_module import operations_of

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


class Passed(NamedTuple):
    """What one pass gives."""

    features: Tensor  # (N, D) float32
    logits: Tensor  # (N, K), as the model gives them
    members: Tensor | None  # (N, M, K), of an ensemble's members


class Features:
    """Features and logits of one model in one pass; a function of images.

    Attributes:
        width: How many features there are, D.
        maps: (channels, height, width) of the spatial maps that they come from, if they do.
    """

    def __init__(self, run: Callable[[Tensor], Passed], width: int) -> None:
        self.run, self.width = run, width
        self.maps: tuple[int, ...] | None = None
        self._tail: Callable[[], Head] | None = None
        self.headless = "there is no graph from these features to the logits"

    def __call__(self, images: Tensor) -> Passed:
        return self.run(images)

    @cached_property
    def head(self) -> Head:
        """The affine map from features to logits.

        Raises:
            InputError: There is none.
        """
        if self._tail is None:
            raise InputError(f"the model has no last linear layer behind its features: "
                             f"{self.headless}")  # fmt: skip
        return self._tail()


_found: "WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], Features]]" = WeakKeyDictionary()


def features_of(
    model: nn.Module, shape: tuple[int, ...], *, layer: str = "", pool: str = "mean"
) -> Features:
    """Where a model's features are.

    Without a name they are the input of its last linear layer, if nothing but affine layers, or a
    softmax, comes behind it; of an ensemble those of its members, side by side.

    Args:
        model: In evaluation mode.
        shape: Of one input.
        layer: A module by name, whose output the features are; of each member of an ensemble.
        pool: mean: spatial maps are averaged over their positions; none: they stay as they are.

    Raises:
        InputError: There is no such layer, or none is found.
    """
    model = innermost(model)
    known = _found.setdefault(model, {})
    key = (tuple(shape), layer, pool)
    if key not in known:
        whole = _of_ensemble if isinstance(model, Ensemble) else _of_one
        known[key] = whole(model, tuple(shape), layer, pool)
    return known[key]


def innermost(model: nn.Module) -> nn.Module:
    """What wrappers that keep what they wrap as `model`, such as those of attacks, are around."""
    while (wrapped := _wrapped(model)) is not None:
        model = wrapped
    return model


def passed(model: nn.Module, features: Features, images: Tensor) -> Passed:
    """One pass through a model and all that is wrapped around it, so that it is counted as one."""
    around, inner = None, model
    while (wrapped := _wrapped(inner)) is not None:
        around, inner = inner, wrapped
    if around is None:
        return features(images)
    keeping = _Keeping(features)
    around.model = keeping
    try:
        model(images)
    finally:
        around.model = inner
    assert keeping.kept is not None
    return keeping.kept


class _Keeping(nn.Module):
    """Stands for a model for one pass."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.features = features
        self.kept: Passed | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.kept = self.features(images)
        return self.kept.logits


def _wrapped(model: nn.Module) -> nn.Module | None:
    inner = model._modules.get("model")
    wraps = isinstance(inner, nn.Module) and len(model._modules) == 1
    # a user's own model may well keep what it wraps under that name: it stays whole
    ours = type(model).__module__.startswith("robsweep.")
    return inner if wraps and ours else None


def _of_ensemble(model: nn.Module, shape: tuple[int, ...], layer: str, pool: str) -> Features:
    assert isinstance(model, Ensemble)
    parts = [features_of(member, shape, layer=layer, pool=pool) for member in model.members]

    def run(images: Tensor) -> Passed:
        each = [part(images) for part in parts]
        logits = [one.logits for one in each]
        side_by_side = torch.cat([one.features for one in each], dim=1)
        return Passed(side_by_side, model.voted(logits), torch.stack(logits, dim=1))

    def tail() -> Head:
        heads = [part.head for part in parts]
        weight = torch.cat([one.weight for one in heads], dim=1) / len(heads)
        bias = torch.stack([one.bias for one in heads]).mean(dim=0)
        exact = model.vote == "mean_logits" and all(one.exact for one in heads)
        return Head(weight, bias, exact)

    features = Features(run, sum(part.width for part in parts))
    features._tail = tail
    return features


def _of_one(model: nn.Module, shape: tuple[int, ...], layer: str, pool: str) -> Features:
    try:
        traced = operations_of(model)
    except InputError as error:
        if not layer:
            raise InputError(
                f"its penultimate layer cannot be found ({error}): name one with `layer:`; "
                f"{_layers(model)}"
            ) from error
        return _hooked(model, shape, layer, pool)
    node = _named(traced, model, layer) if layer else _before_last_linear(traced, model)
    return _of_graph(model, traced, node, shape, pool)


def _of_graph(
    model: nn.Module, traced: fx.GraphModule, node: fx.Node, shape: tuple[int, ...], pool: str
) -> Features:
    (out,) = (n for n in traced.graph.nodes if n.op == "output")
    probe = _probe(model, shape)
    source = _map_behind(node)
    cut = _cut(traced, (source, node, out.args[0]))
    with torch.no_grad():
        at_map, at_node, logits = cut(probe)
    if at_node.dim() < 2 or len(at_node) != len(probe):
        raise InputError(f"layer {node.target} gives no row per sample: {_layers(model)}")
    spatial = (
        at_map.dim() > 2
        and at_map[0].numel() > at_map.shape[1]
        and torch.equal(at_map.flatten(1), at_node.flatten(1))
    )
    pooled = spatial and pool == "mean"

    def run(images: Tensor) -> Passed:
        _, found, logits = cut(images)
        flat = found.flatten(1)
        return Passed(_averaged(flat, at_map.shape[1]) if pooled else flat, logits, None)

    full = at_node[0].numel()
    features = Features(run, at_map.shape[1] if pooled else full)
    features.maps = tuple(at_map.shape[1:]) if spatial else None

    def tail() -> Head:
        head = _head(traced, node, at_node, logits)
        if not pooled:
            return head
        # the head on maps that are the same everywhere
        weight = head.weight.reshape(len(head.bias), at_map.shape[1], -1).sum(dim=2)
        return Head(weight, head.bias, exact=False)

    features._tail = tail
    return features


def _averaged(flat: Tensor, channels: int) -> Tensor:
    return flat.reshape(len(flat), channels, -1).mean(dim=2)


def _hooked(model: nn.Module, shape: tuple[int, ...], layer: str, pool: str) -> Features:
    """Of a model that cannot be traced: what a module gives while it runs."""
    named = dict(model.named_modules())
    if layer not in named:
        raise InputError(f"there is no layer {layer!r}: {_layers(model)}")
    module = named[layer]

    def output(images: Tensor) -> tuple[Tensor, Tensor]:
        kept: list[Any] = []
        handle = module.register_forward_hook(lambda _, __, result: kept.append(result))
        try:
            logits = model(images)
        finally:
            handle.remove()
        if not kept or not isinstance(kept[-1], Tensor) or len(kept[-1]) != len(images):
            raise InputError(f"layer {layer} gives no row per sample: {_layers(model)}")
        return kept[-1], logits

    with torch.no_grad():
        found, _ = output(_probe(model, shape))
    pooled = found.dim() > 2 and pool == "mean"
    channels = found.shape[1]

    def run(images: Tensor) -> Passed:
        found, logits = output(images)
        flat = found.flatten(1)
        return Passed(_averaged(flat, channels) if pooled else flat, logits, None)

    features = Features(run, channels if pooled else found[0].numel())
    features.maps = tuple(found.shape[1:]) if found.dim() > 2 else None
    features.headless = "torch.fx cannot trace it"
    return features


def _named(traced: fx.GraphModule, model: nn.Module, layer: str) -> fx.Node:
    inside = {*dict(model.named_modules())}
    for node in reversed(traced.graph.nodes):
        if node.op == "call_module" and str(node.target) in {layer, f"0.{layer}"}:
            return node  # type: ignore[no-any-return]
    what = "is made of other layers" if layer in inside else "does not exist"
    raise InputError(f"layer {layer!r} {what}: {_layers(model)}")


def _before_last_linear(traced: fx.GraphModule, model: nn.Module) -> fx.Node:
    seen = _seen(traced)
    (out,) = (n for n in traced.graph.nodes if n.op == "output")
    node = out.args[0]
    while isinstance(node, fx.Node):
        before = [n for n in node.all_input_nodes if n in seen]
        layer = _layer(traced, node)
        if len(before) == 1 and (isinstance(layer, nn.Linear) or _word(node) in _LINEAR):
            (found,) = before
            if _map_behind(found).op != "placeholder":
                return found
            raise InputError(
                f"its only linear layer reads the image itself: there is no penultimate one; "
                f"name one with `layer:`; {_layers(model)}"
            )
        if len(before) != 1 or not (isinstance(layer, _BEHIND) or _word(node) in _BEHIND_WORDS):
            break
        (node,) = before
    raise InputError(
        f"it does not end in a linear layer, so that its penultimate one is not known: "
        f"name one with `layer:`; {_layers(model)}"
    )


def _seen(traced: fx.GraphModule) -> set[fx.Node]:
    """The nodes that depend on the images."""
    seen: set[fx.Node] = set()
    for node in traced.graph.nodes:
        if node.op == "placeholder" or any(n in seen for n in node.all_input_nodes):
            seen.add(node)
    return seen


def _map_behind(node: fx.Node) -> fx.Node:
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


def _cut(traced: fx.GraphModule, outputs: tuple[Any, ...]) -> fx.GraphModule:
    """The same operations with these nodes' values as outputs."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(traced.graph, copies)
    graph.output(tuple(copies[node] for node in outputs))
    return fx.GraphModule(traced, graph)


def _head(traced: fx.GraphModule, start: fx.Node, at: Tensor, logits: Tensor) -> Head:
    """The affine map of what stands behind a node, held against it.

    Raises:
        InputError: It is not affine, or logits depend on the images in other ways too.
    """
    tail = _tail(traced, start).double()
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


def _tail(traced: fx.GraphModule, start: fx.Node) -> fx.GraphModule:
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


def _probe(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    device = next(iter(_tensors(model)), torch.zeros(0)).device
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, *shape, generator=generator).to(device)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def _layers(model: nn.Module) -> str:
    names = [f"{name} ({type(m).__name__})" for name, m in model.named_modules()
             if name and not any(m.children())]  # fmt: skip
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    shown = ", ".join(names[:_NAMED])
    return f"its layers are {shown}{more}" if names else "it has no layers that have a name"
