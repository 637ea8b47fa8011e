import numpy as np
import pytest

from robsweep.orchestrator.results.report import cell
from robsweep.orchestrator.results.results import Results
from tests.demo_store import DemoSweep

N = 10


def shifted(demo, entry, severity, wrong, corruption="blur", n=N, **parameters):
    """Plans and gives predictions on a corruption, the first `wrong` of which are wrong."""
    source = f"corruption:{corruption}:{severity}"
    params = {"source": source, "seed": 0, "parameters": parameters}
    key = demo.ask("predict", "shift", entry, params=params, wanted=[(0, N)])
    predicted = np.array([0] * wrong + [1] * (n - wrong), dtype=np.int64)
    logits = np.eye(2, dtype=np.float32)[predicted]
    columns = {"source": source, "label": 1, "logits": logits, "predicted": predicted,
               "confidence": 0.9}  # fmt: skip
    if n:
        demo.add(key, "predictions", range(n), columns, classes=2)


def shift(root):
    return Results.open(root).table("demo", "shift").to_dicts()


def test_errors_are_averaged_over_severities_and_then_over_corruptions(tmp_path):
    demo = DemoSweep(tmp_path)
    for severity, wrong in ((1, 1), (3, 2), (5, 6)):
        shifted(demo, f"soft[severity={severity}]", severity, wrong)
    shifted(demo, "noise", 3, 1, corruption="gaussian_noise")
    rows = shift(tmp_path)
    assert [row["entry"] for row in rows] == ["soft"] * 3 + ["noise"]
    assert [row["corruption_error"] for row in rows] == pytest.approx([0.3] * 3 + [0.1])
    assert [row["mean_corruption_error"] for row in rows] == pytest.approx([0.2] * 4)


def test_two_entries_of_one_corruption_are_two_rows_and_have_no_mean(tmp_path):
    demo = DemoSweep(tmp_path)
    for width, wrong in ((2, 1), (5, 4)):
        for severity in (1, 3):
            entry = f"blur[width={width},severity={severity}]"
            shifted(demo, entry, severity, wrong, width=width)
    shifted(demo, "own", 3, 9, width=9)
    rows = shift(tmp_path)
    assert [row["entry"] for row in rows] == [*["blur[width=2]"] * 2, *["blur[width=5]"] * 2, "own"]
    assert [row["parameters"] for row in rows] == ["width=2"] * 2 + ["width=5"] * 2 + ["width=9"]
    errors = [row["corruption_error"] for row in rows]
    assert errors == pytest.approx([0.1, 0.1, 0.4, 0.4, 0.9])
    assert {row["mean_corruption_error"] for row in rows} == {None}


def test_a_mean_is_on_samples_that_every_severity_has(tmp_path):
    demo = DemoSweep(tmp_path)
    shifted(demo, "b[severity=1]", 1, 2, n=5)
    shifted(demo, "b[severity=5]", 5, 10)
    first, _ = shift(tmp_path)
    assert (first["accuracy"], first["accuracy_n"]) == (pytest.approx(3 / 5), 5)
    assert first["corruption_error"] == pytest.approx((2 / 5 + 1) / 2)
    assert (first["corruption_error_n"], first["corruption_error_status"]) == (5, "running")
    shifted(demo, "b[severity=3]", 3, 0, n=0)
    first, *_ = shift(tmp_path)  # without the third severity the mean would flatter or slander
    assert first["corruption_error"] is None
    assert cell("corruption_error", first) == "running 0/10"


def scored(demo, ood_set, scores, wanted):
    params = {"scorer": "energy", "ood_set": ood_set}
    key = demo.ask("score", "ood", "energy", params=params, wanted=[(0, wanted)])
    columns = {"scorer": "energy", "ood_set": ood_set, "score": scores}
    if scores:
        demo.add(key, "ood_scores", range(len(scores)), columns)
    return key


def test_both_sets_are_counted(tmp_path):
    demo = DemoSweep(tmp_path)
    scored(demo, None, [0.0, 0.1, 0.2], 5)
    scored(demo, "far", [1.0] * 7, 7)
    results = Results.open(tmp_path)
    for row in (
        results.leaderboard("demo").row(0, named=True),
        results.table("demo", "ood").row(0, named=True),
    ):
        counts = [row[f"auroc_{name}"] for name in ("n_id", "wanted_id", "n_ood", "n", "wanted")]
        assert counts == [3, 5, 7, 7, 7]
        assert row["auroc_status"] == "running"
        assert cell("auroc", row).endswith("n=3/5 ID + 7 OOD")


def test_the_hardest_set_waits_for_all_and_leaves_out_those_that_failed(tmp_path):
    demo = DemoSweep(tmp_path)
    scored(demo, None, [0.0, 1.0], 2)
    scored(demo, "far", [5.0, 6.0], 2)
    near = scored(demo, "near", [], 2)
    row = Results.open(tmp_path).leaderboard("demo").row(0, named=True)
    assert (row["auroc"], row["auroc_of"]) == (None, None)
    assert cell("auroc", row).startswith("running")
    demo.fail(near, 0, 2)
    row = Results.open(tmp_path).leaderboard("demo").row(0, named=True)
    assert (row["auroc"], row["auroc_of"]) == (1.0, "energy / far (without near: failed)")


def test_a_model_without_any_auroc_says_why_and_not_that_it_failed(tmp_path):
    demo = DemoSweep(tmp_path)
    scored(demo, None, [1.0, 1.0], 2)
    scored(demo, "flat", [1.0, 1.0, 1.0], 3)
    row = Results.open(tmp_path).leaderboard("demo").row(0, named=True)
    assert cell("auroc", row) == "undefined"
    assert row["auroc_of"] == "energy (without flat: constant scores)"


def test_a_set_without_an_auroc_says_why_and_is_not_one_half(tmp_path):
    demo = DemoSweep(tmp_path)
    scored(demo, None, [1.0, 1.0], 2)
    scored(demo, "flat", [1.0, 1.0, 1.0], 3)
    scored(demo, "far", [2.0, 3.0], 2)
    results = Results.open(tmp_path)
    flat, far = results.table("demo", "ood").to_dicts()
    assert (flat["auroc"], flat["aupr_in"], flat["why"]) == (None, None, "constant scores")
    assert (far["auroc"], far["fpr95_id_pos"], far["why"]) == (1.0, 0.0, None)
    assert far["fpr95_id_pos_high"] > 0.3  # of two samples
    row = results.leaderboard("demo").row(0, named=True)
    assert row["auroc_of"] == "energy / far (without flat: constant scores)"
