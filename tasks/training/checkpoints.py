"""A training's state on disk: whole or not there, so that a killed one goes on where it was."""

import io
import os
import pickle
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch

from robsweep.tasks.errors import RobsweepError


class Checkpoints:
    """Of one training. Without a path, nothing is kept.

    The file stays when the training ends: it goes when the result is safely in the store.
    """

    def __init__(self, path: Path | None = None, every_seconds: float = 60.0) -> None:
        self._path = path
        self._every_seconds = every_seconds
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        return self._path is not None and time.monotonic() - self._last >= self._every_seconds

    def save(self, state: Mapping[str, Any]) -> None:
        """Writes beside the old checkpoint, then takes its place.

        Raises:
            RobsweepError: It cannot be written, e.g. as the disk is full; the old one stays.
        """
        if self._path is None:
            return
        sink = io.BytesIO()
        torch.save({**state, "random": random_state(), "torch": str(torch.__version__)}, sink)
        part = self._path.with_name(f".{self._path.name}.{uuid4().hex}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                file.write(sink.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            part.unlink(missing_ok=True)
            kept = "the one before it stays" if self._path.exists() else "there is none before it"
            raise RobsweepError(
                f"cannot write the checkpoint {self._path} ({error.strerror}); {kept}: "
                "make room, then `robsweep retry NAME` goes on from it"
            ) from error
        self._last = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The last state, with the random generators set to it; None if there is none to read."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            state = torch.load(self._path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
            return None  # damaged: training from the start gives the same weights
        if state["torch"] != torch.__version__:
            return None  # half of it by another torch would be nobody's result
        set_random_state(state["random"])
        return dict(state)


def random_state() -> dict[str, Any]:
    """Of all global generators, as tensors and plain values."""
    legacy: Any = np.random.get_state()
    _, key, position, has_gauss, gauss = legacy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": random.getstate(),
        "numpy": [torch.from_numpy(key.astype(np.int64)), position, has_gauss, gauss],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if len(state["cuda"]) == torch.cuda.device_count() and state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    random.setstate(state["python"])
    key, *rest = state["numpy"]
    np.random.set_state(("MT19937", key.numpy().astype(np.uint32), *rest))
