"""Rows of the verification table, one sample each."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from tasks.errors import InputError
from tasks.job import Job
from tasks.rows import table

# A margin below it may have another sign in float32 than in float64, and solvers accept points that
# violate a constraint by as much. So `verified` means that the smallest margin is above it.
BOUNDARY = 1e-6

Verdict = Literal["verified", "falsified", "misclassified", "unknown", "timeout", "error"]


class Row(NamedTuple):
    """What one stage found out about one sample; bounds are on the smallest margin in the ball."""

    verdict: Verdict
    decided_by: str | None = None
    lower_bound: float | None = None
    upper_bound: float | None = None
    boundary: bool = False
    unstable_relus: int | None = None
    counterexample_check: str | None = None
    expected_seconds: float | None = None
    seconds: float | None = None
    solver: str | None = None
    solver_status: str | None = None
    nodes: int | None = None


def eps_of(params: Mapping[str, Any]) -> float:
    """The radius of the property to verify.

    Raises:
        InputError: A property or norm that these functions do not verify.
    """
    if params["property"] != "untargeted" or params["norm"] != "linf":
        raise InputError(
            f"verifier {params['verifier']!r} verifies property 'untargeted' in norm 'linf', "
            f"not {params['property']!r} in {params['norm']!r}"
        )
    return float(params["eps"])


def as_table(job: Job, weights_sha256: str, rows: Sequence[Row]) -> pa.Table:
    """The rows of the samples `[job.start, job.stop)`, in order."""
    params = job.measurement.params
    columns: dict[str, Any] = dict(
        zip(Row._fields, map(list, zip(*rows, strict=True)), strict=True)
    )
    columns |= {
        "property": params["property"],
        "norm": params["norm"],
        "eps": float(params["eps"]),
        "time_limit_seconds": job.setting.time_limit_seconds,
    }
    samples = range(job.start, job.stop)
    return table("verification", job.keys(weights_sha256), samples, columns)
