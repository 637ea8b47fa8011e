"""What stands beside a number: attacks that it lacks, checks that contradict it, warnings."""

import polars as pl
import pytest

from robsweep.orchestrator.results.report import FORMATS, cell, leaderboard_text, notes, render
from robsweep.orchestrator.results.results import Results
from tests.demo_store import DemoSweep

EPS = 0.1


def attack(demo, entry, broken, *, n=40, name=None, eps=EPS, checks=None, **columns):
    """Plans and gives an attack of n samples, of which the first `broken` fall; 0 is misclassified.

    Where `checks` is not None, that many samples after those have failed.
    """
    key = demo.ask("attack", "attacks", entry, norm="linf", eps=[eps], wanted=[(0, n)])
    demo.asked[-1]["name"] = name or entry
    demo.write_plan()
    success = [i < broken for i in range(n)]
    check = ["error: OddError: no luck" if broken <= i < (checks or 0) else "ok" for i in range(n)]
    distance = [None if not ok else 0.0 if i == 0 else 0.09 for i, ok in enumerate(success)]
    given = {"attack": entry, "norm": "linf", "eps": eps, "success": success, "check": check,
             "distance": distance, "n_forward": 40, "seconds": 0.1, **columns}  # fmt: skip
    demo.add(key, "attacks", range(n), given)
    return key


def screen(demo, verdicts):
    params = {"property": "untargeted"}
    wanted = [(0, len(verdicts))]
    key = demo.ask("screen", "verification", "v", norm="linf", eps=[EPS], params=params,
                   wanted=wanted)  # fmt: skip
    columns = {**params, "norm": "linf", "eps": EPS, "verdict": verdicts, "decided_by": "it"}
    demo.add(key, "verification", range(len(verdicts)), columns)


def tables(root):
    results = Results.open(root)
    attacks = {row["attack"]: row for row in results.table("demo", "attacks").to_dicts()}
    return results.leaderboard("demo").row(0, named=True), attacks


@pytest.mark.parametrize("way", ["every row", "every job"])
def test_a_failing_attack_is_left_out_and_named(tmp_path, way):
    demo = DemoSweep(tmp_path)
    attack(demo, "pgd", 10)
    if way == "every row":
        attack(demo, "hsj", 1, checks=40)
        why = "raised OddError"
    else:
        key = demo.ask("attack", "attacks", "hsj", norm="linf", eps=[EPS], wanted=[(0, 40)])
        demo.fail(key, 0, 40)
        why = "raised"
    screen(demo, ["misclassified", *["falsified"] * 9, *["verified"] * 10])
    row, attacks = tables(tmp_path)
    for found in (row, attacks["worst_case"]):
        assert (found["robust_accuracy"], found["robust_accuracy_n"]) == (0.75, 40)
        assert found["missing_attacks"] == f"hsj: {why}"
        assert found["robust_accuracy_status"] == "done"
        assert cell("robust_accuracy", found).endswith(f"n=40 (without hsj: {why})")
    assert (row["bracket_low"], row["bracket_high"], row["bracket_n"]) == (0.5, 0.5, 20)
    assert attacks["hsj"]["robust_accuracy"] is None
    assert cell("robust_accuracy", attacks["hsj"]) == f"failed (hsj: {why})"
    assert attacks["pgd"]["missing_attacks"] is None
    for style in FORMATS:
        assert f"hsj: {why}" in render(Results.open(tmp_path).leaderboard("demo"), style)


def test_an_attack_that_has_not_run_yet_is_not_left_out(tmp_path):
    demo = DemoSweep(tmp_path)
    attack(demo, "pgd", 10)
    demo.ask("attack", "attacks", "hsj", norm="linf", eps=[EPS], wanted=[(0, 40)])
    row, _ = tables(tmp_path)
    assert (row["robust_accuracy"], row["missing_attacks"]) == (None, None)
    assert cell("robust_accuracy", row) == "running 0/40"


def test_where_all_attacks_fail_the_bracket_is_the_verifiers(tmp_path):
    demo = DemoSweep(tmp_path)
    attack(demo, "pgd", 1, checks=40)
    screen(demo, ["misclassified", *["falsified"] * 9, *["verified"] * 10])
    row, _ = tables(tmp_path)
    assert row["robust_accuracy"] is None
    assert row["robust_accuracy_status"] == "failed"
    assert (row["bracket_low"], row["bracket_high"], row["bracket_n"]) == (0.5, 0.5, 20)
    assert cell("bracket", row) == "50.0 .. 50.0 % n=20 (without pgd: raised OddError)"


def test_accuracy_on_the_same_samples_is_never_below_what_survives(tmp_path):
    demo = DemoSweep(tmp_path)
    attack(demo, "pgd", 10)
    screen(demo, ["misclassified", *["falsified"] * 4, *["verified"] * 5])
    row, attacks = tables(tmp_path)
    assert row["robust_accuracy_clean"] == pytest.approx(39 / 40)
    assert attacks["pgd"]["robust_accuracy_clean"] == pytest.approx(39 / 40)
    assert row["bracket_clean"] == pytest.approx(9 / 10)
    assert row["bracket_high"] <= row["bracket_clean"]


def test_passes_are_per_sample_that_was_attacked(tmp_path):
    demo = DemoSweep(tmp_path)
    # the misclassified one, a carried one and one that the source has wrong cost nothing
    columns = {
        "n_forward": [0, 0, 0, *[40] * 7],
        "inferred_from_eps": [None, 0.05, *[None] * 8],
        "check": ["ok", "ok", "wrong at the source", *["ok"] * 7],
    }
    attack(demo, "pgd", 2, n=10, **columns)
    _, attacks = tables(tmp_path)
    assert attacks["pgd"]["forward_per_sample"] == 40
    assert attacks["worst_case"]["forward_per_sample"] is None


