import numpy as np
import polars as pl
import pytest

from robsweep.orchestrator.errors import InputError, StoreError
from robsweep.orchestrator.results.report import cell
from robsweep.orchestrator.results.results import TABLES, Results, polars_schema
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.rows import TABLES as ROW_TABLES
from tests.demo_store import DemoSweep, whole_sweep

CORRECT, WRONG = 1, 0


def clean(demo, answers, **more):
    """Plans and gives clean predictions; `answers` are CORRECT or WRONG per sample."""
    key = demo.ask("predict", "clean", "clean", params={"source": "clean"}, **more)
    logits = np.array([[0.0, 2.0] if right else [2.0, 0.0] for right in answers], np.float32)
    columns = {
        "source": "clean",
        "label": 1,
        "logits": logits,
        "predicted": np.asarray(answers),
        "confidence": 1 / (1 + np.exp(-2.0)),
    }
    demo.add(key, "predictions", range(len(answers)), columns, classes=2)
    return key


def attack(demo, entry, rows, eps, norm="linf", **more):
    """Plans and gives an attack; rows are (sample, eps, success, distance)."""
    key = demo.ask("attack", "attacks", entry, norm=norm, eps=eps, **more)
    columns = {
        "attack": entry,
        "norm": norm,
        "eps": [row[1] for row in rows],
        "success": [row[2] for row in rows],
        "distance": [row[3] for row in rows],
        "n_forward": 1,
        "seconds": 0.5,
        "check": "ok",
    }
    demo.add(key, "attacks", [row[0] for row in rows], columns)
    return key


def screen(demo, verdicts, eps=0.1, **more):
    key = demo.ask(
        "screen", "verification", "milp", norm="linf", eps=[eps],
        params={"property": "untargeted"}, **more,
    )  # fmt: skip
    prove(demo, key, dict(enumerate(verdicts)), eps)
    return key


def prove(demo, key, verdicts, eps=0.1):
    columns = {
        "property": "untargeted",
        "norm": "linf",
        "eps": eps,
        "verdict": list(verdicts.values()),
        "decided_by": "it",
    }
    demo.add(key, "verification", list(verdicts), columns)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return whole_sweep(tmp_path_factory.mktemp("whole"), unsound=True)


def test_rows_of_a_table_without_parts(tmp_path):
    Store.create(tmp_path / "s")
    results = Results.open(tmp_path / "s")
    assert results.sweeps() == []
    for table in ROW_TABLES:
        assert dict(results.rows(table).collect().schema) == polars_schema(table)
        assert results.rows(table, ["x"]).collect().is_empty()


def test_no_store_and_no_sweep_say_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="not a robsweep store"):
        Results.open(tmp_path)
    Store.create(tmp_path / "s")
    with pytest.raises(InputError, match=r"no sweep 'x'.*robsweep run"):
        Results.open(tmp_path / "s").table("x", "leaderboard")


def test_rows_joins_parts_with_different_numbers_of_classes(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    for classes in (2, 3):
        key = demo.ask("predict", "clean", "clean", params={"source": "clean"})
        logits = np.ones((4, classes), np.float32)
        columns = {"source": "clean", "label": 0, "logits": logits, "predicted": 0}
        demo.add(key, "predictions", range(4), columns, classes=classes)
    rows = Results.open(tmp_path / "s").rows("predictions").collect()
    assert rows["logits"].list.len().to_list() == [2] * 4 + [3] * 4


def test_a_truncated_part_is_told(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT] * 3)
    results = Results.open(tmp_path / "s")
    path = results.store.root / results.snapshot.parts("predictions")[0].path
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="robsweep check"):
        results.leaderboard("demo")


def test_unlogged_files_do_not_count(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT] * 3)
    part = next((tmp_path / "s/parts/predictions").iterdir())
    (part.parent / "stray.parquet").write_bytes(part.read_bytes())
    assert len(Results.open(tmp_path / "s").rows("predictions").collect()) == 3


def test_only_wanted_samples_count(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [WRONG, CORRECT, CORRECT, WRONG, WRONG, CORRECT], wanted=[(1, 3), (5, 6)])
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    assert (row["clean_accuracy"], row["clean_accuracy_n"]) == (1.0, 3)
    assert row["norm"] is None


def test_a_missing_row_is_not_run(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT, CORRECT, WRONG], wanted=[(0, 10)])
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    assert row["clean_accuracy"] == pytest.approx(2 / 3)
    assert (row["clean_accuracy_n"], row["clean_accuracy_wanted"]) == (3, 10)
    assert row["ece_n"] == 3


def test_predictions_on_adversarials_are_not_clean_ones(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT] * 4)
    key = attack(demo, "pgd", [(0, 0.1, True, 0.1)], [0.1])
    columns = {
        "source": f"attack:{key}:0.1", "label": 1, "predicted": 0, "logits": np.zeros((1, 2))
    }  # fmt: skip
    demo.add(key, "predictions", [0], columns, covers=(1, 2), classes=2)
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    assert (row["clean_accuracy"], row["clean_accuracy_n"]) == (1.0, 4)


