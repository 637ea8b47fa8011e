import itertools

import polars as pl
import pytest

from robsweep.orchestrator.results.metrics.verification import (
    RANK,
    bracket,
    contradictions,
    final_verdicts,
    over_reals,
)

SCHEMA = {
    "measurement_id": pl.String,
    "model_id": pl.String,
    "dataset": pl.String,
    "split": pl.String,
    "property": pl.String,
    "norm": pl.String,
    "sample": pl.Int64,
    "eps": pl.Float64,
    "verdict": pl.String,
    "decided_by": pl.String,
    "lower_bound": pl.Float64,
    "distance_upper": pl.Float64,
}
BROKEN = {
    "model_id": pl.String,
    "dataset": pl.String,
    "split": pl.String,
    "norm": pl.String,
    "sample": pl.Int64,
    "radius": pl.Float64,
    "by": pl.String,
}


def frame(*rows):
    """Rows are (sample, eps, verdict)."""
    place = ("screen-1", "m", "d", "test", "untargeted", "linf")
    full = [(*place, s, e, v, "it", None, None) for s, e, v in rows]
    rows_ = pl.DataFrame(full, schema=SCHEMA, orient="row")
    there = {"exact": pl.Boolean, "distance_lower": pl.Float64, "distance_lower_reals": pl.Float64}
    return rows_.with_columns(
        pl.lit(None, kind).alias(name) for name, kind in there.items() if name not in SCHEMA
    )


def broken(*rows):
    full = [("m", "d", "test", norm, s, r, "pgd") for s, r, norm in rows]
    return pl.DataFrame(full, schema=BROKEN, orient="row")


def test_what_is_proved_over_the_reals_only_is_counted_apart():
    verdicts = ["verified", "unknown", "timeout", "unknown", "falsified", "verified"]
    rows = frame(*((i, 0.1, verdict) for i, verdict in enumerate(verdicts)))
    arithmetic = pl.Series(["float32", "reals", "reals", None, None, None], dtype=pl.String)
    assert over_reals(final_verdicts(rows.with_columns(arithmetic=arithmetic))) == 2


@pytest.mark.parametrize("pair", itertools.permutations(RANK, 2))
def test_final_verdict_takes_the_better_of_two(pair):
    final = final_verdicts(frame((0, 0.1, pair[0]), (0, 0.1, pair[1])))
    assert final["verdict"].to_list() == [min(pair, key=list(RANK).index)]


def test_final_verdicts_keep_balls_and_samples_apart():
    final = final_verdicts(
        frame((0, 0.1, "unknown"), (0, 0.2, "falsified"), (1, 0.1, "verified"), (0, 0.1, "timeout"))
    )
    found = set(final.select("sample", "eps", "verdict").iter_rows())
    assert found == {(0, 0.1, "timeout"), (0, 0.2, "falsified"), (1, 0.1, "verified")}


def test_bracket_counts_only_samples_with_both_sides():
    final = frame(
        (0, 0.1, "verified"), (1, 0.1, "timeout"), (2, 0.1, "unknown"),
        (3, 0.1, "falsified"), (4, 0.1, "verified"),
    )  # fmt: skip
    survivors = pl.DataFrame(
        {"sample": [0, 1, 2, 3, 9], "broken": [False, False, True, False, False]}
    )
    # sample 2 is misclassified, as are 0 and 9 to an attack that speaks of larger balls alone
    columns = {"sample": [0, 2, 3, 9], "success": [True] * 4, "distance": [0.0, 0.0, 0.1, 0.0]}
    attacked = pl.DataFrame(columns)
    # sample 3 survives the attacks, but the verifier has a counterexample
    assert bracket(final, survivors, attacked) == (4, 1, 2, 3)
    assert bracket(final, None, attacked.clear()) == (5, 2, 4, 5)
    assert bracket(final, survivors.clear(), attacked) == (0, 0, 0, 0)
    wrong = pl.concat([final, frame((5, 0.1, "misclassified"))])
    assert bracket(wrong, None, attacked.clear()) == (6, 2, 4, 5)


