"""Several processes that train one model: each takes its share of every batch.

Without torch.distributed there is one worker, and nothing here costs anything.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as group


def count() -> int:
    return group.get_world_size() if group.is_initialized() else 1


def rank() -> int:
    return group.get_rank() if group.is_initialized() else 0


def share(size: int) -> slice:
    """This worker's part of a batch; all of it where there are fewer samples than workers."""
    workers = count()
    if workers == 1 or size < workers:
        return slice(None)
    start, stop = (size * (rank() + k) // workers for k in (0, 1))
    return slice(start, stop)


def average_gradients(model: nn.Module, mine: int, size: int) -> None:
    """Makes each gradient that of the mean loss over the whole batch.

    Args:
        mine: Samples in this worker's part; size: in the whole batch.
    """
    if count() == 1:
        return
    weight = mine / size if size >= count() else 1 / count()
    parameters = [p for p in model.parameters() if p.requires_grad]
    # a loss may leave parameters out, here others than in another worker
    found = torch.tensor([float(p.grad is not None) for p in parameters])
    found = found.to(parameters[0].device)
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = torch.cat([g.reshape(-1) for g in gradients]) * weight
    group.all_reduce(found)
    group.all_reduce(flat)
    parts = torch.split(flat, [p.numel() for p in parameters])
    for parameter, part, workers in zip(parameters, parts, found.tolist(), strict=True):
        parameter.grad = part.view_as(parameter).clone() if workers else None


def average_buffers(model: nn.Module) -> None:
    """Running statistics of batches: each worker has seen other samples."""
    if count() > 1:
        for buffer in model.buffers():
            if buffer.is_floating_point():
                group.all_reduce(buffer)
                buffer.div_(count())


def summed(values: Iterable[Tensor]) -> None:
    """Adds up each tensor over all workers, in place."""
    if count() > 1:
        for value in values:
            group.all_reduce(value)


def from_first(value: Any) -> Any:
    """What the first worker has."""
    if count() == 1:
        return value
    held = [value]
    group.broadcast_object_list(held)
    return held[0]
