import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from robsweep.orchestrator.results.metrics.detection.logit_scores import LOGIT_SCORES, score
from robsweep.orchestrator.results.report import joint_text
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.results.tables.joint.detectors import paired_auroc
from robsweep.tasks.ood import logit_scores
from tests.demo_store import DemoSweep

N, EPS = 20, 0.1


@pytest.mark.parametrize("name", LOGIT_SCORES)
def test_scores_of_stored_logits_are_those_of_the_scorers(name):
    logits = torch.randn(50, 10, generator=torch.Generator().manual_seed(0)) * 8
    parameters = {"temperature": 2.0} if name == "energy" else {}
    theirs = getattr(logit_scores, name)(torch.nn.Identity(), logits, **parameters)
    stored = logits.double().numpy()
    ours = score(name, parameters, stored, softmax(stored, axis=1).max(axis=1))
    assert ours == pytest.approx(theirs.numpy())


def test_an_auroc_of_pairs_is_as_sure_as_leaving_out_images_says():
    """The jackknife over images, in place of derivatives."""
    rng = np.random.default_rng(0)
    before = rng.normal(0, 1, 200)
    after = before + rng.normal(1, 0.5, 200)
    samples = np.arange(200)
    found, why = paired_auroc(samples[50:], after[50:], samples, before)
    truth = np.r_[np.ones(150), np.zeros(200)]
    assert why is None
    assert found.value == pytest.approx(roc_auc_score(truth, np.r_[after[50:], before]))
    left_out = []
    for i in range(200):
        keep = samples != i
        ood = keep & (samples >= 50)
        part = paired_auroc(samples[ood], after[ood], samples[keep], before[keep])[0]
        left_out.append(part.value)
    jackknife = np.sqrt(199 * np.var(left_out))
    error = (found.high - found.low) / 2 / 1.96
    assert error == pytest.approx(jackknife, rel=0.05)


@pytest.fixture
def attacked(tmp_path):
    """20 samples, right but for sample 0; an attack fools 1 to 10 and leaves them less sure."""
    demo = DemoSweep(tmp_path)
    clean = demo.ask("predict", "clean", "clean", params={"source": "clean"}, wanted=[(0, N)])
    logits = np.zeros((N, 2), np.float32)
    logits[:, 1] = 3 + 0.1 * np.arange(N)
    logits[0] = [2, 0]
    predictions(demo, clean, "clean", logits)
    attack = demo.ask("attack", "attacks", "pgd", norm="linf", eps=[EPS], wanted=[(0, N)])
    fooled = (np.arange(N) <= 10) & (np.arange(N) > 0)
    after = logits.copy()
    after[fooled] = np.stack([0.2 * np.arange(1, 11), np.zeros(10)], axis=1)
    predictions(demo, attack, f"attack:{attack}:{EPS!r}", after)
    columns = {"attack": "pgd", "norm": "linf", "eps": EPS, "success": fooled | (np.arange(N) == 0),
               "distance": [0.0] + [0.05] * 10 + [None] * 9, "check": "ok"}  # fmt: skip
    demo.add(attack, "attacks", range(N), columns)
    for ood_set in (None, "far"):
        params = {"scorer": "max_logit", "ood_set": ood_set}
        demo.ask("score", "ood", "logit", params=params, wanted=[(0, N)])
    return Results.open(tmp_path)


def predictions(demo, key, source, logits):
    confidence = softmax(logits.astype(float), axis=1).max(axis=1)
    columns = {"source": source, "label": 1, "logits": logits, "predicted": logits.argmax(axis=1),
               "confidence": confidence}  # fmt: skip
    demo.add(key, "predictions", range(N), columns, classes=2)


def rows_of(results, question):
    return [r for r in results.table("demo", "joint").to_dicts() if r["question"] == question]


def test_confidence_under_attack(attacked):
    clean, pgd = rows_of(attacked, "confidence")
    assert (clean["attack"], clean["accuracy"], clean["accuracy_n"]) == (None, 0.95, N)
    assert (pgd["attack"], pgd["norm"], pgd["eps"]) == ("pgd", "linf", EPS)
    assert pgd["accuracy"] == pytest.approx(9 / 20)
    assert pgd["ece"] > clean["ece"]
    assert clean["error_auroc"] == 1  # the one error is the least sure
    assert (pgd["error_auroc"], pgd["error_auroc_n"]) == (1, N)
    assert pgd["e_aurc"] == pytest.approx(0, abs=1e-12)
    assert pgd["ece_status"] == "done"


