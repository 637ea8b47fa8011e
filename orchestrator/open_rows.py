"""Which samples verification has left open: decided by no row of any measurement."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from orchestrator.plan import Plan

PROOFS = frozenset({"verified", "falsified", "misclassified"})

# A verdict is about a model and a property, whichever measurement found it, at whichever eps.
Question = tuple[str, str, str, str, str]


def carries(verdict: str, eps: float, to: float) -> bool:
    """Whether a verdict at one eps decides the same sample at another."""
    if verdict == "verified":
        return eps > to
    return verdict == "misclassified" or (verdict == "falsified" and eps < to)


class OpenRows:
    """Folds rows of the verification table into the samples that still need a solver.

    Balls are nested: a proof at a larger eps and a counterexample at a smaller one decide too.
    A timeout, unknown or error of a solver closes a sample if its time limit was at least the one
    that is asked for now, unless its verdict is among those to retry.
    """

    def __init__(self, plan: Plan, retry: frozenset[str] = frozenset()) -> None:
        self._asked: dict[Question, list[tuple[str, float, float]]] = {}
        self._wanted = {}
        self._retry = retry
        self.open: dict[str, dict[int, float]] = {}
        self._closed: dict[str, set[int]] = {}
        for key, planned in plan.measurements.items():
            m = planned.measurement
            if m.kind == "solve":
                limit = planned.setting.time_limit_seconds or float("inf")
                p = m.params
                place = (m.model.model_id, m.dataset, m.split, p["property"], p["norm"])
                self._asked.setdefault(place, []).append((key, p["eps"], limit))
                self._wanted[key] = planned.wanted
                self.open[key] = {}
                self._closed[key] = set()

    def add(self, rows: pa.Table, *, past: bool) -> None:
        """Takes in rows; `past` rows are those that a retry may reopen."""
        for row in rows.to_pylist():
            place = (
                row["model_id"],
                row["dataset"],
                row["split"],
                row["property"],
                row["norm"],
            )
            for key, eps, limit in self._asked.get(place, ()):
                if row["eps"] == eps:
                    self._fold(key, limit, row, past=past)
                elif carries(row["verdict"], row["eps"], eps):
                    self._closed[key].add(row["sample"])
                    self.open[key].pop(row["sample"], None)

    def _fold(self, key: str, limit: float, row: Mapping[str, Any], *, past: bool) -> None:
        sample, verdict = row["sample"], row["verdict"]
        if not any(start <= sample < stop for start, stop in self._wanted[key]):
            return
        closed = self._closed[key]
        attempted = row["time_limit_seconds"] is not None and row["time_limit_seconds"] >= limit
        if verdict in PROOFS or (attempted and not (past and verdict in self._retry)):
            closed.add(sample)
        if sample in closed:
            self.open[key].pop(sample, None)
        else:
            known = self.open[key].get(sample, 0.0)
            self.open[key][sample] = max(known, row["expected_seconds"] or 0.0)
