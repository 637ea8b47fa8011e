"""Fixed groups of samples: what makes rows independent of how a measurement is cut into jobs."""

import hashlib
import random

import numpy as np
import torch


def groups(start: int, stop: int, group_size: int, total: int) -> list[range]:
    """The groups of samples in `[start, stop)`.

    Args:
        total: Number of samples in the split, where the last group ends.

    Raises:
        ValueError: A bound lies inside a group, or outside the split.
    """
    if not 0 <= start < stop <= total:
        raise ValueError(f"samples {start}:{stop} are not inside the split's 0:{total}")
    if start % group_size or (stop % group_size and stop != total):
        raise ValueError(f"samples {start}:{stop} cut a group of {group_size}")
    return [range(i, min(i + group_size, stop)) for i in range(start, stop, group_size)]


def seed_everything(seed: int, kind: str, group: int) -> None:
    """Seeds all global generators (torch, numpy, random) from (seed, kind, group)."""
    digest = hashlib.sha256(repr((seed, kind, group)).encode()).digest()
    value = int.from_bytes(digest[:8], "little")
    torch.manual_seed(value)
    np.random.seed(value % 2**32)  # foolbox draws from numpy's too
    random.seed(value)