def test_doing_nothing_to_a_model_that_answers_at_random_is_no_negative_rate(tmp_path):
    demo = DemoSweep(tmp_path)
    key = demo.ask("attack", "attacks", "lazy", norm="linf", eps=[0.05, 0.1], wanted=[(0, 4)])
    # sample 2 was right when eps 0.05 was tried, and broke at distance 0 at the larger one
    rows = [(s, eps, s == 0 or (s == 2 and eps == 0.1)) for s in range(4) for eps in (0.05, 0.1)]
    columns = {
        "attack": "lazy", "norm": "linf", "check": "ok", "eps": [row[1] for row in rows],
        "success": [row[2] for row in rows],
        "distance": [0.0 if row[2] else None for row in rows],
    }  # fmt: skip
    demo.add(key, "attacks", [row[0] for row in rows], columns)
    table = Results.open(tmp_path).table("demo", "attacks").filter(pl.col("attack") == "lazy")
    assert table["attack_success_rate"].to_list() == [0.0, 0.0]
    assert table["attack_success_rate_n"].to_list() == [3, 2]


@pytest.fixture
def contradicted(tmp_path):
    """A single step breaks a quarter of what many steps leave standing."""
    demo = DemoSweep(tmp_path)
    attack(demo, "fgsm", 20, name="LinfFastGradient")
    attack(demo, "pgd", 10, name="LinfPGD")
    screen(demo, ["misclassified", *["falsified"] * 19, "unknown", *["verified"] * 19])
    return tmp_path


def test_a_number_that_checks_contradict_carries_the_flag_everywhere(contradicted):
    results = Results.open(contradicted)
    flag = "fail: iterative beats single step (10 of 39)"
    row, attacks = tables(contradicted)
    assert row["honesty"] == flag
    assert results.table("demo", "verification")["honesty"].to_list() == [flag]
    assert attacks["worst_case"]["honesty"] == attacks["pgd"]["honesty"] == flag
    assert attacks["fgsm"]["honesty"] is None  # nothing speaks against the single step
    (check,) = results.table("demo", "honesty").filter(pl.col("status") == "fail").to_dicts()
    assert check["attacks"] == "pgd"
    assert "fgsm against pgd" in check["detail"]
    note = "! cnn/standard/0 linf: honesty checks contradict it: iterative beats single step"
    for name in ("leaderboard", "attacks", "verification"):
        table = results.table("demo", name)
        assert len(notes(table)) == 1
        for style in ("text", "markdown", "latex"):
            assert note in render(table, style)
            assert "% ! " in render(table, style).replace("\\", "")
        assert flag in render(table, "csv")
    text = leaderboard_text(results.leaderboard("demo"))
    assert "50.0 % ! [" in text
    assert "47.5 .. 50.0 % ! n=40" in text
    assert text.count(note) == 1
    assert not render(results.table("demo", "attacks").filter(attack="fgsm"), "text").count("!")


def test_what_passes_has_no_mark(tmp_path):
    demo = DemoSweep(tmp_path)
    attack(demo, "fgsm", 10, name="LinfFastGradient")
    attack(demo, "pgd", 20, name="LinfPGD")
    row, _ = tables(tmp_path)
    assert row["honesty"] == "pass"
    assert "!" not in leaderboard_text(Results.open(tmp_path).leaderboard("demo"))


def test_a_proof_that_does_not_hold_is_marked_too(tmp_path):
    demo = DemoSweep(tmp_path)
    attack(demo, "pgd", 10)
    screen(demo, ["misclassified", *["verified"] * 9])
    row, _ = tables(tmp_path)
    assert row["honesty"] == "fail: soundness (9 of 9)"
    assert " ! " in cell("verified_accuracy", row)
    assert " ! " in cell("bracket", {**row, "bracket_low": 0.5, "bracket_high": 0.5})


def test_where_proofs_and_attacks_agree_no_weak_attack_speaks_against_it(tmp_path):
    demo = DemoSweep(tmp_path)
    attack(demo, "fgsm", 20, name="LinfFastGradient")
    attack(demo, "pgd", 10, name="LinfPGD")
    screen(demo, ["misclassified", *["falsified"] * 19, *["verified"] * 20])
    row, _ = tables(tmp_path)
    assert row["honesty"].startswith("fail: iterative beats single step")
    assert cell("bracket", row) == "50.0 .. 50.0 % n=40"
    assert " ! " in cell("robust_accuracy", row)


def test_warnings_of_a_model_are_in_the_leaderboard(tmp_path):
    demo = DemoSweep(tmp_path)
    train = demo.ask("train", "models", "cnn", wanted=[(0, 1)], split="train")
    warned = "batch-dependent; answers at random"
    demo.add(train, "models", None, {"model": "cnn", "warnings": warned})
    again = demo.ask("ensemble", "models", "cnn", wanted=[(0, 1)], split="train")
    demo.add(again, "models", None, {"model": "cnn", "warnings": "answers at random"})
    demo.ask("predict", "clean", "clean", params={"source": "clean"})
    demo.ask("predict", "clean", "clean", ("mlp", "standard", 0), params={"source": "clean"})
    board = Results.open(tmp_path).leaderboard("demo")
    assert board["warnings"].to_list() == [warned, None]
    assert warned in leaderboard_text(board)
