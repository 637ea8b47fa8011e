"""The adversarials that a store keeps, as the images of a job."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from robsweep.orchestrator.errors import StoreError
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.catalogue.words import Adversarials

_FOLDER = "artifacts/adversarials"


class Kept:
    """Reads adversarials; the last files are kept, as several jobs share them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._files: dict[str, list[tuple[int, str]]] = {}  # measurement -> first sample, path
        self._read = lru_cache(maxsize=4)(self._tensors)

    def images(self, made: Adversarials, start: int, stop: int, size: int) -> bytes:
        """Adversarials of samples `start:stop`, as `tasks.data.load.kept` takes them.

        Args:
            size: Samples in the split that was attacked.

        Raises:
            StoreError: Some are not there, or their file is damaged.
        """
        from safetensors.numpy import save

        found: dict[int, np.ndarray] = {}
        for first, path in self._paths(made.attack):
            if first >= stop:
                continue
            images = self._read(path).get(made.eps, np.zeros((0,), np.float32))
            for sample in range(max(start, first), min(stop, first + len(images))):
                found[sample] = images[sample - first]
        if missing := [sample for sample in range(start, stop) if sample not in found]:
            raise StoreError(
                f"{self._store.root} has not kept the adversarials of {made.attack} at "
                f"{made.eps}, sample {missing[0]}: was it run with `keep_adversarials: false`?"
            )
        images = np.stack([found[sample] for sample in range(start, stop)])
        tensors = {"images": images, "first": np.array(start), "size": np.array(size)}
        content: bytes = save(tensors)
        return content

    def _paths(self, measurement_id: str) -> list[tuple[int, str]]:
        """Of an attack that is complete: no more files of it come."""
        if measurement_id not in self._files:
            named = (
                (path, *path.rsplit("/", 1)[1].rsplit("-", 2))
                for path in self._store.files.list(_FOLDER)
            )
            self._files[measurement_id] = sorted(
                (int(first), path) for path, key, first, _ in named if key == measurement_id
            )
        return self._files[measurement_id]

    def _tensors(self, path: str) -> Mapping[str, np.ndarray]:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors: Mapping[str, np.ndarray] = load(self._store.files.read(path))
        except (SafetensorError, ValueError) as error:
            raise StoreError(f"{self._store.root / path} is damaged: {error}") from error
        return tensors
