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

    Inside, gradients of images can be taken, wherever this is called. No copy, since not every
    model can be copied: modes, gradients, buffers and where its tensors lie are put back instead,
    whatever has happened in between.
    """
    import torch

    modes = [(module, module.training) for module in model.modules()]
    parameters = [(p, p.data, p.requires_grad, p.grad) for p in model.parameters()]
    buffers = [
        (module, name, buffer, buffer.detach().clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    try:
        model.eval()
        with torch.no_grad():
            for parameter, data, _, _ in parameters:
                parameter.grad = None
                parameter.requires_grad = False
                if data.device != device:
                    parameter.data = data.to(device)
            for module, name, buffer, _ in buffers:
                setattr(module, name, buffer.to(device))
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        with torch.no_grad():
            for parameter, data, requires_grad, grad in parameters:
                parameter.data = data
                parameter.requires_grad = requires_grad
                parameter.grad = grad
            for module, name, buffer, content in buffers:
                setattr(module, name, buffer)
                buffer.copy_(content)
        for module, training in modes:
            module.training = training


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
