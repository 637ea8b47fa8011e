"""A model's penultimate layer: found through its graph, or named; and the head behind it."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, fx, nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.ood.features_graph import (
    before_last_linear,
    cut_at,
    head_behind,
    layers_of,
    map_behind,
    named_layer,
)
from robsweep.tasks.ood.fits import Head
from robsweep.tasks.verification.reading.torch.module import operations_of


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
                f"{layers_of(model)}"
            ) from error
        return _hooked(model, shape, layer, pool)
    node = named_layer(traced, model, layer) if layer else before_last_linear(traced, model)
    return _of_graph(model, traced, node, shape, pool)


def _of_graph(
    model: nn.Module, traced: fx.GraphModule, node: fx.Node, shape: tuple[int, ...], pool: str
) -> Features:
    (out,) = (n for n in traced.graph.nodes if n.op == "output")
    probe = _probe(model, shape)
    source = map_behind(node)
    cut = cut_at(traced, (source, node, out.args[0]))
    with torch.no_grad():
        at_map, at_node, logits = cut(probe)
    if at_node.dim() < 2 or len(at_node) != len(probe):
        raise InputError(f"layer {node.target} gives no row per sample: {layers_of(model)}")
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
        head = head_behind(traced, node, at_node, logits)
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
        raise InputError(f"there is no layer {layer!r}: {layers_of(model)}")
    module = named[layer]

    def output(images: Tensor) -> tuple[Tensor, Tensor]:
        kept: list[Any] = []
        handle = module.register_forward_hook(lambda _, __, result: kept.append(result))
        try:
            logits = model(images)
        finally:
            handle.remove()
        if not kept or not isinstance(kept[-1], Tensor) or len(kept[-1]) != len(images):
            raise InputError(f"layer {layer} gives no row per sample: {layers_of(model)}")
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


def _probe(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    device = next(iter(_tensors(model)), torch.zeros(0)).device
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, *shape, generator=generator).to(device)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
