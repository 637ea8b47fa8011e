"""Stored fits as rows of the calibration table: applied, undefined, of an ensemble's members."""

import json

import numpy as np
import pytest
from scipy.special import log_softmax

from robsweep.orchestrator.results.results import Results
from tests.demo_store import DemoSweep

N = 240
CALIBRATION = {"wanted": [(0, 1)], "split": "validation"}


def predict(demo, logits, labels, model):
    key = demo.ask("predict", "clean", "clean", model, params={"source": "clean"}, wanted=[(0, N)])
    p = np.exp(log_softmax(logits, axis=1))
    columns = {
        "source": "clean",
        "label": labels,
        "logits": logits.astype(np.float32),
        "predicted": logits.argmax(axis=1),
        "confidence": p.max(axis=1),
    }
    demo.add(key, "predictions", range(N), columns, classes=3)


def drawn(seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(3, size=N)
    logits = random.normal(size=(N, 3))
    logits[np.arange(N), labels] += 1.5
    return logits, labels


def rows_of(demo, model="cnn"):
    table = Results.open(demo.root).table("demo", "calibration")
    return table.filter(table["model"] == model).to_dicts()


def test_an_affine_fit_is_applied_and_may_change_what_is_predicted(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    logits, labels = drawn()
    predict(demo, logits, labels, ("cnn", "standard", 0))
    fit = demo.ask("calibrate", "calibration", "vector", **CALIBRATION)
    maps = {"map": "affine", "of": "logits", "weights": [1.0, 1.0, 1.0], "bias": [50.0, 0.0, 0.0]}
    columns = {"method": "vector", "parameters_json": json.dumps(maps), "at_bound": False}
    demo.add(fit, "calibration", None, columns)
    plain, scaled = rows_of(demo)
    assert (plain["scaling"], scaled["scaling"]) == ("none", "vector")
    right = (labels == 0).mean()  # all is class 0 now, and certain
    assert scaled["scaled_accuracy"] == pytest.approx(right)
    assert scaled["ece"] == pytest.approx(1 - right, abs=1e-6)
    assert plain["scaled_accuracy"] == pytest.approx((logits.argmax(axis=1) == labels).mean())
    assert plain["ece_low"] <= plain["ece_debiased"] <= plain["ece_high"]
    assert plain["ece_if_calibrated"] < plain["ece_if_calibrated_high"]
    assert plain["smooth_ece_rough_low"] <= plain["smooth_ece_debiased"]
    assert plain["smooth_ece_debiased"] <= plain["smooth_ece_rough_high"]
    assert plain["few_errors"] is False


def test_a_fit_that_is_not_defined_says_why_and_has_no_numbers(tmp_path):
    demo = DemoSweep(tmp_path / "s")
    predict(demo, *drawn(), ("cnn", "standard", 0))
    fit = demo.ask("calibrate", "calibration", "temperature", **CALIBRATION)
    why = "all 50 labels are class 2: nothing is learnt about the others"
    demo.add(fit, "calibration", None, {"method": "temperature", "why": why})
    _, scaled = rows_of(demo)
    assert (scaled["ece"], scaled["ece_status"]) == (None, "undefined")
    assert scaled["scaling_why"] == why
    board = Results.open(demo.root).leaderboard("demo").row(0, named=True)
    assert (board["ece_scaled"], board["ece_scaled_status"]) == (None, "undefined")


@pytest.mark.parametrize("vote", ["mean_logits", "mean_probabilities", "majority"])
def test_members_scaled_before_the_vote(tmp_path, vote):
    demo = DemoSweep(tmp_path / "s")
    (one, labels), (two, _) = drawn(0), drawn(1)
    whole = ("ens", None, 0)
    predict(demo, (one + two) / 2, labels, whole)
    fit = demo.ask("calibrate", "calibration", "before", whole, **CALIBRATION)
    maps = {
        "map": "members",
        "vote": vote,
        "models": ["a-standard-0", "b-standard-0"],
        "fits": [
            {"temperature": 2.0, "parameters": None},
            {"temperature": 0.5, "parameters": None},
        ],
    }
    demo.add(
        fit, "calibration", None, {"method": "temperature", "parameters_json": json.dumps(maps)}
    )
    predict(demo, one, labels, ("a", "standard", 0))
    scaled = rows_of(demo, "ens")[1]
    assert (scaled["ece"], scaled["ece_status"]) == (None, "not run")
    assert scaled["scaling_why"] == "a member has no clean predictions of these samples"
    predict(demo, two, labels, ("b", "standard", 0))
    scaled = rows_of(demo, "ens")[1]
    first, second = log_softmax(one / 2, axis=1), log_softmax(two * 2, axis=1)
    mean = (np.exp(first) + np.exp(second)) / 2
    votes = np.eye(3)[first.argmax(axis=1)] + np.eye(3)[second.argmax(axis=1)]
    log_p = {
        "mean_logits": log_softmax((one / 2 + two * 2) / 2, axis=1),
        "mean_probabilities": np.log(mean),
        "majority": np.log((votes + mean) / 3),
    }[vote]
    assert scaled["nll"] == pytest.approx(-log_p[np.arange(N), labels].mean(), rel=1e-5)
    assert scaled["scaled_accuracy"] == pytest.approx((log_p.argmax(axis=1) == labels).mean())
