"""A sweep of all questions about the same samples: their answers agree with each other."""

from pathlib import Path

import pytest

from robsweep.orchestrator.results.results import Results
from tests.stores import all_rows

pytest.importorskip("ortools")
pytestmark = pytest.mark.slow  # several solvers in child processes for each sample

RADII = [0.01, 0.02, 0.04, 0.08, 0.16]
SWEEP = f"""\
name: small
dataset: digits
samples: 6
models:
  mlp: {{hidden: [8]}}
trainings:
  standard: {{epochs: 20, batch_size: 32, lr: 0.005}}
attacks:
  deepfool: {{attack: LinfDeepFool, steps: 20, group_size: 10}}
verification:
  near: {{verifier: milp, question: closest, time_limit_seconds: 60, group_size: 6}}
  worst: {{verifier: milp, question: worst, eps: 0.04, time_limit_seconds: 60, group_size: 6}}
  curve: {{verifier: milp, curve: {RADII}, time_limit_seconds: 60, group_size: 6}}
"""


def test_distances_margins_and_verdicts_of_the_same_samples_agree(robsweep):
    Path("sweep.yaml").write_text(SWEEP)
    code, _, err = robsweep("run", "sweep.yaml")
    assert code == 0, err
    rows = all_rows("results", "verification").to_pylist()
    near, margins, verdicts = {}, {}, {}
    for row in rows:
        if row["property"] == "untargeted closest" and row["exact"]:
            near[row["sample"]] = row
        elif row["property"] == "untargeted worst" and row["exact"]:
            margins[row["sample"]] = row
        elif row["property"] == "untargeted" and row["verdict"] != "unknown":
            verdicts[row["sample"], row["eps"]] = row
    assert near.keys() == margins.keys() == {*range(6)}
    assert any(row["verdict"] == "falsified" for row in near.values())
    for (sample, eps), row in verdicts.items():
        if row["verdict"] == "verified":
            assert near[sample]["distance_upper"] > eps
        else:
            assert near[sample]["distance_lower"] < eps
    for sample, row in margins.items():
        if row["verdict"] == "verified":
            assert near[sample]["distance_upper"] > 0.04
        elif row["verdict"] == "falsified":
            assert near[sample]["distance_lower"] < 0.04
    results = Results.open("results")
    table = results.table("small", "optimality")
    assert table["ratio_n"].to_list() == table["exact_n"].to_list()
    assert (table["ratio"] >= 1).all()
    shown = results.table("small", "verification")
    assert shown["carried"].sum() > 0
    assert shown["mean_min_distance_upper"].drop_nulls().len() == 1
    assert results.alarms("small").is_empty()
    code, out, _ = robsweep("show", "small", "--table", "optimality", "--format", "csv")
    assert code == 0
    assert "deepfool" in out
    code, _, _ = robsweep("check")
    assert code == 0


def test_the_same_command_again_solves_nothing(robsweep):
    Path("sweep.yaml").write_text(SWEEP)
    assert robsweep("run", "sweep.yaml", "--only", "solve")[0] == 0
    before = all_rows("results", "verification").num_rows
    assert robsweep("run", "sweep.yaml", "--only", "solve")[0] == 0
    assert all_rows("results", "verification").num_rows == before
