"""Rows of the verification table, one sample each."""

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


def as_table(job: Job, weights_sha256: str, rows: Sequence[Row]) -> pa.Table:
    """The rows of the samples `[job.start, job.stop)`, in order."""
    params = job.measurement.params
    columns: dict[str, Any] = dict(
        zip(Row._fields, map(list, zip(*rows, strict=True)), strict=True)
    )
    columns |= {
        "property": params["property"],
        "norm": params["norm"],
        "eps": params["eps"],  # null for a box
        "time_limit_seconds": job.setting.time_limit_seconds,
    }
    samples = range(job.start, job.stop)
    return table("verification", job.keys(weights_sha256), samples, columns)
