"""Distances from both sides: their mean, what attacks are held against, and alarms."""

import polars as pl
import pytest

from robsweep.orchestrator.results.metrics.distances import (
    closest_known,
    mean_min_distance,
    optimality,
)
from robsweep.orchestrator.results.results import Results
from robsweep.tasks.catalogue.values import CLOSEST
from tests.demo_store import DemoSweep
from tests.orchestrator.results.test_estimates import attacked

INF = float("inf")


def closest(demo, rows, **more):
    """Rows are (sample, lower, lower over the reals, upper, exact)."""
    params = {"property": CLOSEST, "norm": "linf", "eps": None, "question": "closest"}
    key = demo.ask("screen", "verification", "near", norm="linf", params=params, **more)
    columns = {
        "property": CLOSEST, "norm": "linf", "decided_by": "milp", "seconds": 0.1,
        "verdict": ["misclassified" if row[3] == 0 else "falsified" for row in rows],
        "distance_lower": [row[1] for row in rows],
        "distance_lower_reals": [row[2] for row in rows],
        "distance_upper": [row[3] for row in rows],
        "exact": [row[4] for row in rows],
    }  # fmt: skip
    demo.add(key, "verification", [row[0] for row in rows], columns)


ROWS = [
    (0, 0.0, 0.0, 0.0, True),
    (1, 0.09, 0.1, 0.1, True),
    (2, 0.1, 0.1, 0.3, False),
    (3, 0.1999, 0.1999, 0.2, True),
]


@pytest.fixture
def results(tmp_path):
    demo = DemoSweep(tmp_path / "store")
    closest(demo, ROWS, wanted=[(0, 4)])
    closest(demo, [(2, 0.15, 0.15, 0.4, False)], wanted=[(2, 3)])  # raises one side alone
    attacked(demo, "near", [(0, None, True, 0.0), (1, None, True, 0.1), (2, None, True, 0.3),
                            (3, None, True, 0.3)], norm="linf")  # fmt: skip
    attacked(demo, "grid", [(1, 0.1, False, None), (1, 0.2, True, 0.2), (2, 0.1, False, None),
                            (2, 0.2, False, None), (3, 0.1, False, None), (3, 0.2, True, 0.2)],
             norm="linf", eps=[0.1, 0.2])  # fmt: skip
    attacked(demo, "l2", [(1, None, True, 0.01)], norm="l2")  # another norm says nothing
    return Results.open(demo.root)


def test_the_mean_counts_misclassified_samples_as_0(results):
    (row,) = results.table("demo", "verification").to_dicts()
    assert (row["property"], row["mean_min_distance_n"]) == (CLOSEST, 4)
    assert row["mean_min_distance_lower"] == pytest.approx((0 + 0.09 + 0.15 + 0.1999) / 4)
    assert row["mean_min_distance_lower_reals"] == pytest.approx((0 + 0.1 + 0.15 + 0.1999) / 4)
    assert row["mean_min_distance_upper"] == pytest.approx((0 + 0.1 + 0.3 + 0.2) / 4)
    assert row["mean_min_distance_exact"] == 3


def test_the_leaderboard_has_both_sides_beside_the_balls_of_the_norm(results):
    rows = results.table("demo", "leaderboard").filter(pl.col("norm") == "linf").to_dicts()
    assert rows
    for row in rows:
        assert row["mean_min_distance_upper"] == pytest.approx(0.15)
        assert row["mean_min_distance_status"] == "done"


def test_attacks_are_held_against_the_true_distance(results):
    near, grid = results.table("demo", "optimality").to_dicts()
    assert (near["attack"], near["gives"], near["ratio_n"], near["exact_n"]) == (
        "near", "min_norm", 3, 2,
    )  # fmt: skip
    assert near["ratio"] == pytest.approx(0.3 / 0.1999)  # of 1, 0.3 / 0.15 and this
    assert near["ratio_at_least"] == pytest.approx(1.0)  # of 1, 0.3 / 0.3 and 0.3 / 0.2
    assert near["excess"] == pytest.approx(0.1001)
    assert near["not_found"] == 0
    assert (grid["gives"], grid["not_found"], grid["ratio_n"]) == ("fixed_eps", 1, 3)
    assert grid["ratio"] == pytest.approx(2.0)  # of 2, infinity and 1


def test_a_sample_without_any_adversarial_leaves_the_upper_mean_open():
    known = closest_known(
        pl.DataFrame(
            {
                "sample": [0, 1],
                "distance_lower": [0.1, 0.2],
                "distance_lower_reals": [0.1, None],
                "distance_upper": [0.3, None],
                "exact": [False, False],
            }
        )
    )
    mean = mean_min_distance(known)
    assert mean.lower == mean.lower_reals == pytest.approx(0.15)
    assert mean.upper is None
    rows = pl.DataFrame({"sample": [1], "success": [True], "distance": [0.4]})
    found = optimality(rows, known)
    assert (found.at_most.value, found.exact) == (2.0, 0)
    assert found.at_least == 1.0  # that is all that is known
    both = pl.DataFrame({"sample": [0, 1], "success": [True, True], "distance": [0.9, 0.4]})
    assert optimality(both, known).at_least == pytest.approx(2.0)  # of 3 and 1


def test_where_nothing_is_adversarial_an_attack_that_finds_nothing_is_the_best():
    infinite = float("inf")
    columns = ("distance_lower", "distance_lower_reals", "distance_upper")
    known = closest_known(
        pl.DataFrame({"sample": [0, 1, 2], **{key: [infinite, infinite, 0.1] for key in columns},
                      "exact": [True] * 3})
    )  # fmt: skip
    rows = pl.DataFrame(
        {"sample": [0, 1, 2], "success": [False, False, True], "distance": [None, None, 0.3]}
    )
    found = optimality(rows, known)
    assert (found.at_least, found.at_most.value, found.excess) == (1.0, 1.0, 0.0)


def test_an_attack_nearer_than_proved_is_an_alarm(tmp_path):
    demo = DemoSweep(tmp_path / "store")
    closest(demo, ROWS)
    attacked(demo, "wrong", [(1, None, True, 0.095), (2, None, True, 0.09)], norm="linf")
    alarms = Results.open(demo.root).alarms("demo")
    assert alarms["sample"].to_list() == [2]  # the other is above what is proved in float32
    assert alarms["verified_eps"].to_list() == [0.1]


def test_a_proof_of_a_ball_and_a_nearer_adversarial_are_an_alarm(tmp_path):
    demo = DemoSweep(tmp_path / "store")
    closest(demo, ROWS)
    params = {"property": "untargeted", "norm": "linf", "eps": 0.25}
    key = demo.ask("screen", "verification", "ball", norm="linf", eps=[0.25], params=params)
    columns = {"property": "untargeted", "norm": "linf", "eps": 0.25, "verdict": "verified",
               "decided_by": "crown", "seconds": 0.1}  # fmt: skip
    demo.add(key, "verification", [2, 3], columns)
    assert Results.open(demo.root).alarms("demo")["sample"].to_list() == [3]
