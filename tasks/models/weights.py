"""Weights as bytes: deterministic safetensors out; safetensors or weights-only .pt in."""

import hashlib
import io
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from robsweep.tasks.errors import InputError


class MoreOutputsError(InputError):
    """Weights of a model that differs from the wanted one only in having more outputs."""

    outputs = 0


def to_bytes(state: Mapping[str, Tensor]) -> bytes:
    """Serialises a state dict as safetensors; equal tensors give equal bytes."""
    from safetensors.torch import save

    # clones, as safetensors refuses tensors that share memory
    cpu = {name: state[name].detach().cpu().contiguous().clone() for name in sorted(state)}
    return save(cpu)  # type: ignore[no-any-return]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


_WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # around a state dict
_PREFIXES = ("module.", "_orig_mod.")  # of DataParallel and torch.compile


def put(model: nn.Module, content: bytes, where: str) -> tuple[str, ...]:
    """Loads weights into a model; says what had to be taken off them, if anything.

    That is what a checkpoint wraps around a state dict, and what DataParallel and torch.compile
    put before each name.

    A file may lack what a model has a default for: batch normalisation's counts of batches, on
    which no output depends, and what the model names in a set `has_default`. Buffers that it names
    in a set `sized_by_data` are as long as the file's.

    Args:
        where: The file or store entry that the bytes came from, for messages.

    Raises:
        InputError: Damaged bytes, or tensors that are missing, too many, of another shape, or not
            finite.
    """
    state, notes = _read(content, where)
    wanted = model.state_dict()
    state, prefix = _without_prefix(state, wanted)
    if prefix:
        notes = (*notes, f"weights {where}: {prefix!r} is taken off each name")
    for prefix, module in model.named_modules():
        _adapt(module, prefix, state, wanted)
    wider = _more_outputs(state, wanted)
    problems = [
        *(f"tensor {name!r} is missing" for name in wanted if name not in state),
        *(f"tensor {name!r} is unexpected" for name in state if name not in wanted),
        *(
            f"tensor {name!r} has shape {tuple(state[name].shape)}, "
            f"the model wants {tuple(wanted[name].shape)}"
            for name in wanted
            if name in state and state[name].shape != wanted[name].shape
        ),
        *(
            f"tensor {name!r} is not finite"
            for name, tensor in state.items()
            if not torch.isfinite(tensor).all()
        ),
    ]
    if problems:
        more = f" and {len(problems) - 5} more problems" if len(problems) > 5 else ""
        what = f"weights {where} do not fit the model: {'; '.join(problems[:5])}{more}"
        if not wider:
            raise InputError(what)
        error = MoreOutputsError(what)
        error.outputs = wider
        raise error
    model.load_state_dict(state)
    return notes


def _more_outputs(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> int | None:
    """How many outputs weights are for, if that alone keeps them from fitting, and it is more."""
    if set(state) != set(wanted):
        return None
    sizes = {
        (tuple(state[name].shape[:1]), tuple(wanted[name].shape[:1]))
        for name in wanted
        if state[name].shape != wanted[name].shape
    }
    rest = all(state[name].shape[1:] == wanted[name].shape[1:] for name in wanted)
    if len(sizes) != 1 or not rest:
        return None
    ((theirs, ours),) = sizes
    return theirs[0] if theirs and ours and theirs[0] > ours[0] else None


def _without_prefix(
    state: dict[str, Tensor], wanted: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """Tensors by the names that a model knows, and what stood before each of them."""
    taken = ""
    while state and not any(name in wanted for name in state):
        prefix = next((p for p in _PREFIXES if all(n.startswith(p) for n in state)), None)
        if prefix is None:
            break
        taken += prefix
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state, taken


def _adapt(
    module: nn.Module, prefix: str, state: dict[str, Tensor], wanted: dict[str, Tensor]
) -> None:
    """Fills in what one module of a model has defaults for, and makes room for a file's buffers."""
    optional: frozenset[str] = getattr(module, "has_default", frozenset())
    by_data: frozenset[str] = getattr(module, "sized_by_data", frozenset())
    for own in {*optional, "num_batches_tracked"}:
        name = f"{prefix}.{own}".lstrip(".")
        if name in wanted and name not in state:
            state[name] = wanted[name]
    for own in by_data:
        name = f"{prefix}.{own}".lstrip(".")
        if name in state and state[name].shape[1:] == wanted[name].shape[1:]:
            wanted[name] = wanted[name].new_empty(state[name].shape)
            setattr(module, own, wanted[name])


def _read(content: bytes, where: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    if content[8:9] == b"{":  # safetensors: 8 bytes of length, then a JSON header
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            return load(content), ()
        except SafetensorError as error:
            raise InputError(f"weights {where} are a damaged safetensors file: {error}") from error
    try:
        with warnings.catch_warnings():  # of unusual pickles, which it then refuses or reads
            warnings.simplefilter("ignore", UserWarning)
            loaded: Any = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError, OSError) as error:
        raise InputError(
            f"weights {where} are neither safetensors nor a plain torch state dict "
            f"({type(error).__name__}): save model.state_dict(), not the model"
        ) from error
    notes: tuple[str, ...] = ()
    if isinstance(loaded, Mapping) and not _is_state(loaded):
        inside = [name for name in _WRAPPERS if _is_state(loaded.get(name))]
        if len(inside) > 1:
            raise InputError(
                f"weights {where} hold several state dicts ({', '.join(inside)}): save the one "
                "that is meant"
            )
        if inside:
            loaded = loaded[inside[0]]
            notes = (f"weights {where}: the state dict under {inside[0]!r} is taken",)
    if not _is_state(loaded) and loaded != {}:
        raise InputError(f"weights {where} hold no state dict: save model.state_dict()")
    return dict(loaded), notes


def _is_state(loaded: Any) -> bool:
    return (
        isinstance(loaded, Mapping)
        and len(loaded) > 0
        and all(isinstance(value, Tensor) for value in loaded.values())
    )
