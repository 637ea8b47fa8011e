"""Which samples verification has left open, and how long each is expected to take."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from robsweep.orchestrator.plan.plan import Plan
from robsweep.orchestrator.ranges import Ranges
from robsweep.orchestrator.spec.fields import Rerun

PROOFS = frozenset({"verified", "falsified", "misclassified"})

# A verdict is about a model and a property, whichever measurement found it, at whichever eps.
Question = tuple[str, str, str, str, str]


def carries(verdict: str, eps: float | None, to: float | None) -> bool:
    """Whether a verdict at one eps decides the same sample at another; a box has none."""
    if eps is None or to is None:
        return False
    if verdict == "verified":
        return eps > to
    return verdict == "misclassified" or (verdict == "falsified" and eps < to)


def closes(
    rerun: Rerun,
    row: Mapping[str, Any],
    limit: float,
    *,
    past: bool,
    retry: frozenset[str] = frozenset(),
) -> bool:
    """Whether after this row its sample needs no solver.

    What a screen decides is decided. After a solve, whatever the verdicts to `retry`:

    | rerun | is solved again |
    |---|---|
    | `never` | nothing |
    | `ambiguous` | what is not proved, if the time limit was shorter than the one asked for now |
    | `refine` | what is not proved, whatever its time limit was, once per run |
    | `always` | everything, once per run |

    Args:
        row: Of the verification table, about the very question.
        limit: Seconds that are asked for now.
        past: Whether the row was there before this run.
        retry: Verdicts of past solves that are asked for again.
    """
    verdict, tried = row["verdict"], row["time_limit_seconds"]
    # a question for a number is not answered by a proof that leaves its two sides apart
    proof = verdict in PROOFS and row.get("exact") is not False
    if not row["measurement_id"].startswith("solve-"):
        return proof
    if past and verdict in retry:
        return False
    if rerun == "always":
        return not past
    if proof or rerun == "never":
        return True
    if rerun == "refine":
        return not past
    return tried is not None and bool(tried >= limit)


class Times(NamedTuple):
    """What is known of the seconds that a sample takes a solver."""

    guess: float = 0.0  # by the screen
    took: float | None = None  # the longest past solve that ended by itself
    at_least: float = 0.0  # the longest time limit that it has run into

    def after(self, row: Mapping[str, Any]) -> "Times":
        guess = max(self.guess, row["expected_seconds"] or 0.0)
        if not row["measurement_id"].startswith("solve-"):
            return self._replace(guess=guess)
        if row["verdict"] == "timeout":
            late = max(self.at_least, row["time_limit_seconds"] or 0.0)
            return self._replace(guess=guess, at_least=late)
        if row["seconds"] is None:
            return self._replace(guess=guess)
        return self._replace(guess=guess, took=max(self.took or 0.0, row["seconds"]))

    @property
    def expected(self) -> float:
        return max(self.at_least, self.guess if self.took is None else self.took)


@dataclass(frozen=True)
class _Asked:
    """One solve measurement of the plan."""

    key: str
    eps: tuple[float | None, ...]  # of a curve several; a sample is open while one of them is
    limit: float
    rerun: Rerun
    wanted: Ranges


class OpenRows:
    """Folds rows of the verification table into the samples that still need a solver.

    Balls are nested: a proof at a larger eps and a counterexample at a smaller one decide too,
    unless everything is to be solved again. A retry asks for what it names and for what is
    missing, whatever the policy of the sweep file.
    """

    def __init__(self, plan: Plan, retry: frozenset[str] = frozenset()) -> None:
        self._asked: dict[Question, list[_Asked]] = {}
        self._retry = retry
        self.open: dict[str, dict[int, float]] = {}  # solve -> sample -> expected seconds
        self._closed: dict[str, set[tuple[int, float | None]]] = {}
        self._times: dict[str, dict[int, Times]] = {}
        for key, planned in plan.measurements.items():
            m = planned.measurement
            if m.kind == "solve":
                limit = planned.setting.time_limit_seconds or float("inf")
                eager = planned.rerun in {"refine", "always"}
                rerun = "ambiguous" if retry and eager else planned.rerun
                p = m.params
                place = (m.model.model_id, m.dataset, m.split, p["property"], p["norm"])
                eps = tuple(p["eps"]) if isinstance(p["eps"], list | tuple) else (p["eps"],)
                asked = _Asked(key, eps, limit, rerun, planned.wanted)
                self._asked.setdefault(place, []).append(asked)
                self.open[key] = {}
                self._closed[key] = set()
                self._times[key] = {}

    def add(self, rows: pa.Table, *, past: bool) -> None:
        """Takes in rows; `past` rows are those from before this run."""
        for row in rows.to_pylist():
            if row["measurement_id"].startswith("cross_check-"):
                continue  # it is to find the other engine's own verdict there
            # a number at one radius is none at another
            number = row.get("exact") is not None and row["verdict"] != "misclassified"
            place = (
                row["model_id"],
                row["dataset"],
                row["split"],
                row["property"],
                row["norm"],
            )
            for asked in self._asked.get(place, ()):
                carried = [
                    eps
                    for eps in asked.eps
                    if asked.rerun != "always"
                    and not number
                    and carries(row["verdict"], row["eps"], eps)
                ]
                self._closed[asked.key].update((row["sample"], eps) for eps in carried)
                if row["eps"] in asked.eps:
                    self._fold(asked, row, past=past)
                elif carried and self._is_closed(asked, row["sample"]):
                    self.open[asked.key].pop(row["sample"], None)

    def _fold(self, asked: _Asked, row: Mapping[str, Any], *, past: bool) -> None:
        sample, key = row["sample"], asked.key
        if not any(start <= sample < stop for start, stop in asked.wanted):
            return
        times = self._times[key].get(sample, Times()).after(row)
        self._times[key][sample] = times
        if closes(asked.rerun, row, asked.limit, past=past, retry=self._retry):
            self._closed[key].add((sample, row["eps"]))
        if self._is_closed(asked, sample):
            self.open[key].pop(sample, None)
        else:
            self.open[key][sample] = times.expected

    def _is_closed(self, asked: _Asked, sample: int) -> bool:
        return all((sample, eps) in self._closed[asked.key] for eps in asked.eps)
