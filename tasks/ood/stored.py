"""Rows of `predictions` and `features` as tensors, and back."""

from functools import lru_cache

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load as read_tensors
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.ood.fits import Fitted
from robsweep.tasks.ood.scoring import Stored, logits_for


def stored_of(rows: pa.Table, head: str = "none") -> Stored:
    """The rows, in their order.

    Args:
        rows: Of `predictions` or `features`, at least one.
        head: What a scorer takes of the last layer, which decides the logits of an ensemble.
    """
    logits = matrix(rows["logits"])
    names = {*rows.column_names}
    if "features" not in names:
        confidence = torch.from_numpy(rows["confidence"].to_numpy().copy())
        return Stored(logits, confidence)
    count = rows["members"][0].as_py()
    members = None
    if count is not None:
        members = matrix(rows["member_logits"]).reshape(len(logits), count, -1)
    features = None if rows["features"].null_count else matrix(rows["features"])
    return Stored(logits_for(logits, members, head), None, features, members)


@lru_cache(maxsize=2)
def fitted(content: bytes | None) -> Fitted | None:
    """Tensors of a fit, as stored."""
    return None if content is None else read_tensors(content)


def matrix(column: pa.ChunkedArray) -> Tensor:
    """A column of lists of one length as (N, length), float32."""
    flat = pa.concat_arrays([chunk.flatten() for chunk in column.chunks])
    values = np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32)
    return torch.from_numpy(values.reshape(len(column), -1).copy())


def part(rows: pa.Table | None, start: int, stop: int, what: str) -> pa.Table:
    """The rows of the samples `[start, stop)`, each once, in their order.

    Raises:
        InputError: Some are not there.
    """
    have = 0 if rows is None else rows.num_rows
    if rows is None or rows["sample"].to_pylist() != [*range(start, stop)]:
        raise InputError(f"{what} needs the rows of samples {start}:{stop}, {have} are there")
    return rows
