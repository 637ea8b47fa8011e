"""Which models have seen the outliers that they are measured on."""

import polars as pl

from robsweep.orchestrator.plan.table import to_table
from robsweep.orchestrator.results.metrics.planned import models
from tests.sweeps import plan_of

SWEEP = """
name: exposed
dataset: mnist
models:
  one: {arch: mlp}
  two: {arch: mlp, hidden: [8]}
  both: {members: [one, two]}
trainings:
  standard: {epochs: 1}
  exposed: {training: outlier_exposure, outliers: fashion_mnist, epochs: 1}
  later: {start: exposed, training: pgd, eps: 0.1, epochs: 1, only: [one]}
"""


def test_members_and_what_a_training_started_from_count_too():
    planned = models(pl.DataFrame(to_table(plan_of(SWEEP))))
    found = {f"{m.model}/{m.training}": m.outliers for m in planned}
    seen = {"fashion_mnist"}
    assert found == {
        "one/standard": set(), "two/standard": set(), "both/standard": set(),
        "one/exposed": seen, "two/exposed": seen, "both/exposed": seen, "one/later": seen,
    }  # fmt: skip