def test_does_the_detector_see_the_attack(attacked):
    (row,) = rows_of(attacked, "detection")
    assert (row["scorer"], row["auroc_n_id"], row["auroc_n_ood"]) == ("logit", 20, 10)
    # sample 0, wrong as it is, has a largest logit of 2, as the surest adversarial has
    assert row["auroc"] == pytest.approx((10 * 19 + 9 + 0.5) / 200)
    assert row["auroc_low"] < row["auroc"] < row["auroc_high"]


def test_what_the_detector_accepts(attacked):
    clean, pgd = rows_of(attacked, "acceptance")
    # 19 of 20 clean images pass: all but sample 0
    assert (clean["accepted"], clean["accepted_accuracy"], clean["accepted_accuracy_n"]) == (
        0.95, 1, 19,
    )  # fmt: skip
    assert (pgd["accepted"], pgd["accepted_right"]) == (9 / 20, 9 / 20)


def test_do_scores_know_the_errors(attacked):
    rows = rows_of(attacked, "errors")
    assert [(row["attack"], row["scorer"]) for row in rows] == [(None, "logit"), ("pgd", "logit")]
    assert rows[0]["error_auroc"] == 1
    assert (rows[0]["aurc_n"], rows[0]["aurc_status"]) == (N, "done")


@pytest.mark.parametrize("of", [{"scorer": "knn"}, {"scorer": "energy", "members": "mean"}])
def test_a_score_that_needs_more_than_logits_knows_the_clean_errors(tmp_path, of):
    """The mean of members' energies is another number than the energy of the ensemble."""
    demo = DemoSweep(tmp_path)
    clean = demo.ask("predict", "clean", "clean", params={"source": "clean"}, wanted=[(0, N)])
    logits = np.zeros((N, 2), np.float32)
    logits[:, 1] = np.where(np.arange(N) < 5, -1, 1)  # the first five are wrong
    predictions(demo, clean, "clean", logits)
    params = {**of, "ood_set": None}
    key = demo.ask("score", "ood", "nearest", params=params, wanted=[(0, N)])
    columns = {"scorer": of["scorer"], "score": -np.arange(N, dtype=float)}
    demo.add(key, "ood_scores", range(N), columns)
    rows = rows_of(Results.open(tmp_path), "errors")
    assert [row["scorer"] for row in rows] == ["confidence", "nearest"]
    assert (rows[-1]["error_auroc"], rows[-1]["aurc_n"]) == (1, N)


def test_a_point_of_a_grid_has_no_severity(tmp_path):
    demo = DemoSweep(tmp_path)
    for entry, source in (("turned[degrees=9]", "rotate_by:1"), ("fog", "fog:1")):
        params = {"source": f"corruption:{source}", "parameters": {}}
        key = demo.ask("predict", "shift", entry, params=params, wanted=[(0, N)])
        predictions(demo, key, params["source"], np.ones((N, 2), np.float32))
    found = rows_of(Results.open(tmp_path), "confidence")
    assert [(row["corruption"], row["severity"]) for row in found] == [
        ("rotate_by", None), ("fog", 1),
    ]  # fmt: skip


def test_the_grid_and_the_text(attacked):
    (row,) = rows_of(attacked, "grid")
    assert (row["accuracy"], row["robust_accuracy"], row["norm"]) == (0.95, 9 / 20, "linf")
    text = joint_text(attacked.table("demo", "joint"))
    assert text.index("confidence: is") < text.index("detection: does") < text.index("grid: ")


def test_a_failed_attack_says_so(tmp_path):
    demo = DemoSweep(tmp_path)
    attack = demo.ask("attack", "attacks", "pgd", norm="linf", eps=[EPS], wanted=[(0, N)])
    logits = np.ones((N, 2), np.float32)
    predictions(demo, attack, f"attack:{attack}:{EPS!r}", logits)
    columns = {"attack": "pgd", "norm": "linf", "eps": EPS, "success": False,
               "check": "error: ValueError: no"}  # fmt: skip
    demo.add(attack, "attacks", range(N), columns)
    (row, *_) = rows_of(Results.open(tmp_path), "confidence")
    assert (row["accuracy"], row["accuracy_status"], row["accuracy_n"]) == (None, "failed", 0)
