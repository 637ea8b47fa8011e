"""Fixed groups of samples: what makes rows independent of how a measurement is cut into jobs."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def seeded(seed: int, kind: str, group: int) -> Iterator[None]:
    """Inside, all global generators are as `seed_everything` leaves them; then as they were."""
    gpus = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    of_numpy, of_python = np.random.get_state(), random.getstate()
    with torch.random.fork_rng(devices=list(gpus)):
        seed_everything(seed, kind, group)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
