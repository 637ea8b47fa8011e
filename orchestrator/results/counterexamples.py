"""The counterexamples that a store keeps, `artifacts/counterexamples/<job>.safetensors`."""

import numpy as np
import polars as pl

from robsweep.orchestrator.store.store import Store
from robsweep.tasks.recheck.claims import Claim, Question

_Place = tuple[str, str, str, int]  # model, data set, split, sample


class Kept:
    """The counterexamples of a store, by measurement and by sample."""

    def __init__(self, store: Store, verification: pl.LazyFrame) -> None:
        keys = verification.select("measurement_id", "model_id", "dataset", "split").unique()
        about = {row["measurement_id"]: row for row in keys.collect().to_dicts()}
        self._own: dict[tuple[str, int], list[np.ndarray]] = {}
        self._all: dict[_Place, list[tuple[str, np.ndarray]]] = {}
        for path in sorted(store.files.list("artifacts/counterexamples")):
            measurement_id = path.rsplit("/", 1)[1].rsplit("-", 2)[0]
            if measurement_id not in about:
                continue
            row = about[measurement_id]
            for sample, image in _images(store, path).items():
                self._own.setdefault((measurement_id, sample), []).append(image)
                place = (row["model_id"], row["dataset"], row["split"], sample)
                self._all.setdefault(place, []).append((measurement_id, image))

    def question(self, claim: Claim) -> Question:
        """A claim with all that is kept for or against it."""
        place = (claim.model_id, claim.dataset, claim.split, claim.sample)
        own = self._own.get((claim.measurement_id, claim.sample), [])
        others = [
            image for origin, image in self._all.get(place, []) if origin != claim.measurement_id
        ]
        return Question(claim, tuple(own), tuple(others))


def _images(store: Store, path: str) -> dict[int, np.ndarray]:
    """The images of one file by sample; none where it is damaged, so that they are missed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return {int(name): image for name, image in load(store.files.read(path)).items()}
    except (SafetensorError, ValueError):
        return {}
