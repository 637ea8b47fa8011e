"""What a sample of a measurement is expected to take, from past jobs in the store."""

from collections.abc import Iterable, Mapping
from typing import Any

from robsweep.orchestrator.plan.plan import Planned

# Before any job of a kind has run: seconds a sample, one CPU, small nets.
PRIOR_SECONDS = {
    "preflight": 1.0,
    "train": 30.0,
    "ensemble": 0.1,
    "predict": 0.0005,
    "attack": 0.02,
    "features": 0.001,
    "fit": 5.0,
    "score": 0.0005,
    "calibrate": 0.1,
    "screen": 0.05,
    "solve": 5.0,
    "cross_check": 5.0,
    "sensitivity": 0.005,
    "landscape": 60.0,
}


class Costs:
    """Mean seconds a sample by measurement, by kind and entry, and by kind, in this order."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, ...], tuple[float, int]] = {}

    @classmethod
    def of(cls, jobs: Iterable[Mapping[str, Any]]) -> "Costs":
        """From rows of the jobs table."""
        costs = cls()
        for job in jobs:
            if job["status"] == "done":
                costs.add(
                    job["measurement_id"],
                    job["kind"],
                    job["name"],
                    job["seconds"],
                    job["stop"] - job["start"],
                )
        return costs

    def add(self, measurement_id: str, kind: str, name: str, seconds: float, samples: int) -> None:
        for key in ((measurement_id,), (kind, name), (kind,)):
            total, count = self._sums.get(key, (0.0, 0))
            self._sums[key] = (total + seconds, count + samples)

    def expected(self, planned: Planned) -> float:
        """Seconds a sample."""
        m = planned.measurement
        for key in ((m.measurement_id,), (m.kind, m.name), (m.kind,)):
            total, count = self._sums.get(key, (0.0, 0))
            if count:
                return total / count
        return PRIOR_SECONDS[m.kind]
