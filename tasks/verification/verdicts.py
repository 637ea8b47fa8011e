"""Rows of the verification table, one sample each."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from robsweep.tasks.job import Job
from robsweep.tasks.rows import table
from robsweep.tasks.verification.reading.properties import Verdict


class Row(NamedTuple):
    """What one stage found out about one sample; bounds are on the smallest margin in the ball."""

    verdict: Verdict
    decided_by: str | None = None
    lower_bound: float | None = None
    upper_bound: float | None = None
    distance_lower: float | None = None
    boundary: bool = False
    unstable_relus: int | None = None
    counterexample_check: str | None = None
    expected_seconds: float | None = None
    seconds: float | None = None
    solver: str | None = None
    solver_status: str | None = None
    nodes: int | None = None  # of the solver's own search
    attack_steps: int | None = None  # gradient steps, all restarts together
    alpha_bounds: int | None = None  # bounds whose slopes were optimised
    branches: int | None = None  # subproblems of branch and bound
    arithmetic: str | None = None  # what is proved is about: float32 or reals
    rounding_error: float | None = None  # taken off the lower bound; infinite: it may overflow
    boxes: int | None = None  # parts that the region was split into
    lp_calls: int | None = None  # linear programs solved for bounds
    interval_unstable_relus: int | None = None  # undecided before these
    distance_upper: float | None = None
    distance_lower_reals: float | None = None
    exact: bool | None = None  # of a question for a number: whether its two sides meet
    carried_from_eps: float | None = None  # the eps whose verdict decides this one too
    certificate: str | None = None  # SHA-256
    certificate_bytes: int | None = None
    certificate_seconds: float | None = None
    certificate_missing: str | None = None  # why there is none

    def proved(self, stage: str) -> "Row":
        """As the network runs."""
        return self._replace(verdict="verified", decided_by=stage, arithmetic="float32")

    def with_bounds_of(self, other: "Row") -> "Row":
        """With what another stage has found out about the margin."""
        return self._replace(
            lower_bound=other.lower_bound,
            unstable_relus=other.unstable_relus,
            alpha_bounds=other.alpha_bounds,
            rounding_error=other.rounding_error,
            boundary=self.boundary or other.boundary,
            arithmetic=self.arithmetic or other.arithmetic,
        )

    def proved_over_reals(self) -> "Row":
        """Still open, as rounding could decide."""
        return self._replace(
            arithmetic="reals",
            boundary=True,
            solver_status=OVER_REALS if self.verdict == "unknown" else self.solver_status,
        )


OVER_REALS = "proved over the reals only: rounding in float32 could decide"
DISAGREE = "float32 and float64 disagree at a point of the search"


def rounding_error(lower: float, reals: float) -> float | None:
    """What was taken off a lower bound over the reals."""
    if math.isinf(lower):
        return math.inf if lower < 0 else None
    return reals - lower


def as_table(job: Job, weights_sha256: str, rows: Sequence[Row]) -> pa.Table:
    """The rows of the samples `[job.start, job.stop)`, in order; of each as many as there are eps.

    A curve asks about a list of eps: the rows of one sample follow each other.
    """
    params = job.measurement.params
    columns: dict[str, Any] = dict(
        zip(Row._fields, map(list, zip(*rows, strict=True)), strict=True)
    )
    listed = isinstance(params["eps"], list | tuple)
    eps = params["eps"] if listed else [params["eps"]]  # null for a box
    columns |= {
        "property": params["property"],
        "norm": params["norm"],
        "eps": [*eps] * (job.stop - job.start),
        "time_limit_seconds": job.setting.time_limit_seconds,
    }
    samples = [sample for sample in range(job.start, job.stop) for _ in eps]
    return table("verification", job.keys(weights_sha256), samples, columns)
