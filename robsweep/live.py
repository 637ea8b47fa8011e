"""A model and samples that exist in this process alone, as jobs take them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from robsweep.orchestrator.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@contextmanager
def borrowed(model: "nn.Module", device: "torch.device") -> "Iterator[None]":
    """A model in evaluation mode on a device, without gradients; afterwards it is as it was.

    Inside, gradients of images can be taken, wherever this is called, and each call of the model
    is harmless. The model itself is used, since not every one can be copied: its tensors are, and
    modes, gradients, hooks, and what lies in its memory and where are put back, whatever has
    happened in between.
    """
    import torch

    from robsweep.tasks.own_functions import State, guard

    with torch.inference_mode(mode=False), torch.enable_grad():
        state = State.of(model)
        gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
        buffers = [
            (module, name, buffer)
            for module in model.modules()
            for name, buffer in module.named_buffers(recurse=False)
        ]
        try:
            model.eval()
            for parameter, _ in gradients:
                parameter.grad = None
                parameter.requires_grad = False
            for tensor in (*model.parameters(), *model.buffers()):
                if tensor.device != device:
                    tensor.data = tensor.data.to(device)
            guard(model)
            yield
        finally:
            for module, name, buffer in buffers:  # a compiled module has them to itself
                if getattr(module, name, None) is not buffer:
                    setattr(module, name, buffer)
            state.restore()
            for parameter, gradient in gradients:
                parameter.grad = gradient


def device_for(model: "nn.Module", device: "str | torch.device") -> "torch.device":
    """`auto` is where the model is, or, if it has no tensors, a GPU if there is one.

    Raises:
        InputError: There is no such device.
    """
    import torch

    if device == "auto":
        tensors = [*model.parameters(), *model.buffers()]
        fallback = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return tensors[0].device if tensors else fallback
    try:
        # with its number, as tensors on it have
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).partition("\n")[0]
        raise InputError(f"device={device!r}: {reason}; use 'auto', 'cpu' or 'cuda'") from error


def samples_of(what: str, images: Any, labels: Any) -> "tuple[Tensor, Tensor]":
    """Images float32 (N, *shape) in [0, 1] and labels int64 (N,), on the CPU.

    Args:
        what: They are, for messages.
        images: Tensor or array of floats, (N, C, H, W), (N, D), or (N, H, W): that of one channel.
        labels: Tensor, array or list of integers, (N,).

    Raises:
        InputError: They are something else.
    """
    import torch

    x, y = torch.as_tensor(images).detach().cpu(), torch.as_tensor(labels).detach().cpu()
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise InputError(
            f"{what}: images have shape {tuple(x.shape)}, expected (N, C, H, W), (N, H, W) or "
            "(N, D)"
        )
    if not x.dtype.is_floating_point:
        raise InputError(f"{what}: images are {x.dtype}: divide by 255, so that 1.0 is full white")
    if not torch.isfinite(x).all():
        raise InputError(f"{what}: images are not all finite")
    low, high = x.min().item(), x.max().item()
    if low < 0 or high > 1:
        raise InputError(
            f"{what}: images lie in [{low:g}, {high:g}], not in [0, 1]: normalisation belongs "
            "inside the model"
        )
    if y.shape != x.shape[:1]:
        raise InputError(f"{what}: labels have shape {tuple(y.shape)} for {len(x)} images")
    if y.dtype.is_floating_point or y.dtype.is_complex or y.dtype == torch.bool or int(y.min()) < 0:
        raise InputError(f"{what}: labels are {y.dtype}, expected classes counted from 0")
    x = x[:, None] if x.ndim == 3 else x
    # copies, so that nobody else writes to them; with gradients, wherever this is called
    with torch.inference_mode(mode=False):
        return x.float().clone(memory_format=torch.contiguous_format), y.long().clone()


def classes_of(model: "nn.Module", images: "Tensor") -> int:
    """How many logits a model gives.

    Raises:
        InputError: It cannot be called on the first two images, or gives something else.
    """
    import torch

    called = f"the model, called on {len(images[:2])} images {tuple(images[:2].shape)}"
    try:
        with torch.no_grad():
            logits = model(images[:2])
    except Exception as error:
        raise InputError(f"{called}, raised {type(error).__name__}: {error}") from error
    if not isinstance(logits, torch.Tensor):
        raise InputError(f"{called}, gave a {type(logits).__name__}, not a tensor of logits")
    if logits.ndim != 2 or len(logits) != len(images[:2]) or logits.shape[1] < 2:
        raise InputError(f"{called}, gave shape {tuple(logits.shape)}, not logits (N, classes)")
    return int(logits.shape[1])


def weights_sha256(model: "nn.Module") -> str:
    """SHA-256 of a model's tensors, as of the weights file that they would make."""
    import torch

    from robsweep.tasks.models import weights

    state = model.state_dict()
    tensors = {name: t for name, t in state.items() if isinstance(t, torch.Tensor)}
    return weights.sha256(weights.to_bytes(tensors))


def data_sha256(splits: "dict[str, tuple[Tensor, Tensor]]") -> str:
    """SHA-256 of images and labels."""
    digest = hashlib.sha256()
    for name, tensors in sorted(splits.items()):
        digest.update(name.encode())
        for tensor in tensors:
            digest.update(repr(tuple(tensor.shape)).encode())
            digest.update(tensor.numpy().data)
    return digest.hexdigest()
