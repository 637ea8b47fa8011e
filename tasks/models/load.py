"""From a ModelRef to a model that can be called."""

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from robsweep.tasks.catalogue import MODELS
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models import weights as weights_of
from robsweep.tasks.own_functions import function_of, guard

_CACHE_SIZE = 6
_cache: OrderedDict[tuple[str, ...], "LoadedModel"] = OrderedDict()


class LoadedModel(NamedTuple):
    """A model in eval mode without parameter gradients; shared by the jobs of a process."""

    model: nn.Module
    weights_sha256: str
    parameters: int  # how many numbers its parameters hold
    notes: tuple[str, ...] = ()  # on how its weights were read


def build(ref: ModelRef) -> nn.Module:
    """Builds the architecture with fresh weights drawn from torch's global generator.

    Raises:
        InputError: It cannot be found, cannot be built with these parameters, or is no module.
    """
    path = MODELS[ref.arch].path if ref.arch in MODELS else ref.arch
    function = function_of(path, "model")
    try:
        model = function(tuple(ref.shape), ref.classes, **ref.params)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"model {ref.arch!r} cannot be built for inputs {tuple(ref.shape)}, {ref.classes} "
            f"classes and parameters {dict(ref.params)}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise InputError(
            f"model {ref.arch!r} gave a {type(model).__name__}, it must return a torch.nn.Module"
        )
    return model if ref.arch in MODELS else guard(model)


def load(
    ref: ModelRef,
    weights: bytes | None,
    device: torch.device,
    *,
    many_passes: bool = False,
) -> LoadedModel:
    """Builds a model and gives it its weights.

    Args:
        weights: The weights file's bytes (safetensors, a torch state dict, or ONNX); None: read
            `ref.weights`, or, where there is none either, the model brings its own.
        many_passes: Whether speed on a CPU is worth logits that differ in their last bits from
            those of the same model loaded otherwise.

    Raises:
        InputError: The model cannot be built, or its weights are damaged or do not fit.
    """
    where = ref.weights or f"of {ref.model_id}"
    if weights is None and ref.weights is not None:
        weights = _read_file(ref)
    digest = None if weights is None else weights_of.sha256(weights)
    if ref.weights_sha256 is not None and digest is not None and digest != ref.weights_sha256:
        raise InputError(f"weights {where} have SHA-256 {digest}, expected {ref.weights_sha256}")
    identity = json.dumps([ref.arch, dict(ref.params), ref.shape, ref.classes], sort_keys=True)
    key = (identity, str(digest), str(device))
    model = _kept(key, lambda: _loaded(ref, weights, where, digest, device))
    if many_passes and device.type == "cpu" and known(ref.arch, ref.params) and _gains(model):
        return _kept((*key, "many passes"), lambda: _channels_last(model))
    return model


def _kept(key: tuple[str, ...], make: Callable[[], LoadedModel]) -> LoadedModel:
    if key not in _cache:
        _cache[key] = make()
        if len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    _cache.move_to_end(key)
    return _cache[key]


def _loaded(
    ref: ModelRef, weights: bytes | None, where: str, digest: str | None, device: torch.device
) -> LoadedModel:
    # a model that draws its own weights draws the same ones everywhere
    seed_everything(0, "model", 0)
    notes: tuple[str, ...] = ()
    if ref.arch == "onnx" and weights is not None:
        from robsweep.tasks.models.onnx_file import module_of_file

        model = module_of_file(weights, where, tuple(ref.shape))
    else:
        model = build(ref)
        if weights is not None:
            notes = weights_of.put(model, weights, where)
    if digest is None:
        digest = weights_of.sha256(weights_of.to_bytes(model.state_dict()))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return LoadedModel(model.to(device).eval().requires_grad_(False), digest, parameters, notes)


def known(arch: str, params: Mapping[str, Any]) -> bool:
    """Whether all code of a model is the catalogue's: others may not bear another layout."""
    members = params.get("members", ())
    return arch in MODELS and all(known(m["arch"], m["params"]) for m in members)


def _gains(loaded: LoadedModel) -> bool:
    """Whether it has what is up to twice as fast in channels-last layout on a CPU.

    Max pooling, and convolutions of stride 1. Decoders choose a layout of their own.
    """
    modules = list(loaded.model.modules())
    if any(isinstance(module, nn.ConvTranspose2d) for module in modules):
        return False
    return any(isinstance(module, nn.Conv2d) and module.stride == (1, 1) for module in modules)


def _channels_last(loaded: LoadedModel) -> LoadedModel:
    copied: Any = copy.deepcopy(loaded.model)  # torch's types do not know the layout
    return loaded._replace(model=copied.to(memory_format=torch.channels_last))


def forget_all() -> None:
    """Has each model loaded anew: whatever was done to those that are loaded, it is gone."""
    _cache.clear()


def _read_file(ref: ModelRef) -> bytes:
    path = Path(str(ref.weights))
    if not path.is_file():
        raise InputError(f"model {ref.arch!r}: no weights file {path}")
    return path.read_bytes()