def test_a_row_of_a_solver_tells_that_a_sample_was_solved():
    rows = frame((0, 0.1, "unknown"), (0, 0.1, "timeout"), (1, 0.1, "unknown"), (0, 0.2, "unknown"))
    ids = ["screen-1", "solve-2", "screen-1", "screen-1"]
    final = final_verdicts(rows.with_columns(measurement_id=pl.Series(ids)))
    found = {(row["sample"], row["eps"]): row["solved"] for row in final.to_dicts()}
    assert found == {(0, 0.1): True, (1, 0.1): False, (0, 0.2): False}


@pytest.mark.parametrize(
    ("rows", "attacked", "alarm"),
    [
        ([(0, 0.1, "verified")], [(0, 0.1, "linf")], True),  # the ball is closed
        ([(0, 0.1, "verified")], [(0, 0.11, "linf")], False),
        ([(0, 0.1, "verified")], [(1, 0.05, "linf")], False),
        ([(0, 0.1, "verified")], [(0, 0.05, "l2")], False),
        ([(0, 0.1, "timeout")], [(0, 0.05, "linf")], False),
        ([(0, 0.1, "verified"), (0, 0.1, "falsified")], [], True),
        ([(0, 0.1, "verified"), (0, 0.2, "falsified")], [], False),
        ([(0, 0.2, "verified"), (0, 0.1, "falsified")], [], True),
        ([(0, 0.1, "verified"), (0, 0.2, "misclassified")], [], True),
        ([(0, 0.1, "verified"), (1, 0.1, "falsified")], [], False),
    ],
)
def test_contradictions(rows, attacked, alarm):
    found = contradictions(frame(*rows), broken(*attacked))
    assert found["sample"].to_list() == ([0] if alarm else [])


def about(property_, *rows):
    """As `frame`, about another property; a box has no eps."""
    return frame(*rows).with_columns(property=pl.lit(property_))


def test_the_smallest_margin_in_a_box_and_a_counterexample_there() -> None:
    rows = pl.concat(
        [
            about("untargeted box=1a2b3c4d worst", (0, None, "verified")),
            about("untargeted box=1a2b3c4d", (0, None, "falsified")),
        ]
    )
    assert contradictions(rows, broken())["sample"].to_list() == [0]


@pytest.mark.parametrize(
    ("property_", "rows", "attacked", "alarm"),
    [
        ("untargeted box=1a2b3c4d", [(0, None, "verified"), (0, None, "falsified")], [], True),
        ("untargeted box=1a2b3c4d", [(0, None, "verified"), (1, None, "falsified")], [], False),
        ("untargeted box=1a2b3c4d", [(0, None, "verified")], [(0, 0.01, "linf")], False),
        ("untargeted radius=1a2b3c4d", [(0, 0.2, "verified"), (0, 0.1, "falsified")], [], True),
        ("untargeted radius=1a2b3c4d", [(0, 0.2, "verified")], [(0, 0.1, "linf")], False),
        ("targeted 3", [(0, 0.2, "verified"), (0, 0.2, "falsified")], [], True),
        ("targeted 3", [(0, 0.2, "verified")], [(0, 0.1, "linf")], False),
        ("untargeted margin=0.1", [(0, 0.2, "verified")], [(0, 0.1, "linf")], True),
        ("untargeted margin=0.1 box=1a2b3c4d", [(0, None, "verified")], [(0, 0, "linf")], False),
    ],
)
def test_contradictions_of_other_properties(property_, rows, attacked, alarm):
    found = contradictions(about(property_, *rows), broken(*attacked))
    assert found["sample"].to_list() == ([0] if alarm else [])
    assert set(found["property"]) <= {property_}


def test_other_properties_contradict_only_themselves():
    rows = pl.concat(
        [
            frame((0, 0.1, "verified")),
            about("untargeted margin=0.5", (0, 0.1, "falsified")),
            about("targeted 3", (0, 0.2, "verified")),
            about("untargeted box=1a2b3c4d", (0, None, "falsified")),
        ]
    )
    assert contradictions(rows, broken()).is_empty()
    assert final_verdicts(rows)["verdict"].len() == 4


def test_of_two_that_are_open_the_tighter_bound_counts():
    rows = frame((0, 0.1, "timeout"), (0, 0.1, "timeout"), (0, 0.1, "timeout"))
    rows = rows.with_columns(lower_bound=pl.Series([-2.0, -1.0, None]))
    for order in itertools.permutations(range(3)):
        assert final_verdicts(rows[list(order)])["lower_bound"].to_list() == [-1.0]