def test_worst_case_over_attacks_and_eps(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    fixed = [(s, e, s == 0 and e == 0.2, None) for s in range(4) for e in (0.1, 0.2)]
    attack(demo, "pgd", fixed, [0.1, 0.2], wanted=[(0, 4)])
    # only covers samples 0 to 2, and finds sample 1 at 0.15
    minimal = [(0, None, False, None), (1, None, True, 0.15), (2, None, False, None)]
    attack(demo, "hsj", minimal, None, wanted=[(0, 4)])
    # another norm does not matter
    attack(demo, "l2", [(s, 0.2, True, 0.1) for s in range(4)], [0.2], norm="l2")
    board = Results.open(tmp_path / "s").leaderboard("demo")
    at = {(row["norm"], row["eps"]): row for row in board.iter_rows(named=True)}
    assert list(at) == [("linf", 0.1), ("linf", 0.2), ("l2", 0.2)]
    assert at["linf", 0.1]["robust_accuracy"] == 1.0
    assert at["linf", 0.2]["robust_accuracy"] == pytest.approx(1 / 3)
    assert at["linf", 0.2]["robust_accuracy_n"] == 3
    assert at["linf", 0.2]["robust_accuracy_wanted"] == 4
    assert at["l2", 0.2]["robust_accuracy"] == 0.0


def test_an_eps_that_an_attack_did_not_run_does_not_count_it(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    attack(demo, "weak", [(s, 0.1, False, None) for s in range(4)], [0.1])
    attack(demo, "strong", [(s, 0.2, True, 0.2) for s in range(4)], [0.2])
    board = Results.open(tmp_path / "s").leaderboard("demo")
    assert board["robust_accuracy"].to_list() == [1.0, 0.0]
    assert board["robust_accuracy_n"].to_list() == [4, 4]


def test_bracket_with_partial_coverage(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    attack(demo, "pgd", [(s, 0.1, s < 2, 0.1 if s < 2 else None) for s in range(6)], [0.1])
    key = screen(demo, ["falsified", "unknown", "unknown", "verified"], wanted=[(0, 20)])
    solve = demo.ask(
        "solve", "verification", "milp", norm="linf", eps=[0.1],
        params={"property": "untargeted"}, wanted=[(0, 20)], needs=[key],
    )  # fmt: skip
    prove(demo, solve, {2: "timeout"})
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    assert (row["robust_accuracy"], row["robust_accuracy_n"]) == (pytest.approx(4 / 6), 6)
    assert (row["verified_accuracy"], row["verified_accuracy_n"]) == (0.25, 4)
    assert (row["bracket_low"], row["bracket_high"], row["bracket_n"]) == (0.25, 0.5, 4)
    assert row["bracket_wanted"] == 10
    counts = Results.open(tmp_path / "s").table("demo", "verification").row(0, named=True)
    assert [counts[v] for v in ("verified", "falsified", "timeout", "unknown")] == [1, 1, 1, 1]


def test_a_proof_of_another_sweep_counts_here_too(tmp_path):
    other = DemoSweep(tmp_path / "s", "other")
    other.ask("predict", "clean", "clean", params={"source": "clean"})
    screen(other, ["verified", "verified", "verified"])
    demo = DemoSweep(tmp_path / "s", "demo")
    for _ in range(5):  # other measurement ids than those of the first sweep
        demo.ask("calibrate", "calibration", "temperature")
    screen(demo, ["unknown", "unknown"], wanted=[(0, 2)])
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    assert (row["verified_accuracy"], row["verified_accuracy_n"]) == (1.0, 2)


def test_verdicts_carry_over_nested_balls(tmp_path):
    demo = DemoSweep(tmp_path)
    screen(demo, ["verified", "falsified", "unknown", "misclassified"], eps=0.1)
    screen(demo, ["unknown", "unknown", "verified", "unknown"], eps=0.05)
    screen(demo, ["unknown", "unknown", "unknown", "unknown"], eps=0.2)
    demo.write_plan()
    table = Results.open(tmp_path).table("demo", "verification")
    found = {
        row["eps"]: [row[v] for v in ("verified", "falsified", "misclassified", "unknown")]
        for row in table.to_dicts()
    }
    assert found == {0.05: [2, 0, 1, 1], 0.1: [1, 1, 1, 1], 0.2: [0, 1, 1, 2]}


def test_auroc_is_that_of_the_first_scorer_on_the_hardest_set(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    given = [
        ("energy", None, [0.0, 1.0]), ("energy", "far", [5.0, 6.0]), ("energy", "near", [0.5, 2.0]),
        ("max_logit", None, [0.0, 1.0]), ("max_logit", "near", [-1.0, -2.0]),
    ]  # fmt: skip
    for scorer, ood, scores in given:
        params = {"scorer": scorer, "ood_set": ood, "seed": 0, "parameters": {}}
        key = demo.ask("score", "ood", scorer, params=params, wanted=[(0, 2)])
        columns = {"scorer": scorer, "ood_set": ood, "score": scores}
        demo.add(key, "ood_scores", range(2), columns)
    results = Results.open(tmp_path / "s")
    row = results.leaderboard("demo").row(0, named=True)
    assert (row["auroc"], row["auroc_n"], row["auroc_of"]) == (0.75, 2, "energy / near")
    ood = results.table("demo", "ood")
    assert ood["auroc"].to_list() == [1.0, 0.75, 0.0]


def test_temperature_scaling_shows_beside_the_plain_error(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT, WRONG])
    fit = demo.ask("calibrate", "calibration", "temperature", wanted=[(0, 1)], split="validation")
    demo.add(fit, "calibration", None, {"method": "temperature", "temperature": 1e6})
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    sigmoid = 1 / (1 + np.exp(-2))
    assert row["ece"] == pytest.approx(sigmoid - 0.5)
    assert row["ece_scaled"] == pytest.approx(0, abs=1e-5)
    table = Results.open(tmp_path / "s").table("demo", "calibration")
    assert table["scaling"].to_list() == ["none", "temperature"]
    assert table["at_bound"].to_list() == [None, None]  # a store of before does not say


def test_a_fit_at_its_bound_says_so_and_one_that_has_not_run_too(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT, WRONG], wanted=[(0, 2)])
    first = demo.ask("calibrate", "calibration", "first", wanted=[(0, 1)], split="validation")
    second = demo.ask("calibrate", "calibration", "second", wanted=[(0, 1)], split="validation")
    columns = {"method": "temperature", "temperature": 3.0, "at_bound": True}
    demo.add(second, "calibration", None, columns)
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    # the second fit is no stand-in for the first
    assert (row["ece_scaled"], row["ece_scaled_status"]) == (None, "not run")
    table = Results.open(tmp_path / "s").table("demo", "calibration")
    assert table["ece_status"].to_list() == ["done", "not run", "done"]
    assert table["at_bound"].to_list() == [None, None, True]
    demo.add(first, "calibration", None, columns)
    row = Results.open(tmp_path / "s").leaderboard("demo").row(0, named=True)
    assert row["ece_scaled_at_bound"]
    assert cell("ece_scaled", row).endswith("n=2 (fit at its bound)")


def test_progress_counts_wanted_done_and_failed(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    clean(demo, [CORRECT] * 8, wanted=[(0, 20)])
    key = demo.asked[0]["measurement_id"]
    demo.fail(key, 4, 12)  # 4 to 8 succeeded on a second try
    first = screen(demo, ["verified", "unknown", "unknown"], wanted=[(0, 3)])
    solve = demo.ask(
        "solve", "verification", "milp", norm="linf", eps=[0.1],
        params={"property": "untargeted"}, wanted=[(0, 3)], needs=[first],
    )  # fmt: skip
    prove(demo, solve, {1: "timeout"})
    found = {row[0]: row[1:] for row in Results.open(tmp_path / "s").progress("demo").iter_rows()}
    assert found == {"predict": (20, 8, 4), "screen": (3, 3, 0), "solve": (2, 1, 0)}


@pytest.mark.parametrize("name", TABLES)
def test_every_table_of_an_empty_plan_and_of_one_with_nothing_done(tmp_path, name):
    demo = DemoSweep(tmp_path / "s", "empty")
    demo.write_plan()
    assert Results.open(tmp_path / "s").table("empty", name).is_empty()
    whole_sweep(tmp_path / "s2", done=0.0)
    results = Results.open(tmp_path / "s2")
    table = results.table("mnist-bracket", name)
    counts = [column for column in table.columns if column == "n" or column.endswith("_n")]
    assert table.select(pl.sum_horizontal(pl.col(counts).sum())).item() == 0
    assert results.alarms("mnist-bracket").is_empty()
    assert results.progress("mnist-bracket")["done"].sum() == 0


def test_a_whole_sweep(whole):
    results = Results.open(whole.root)
    board = results.leaderboard(whole.name)
    assert len(board) == 6 * 5
    both = board.filter(pl.col("bracket_n") > 0)
    assert len(both) == 6 * 2
    assert (both["bracket_low"] <= both["bracket_high"]).all()
    assert board["clean_accuracy_n"].unique().to_list() == [400]
    imported = board.filter(pl.col("model") == "wk17a")
    assert imported["training"].is_null().all()
    assert imported["clean_accuracy"].is_not_null().all()
    attacks = results.table(whole.name, "attacks")
    assert attacks.filter(pl.col("attack") == "deepfool")["median_distance"].is_not_null().any()
    in_balls = (pl.col("attack") == "worst_case") & pl.col("eps").is_not_null()
    worst = attacks.filter(in_balls).sort("model_id", "norm", "eps")
    same = board.sort("model_id", "norm", "eps")
    assert worst["robust_accuracy"].to_list() == same["robust_accuracy"].to_list()


def test_alarms_name_the_sample_and_both_sides(whole):
    alarms = Results.open(whole.root).alarms(whole.name)
    assert alarms["model"].unique().to_list() == ["wk17a"]
    assert alarms["sample"].n_unique() == 1
    assert set(alarms["verified_by"]) == {"scip"}
    assert "crown" in alarms["broken_by"].to_list()
    assert (alarms["broken_radius"] <= alarms["verified_eps"]).all()
