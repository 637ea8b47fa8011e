"""Estimates of a distance: what may be asked, and that nothing takes them for proofs."""

import pytest

from robsweep.orchestrator.errors import InputError, SpecError
from robsweep.orchestrator.results.report import render
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.run.recheck import prepare
from robsweep.tasks.catalogue.values import DISTANCE
from robsweep.tasks.recheck.claims import Budget
from tests.demo_store import DemoSweep
from tests.sweeps import SMALL, plan_of

ASKED = SMALL[: SMALL.index("verification:")] + "verification:\n  bound: {verifier: abs_bound%s}\n"


def estimated(demo, distances, **more):
    """Plans and gives estimates; 0 stands for a misclassified sample."""
    params = {"property": DISTANCE, "norm": "l2", "eps": None}
    key = demo.ask("screen", "verification", "bound", norm="l2", params=params, **more)
    columns = {
        "property": DISTANCE,
        "norm": "l2",
        "verdict": ["unknown" if d else "misclassified" for d in distances],
        "decided_by": "estimate",
        "distance_lower": distances,
        "seconds": 0.1,
    }
    demo.add(key, "verification", range(len(distances)), columns)


def attacked(demo, entry, rows, norm="l2", eps=None):
    """Rows are (sample, eps, success, distance)."""
    key = demo.ask("attack", "attacks", entry, norm=norm, eps=eps)
    columns = {
        "attack": entry, "norm": norm, "check": "ok", "n_forward": 1, "seconds": 0.1,
        "eps": [row[1] for row in rows],
        "success": [row[2] for row in rows],
        "distance": [row[3] for row in rows],
    }  # fmt: skip
    demo.add(key, "attacks", [row[0] for row in rows], columns)


@pytest.fixture
def results(tmp_path):
    """Five samples, of which an attack has come nearer to samples 1 and 3 than estimated."""
    demo = DemoSweep(tmp_path / "store")
    estimated(demo, [0.0, 0.5, 0.7, 0.9, 2.0])
    estimated(demo, [0.0, 0.6, 0.8], wanted=[(0, 3)])  # the smaller one counts
    attacked(demo, "min", [(0, None, True, 0.0), (1, None, True, 0.4), (2, None, True, 0.71),
                           (3, None, False, None)])  # fmt: skip
    attacked(demo, "fixed", [(2, 0.7, False, None), (2, 0.9, True, 0.75), (3, 0.7, False, None),
                             (3, 0.9, True, 0.85)], eps=[0.7, 0.9])  # fmt: skip
    attacked(demo, "linf", [(4, 0.1, True, 0.1), (2, 0.1, True, 0.1)], norm="linf", eps=[0.1])
    return Results.open(demo.root)


def test_violations_are_counted_against_every_attack_of_the_norm(results):
    (row,) = results.table("demo", "verification").to_dicts()
    assert (row["property"], row["norm"], row["eps"]) == (DISTANCE, "l2", None)
    assert (row["estimate_median"], row["estimate_median_n"]) == (0.7, 5)
    assert (row["estimate_violations"], row["estimate_violations_n"]) == (2, 4)
    assert (row["misclassified"], row["unknown"], row["verified"]) == (1, 4, None)
    shown = render(results.table("demo", "verification"), "text")
    assert "estimate_violations" in shown
    assert "2 n=4" in shown


def test_an_estimate_is_no_proof(results):
    (row,) = results.table("demo", "verification").to_dicts()
    assert row["verified_accuracy"] is None
    assert row["verified_accuracy_n"] is None
    assert row["bracket_low"] is row["bracket_high"] is row["bracket_n"] is None
    assert results.alarms("demo").is_empty()
    board = results.leaderboard("demo")
    assert set(board.filter(norm="l2")["eps"]) == {0.7, 0.9}
    assert (
        board["verified_accuracy"].null_count() == board["bracket_low"].null_count() == len(board)
    )
    with pytest.raises(InputError, match="nothing to recheck"):
        prepare(results, "demo", Budget())


def test_without_rows_there_is_no_median(tmp_path):
    demo = DemoSweep(tmp_path / "store")
    demo.ask("screen", "verification", "bound", norm="l2", params={"property": DISTANCE})
    (row,) = Results.open(demo.root).table("demo", "verification").to_dicts()
    assert row["estimate_median"] is None
    assert (row["estimate_median_n"], row["estimate_violations_n"]) == (0, 0)


def test_a_sweep_plans_a_screen_and_no_solve():
    planned = plan_of(ASKED % "")
    kinds = [p.measurement.kind for p in planned.measurements.values()]
    assert kinds.count("screen") == 2  # one per seed
    assert "solve" not in kinds
    screen = next(p for p in planned.measurements.values() if p.measurement.kind == "screen")
    params = screen.measurement.params
    assert (params["property"], params["norm"], params["eps"]) == (DISTANCE, "l2", None)
    assert params["parameters"] == {"steps": 50}
    first = planned.preflights[0].measurement.params
    assert (first["engines"], first["estimates"]) == ([], ["abs_bound"])


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ("eps: 0.1", "asked about no ball: leave out `eps:`"),
        ("margin: 0.1", "leave out `margin:`"),
        ("targets: [3]", "leave out `targets:`"),
        ("box: box.npz", "leave out `box:`"),
        ("time_limit_seconds: 5", "leave out `time_limit_seconds:`"),
        ("norm: linf", "abs_bound verifies l2, not linf"),
        ("solver: scip", "unknown key 'solver'"),
        ("steps: 0", "at least 1"),
    ],
)
def test_what_it_is_not_asked(more, why):
    with pytest.raises(SpecError, match=why) as caught:
        plan_of(ASKED % f", {more}")
    assert "sweep.yaml:" in str(caught.value)
