"""Groups of OOD sets, shifted ID data, evasions, and sets that have been used before."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from robsweep.orchestrator.results.results import Results
from tests.demo_store import DemoSweepOfUses as Demo

N = 60


def scored(demo, ood_set, scores, groups=(), *, shifted=False, **params):
    params = {"scorer": "energy", "ood_set": ood_set, **params}
    dataset = ood_set or "digits"
    key = demo.ask("score", "ood", "energy", params=params, wanted=[(0, N)], dataset=dataset)
    demo._asked(key)["uses_json"] = json.dumps(
        [{"section": "ood", "entry": "energy", "dataset": "digits", "groups": groups,
          "shifted": shifted}]
    )  # fmt: skip
    demo.write_plan()
    if scores is not None:
        columns = {"scorer": "energy", "ood_set": ood_set, "score": scores}
        demo.add(key, "ood_scores", range(len(scores)), columns)


def auroc(ood, *id_sets):
    id_ = np.concatenate(id_sets)
    return roc_auc_score(np.r_[np.ones(len(ood)), np.zeros(len(id_))], np.r_[ood, id_])


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    shifts = {"own": 0, "fog": 0.7, "a": 1.2, "b": 2.0, "evaded": 0.4}
    return {name: rng.normal(shift, 1, N) for name, shift in shifts.items()}


@pytest.fixture
def table(tmp_path, scores):
    demo = Demo(tmp_path)
    demo.ask("predict", "clean", "clean", params={"source": "clean"})
    scored(demo, None, scores["own"])
    scored(demo, "a", scores["a"], ["near"])
    scored(demo, "a", scores["evaded"], ["near"], evasion={"norm": "linf", "eps": 0.1, "steps": 5})
    scored(demo, "b", scores["b"], ["near", "all"])
    scored(demo, "digits+fog:3", scores["fog"], shifted=True)
    return Results.open(tmp_path)


def rows(table, **where):
    found = table.table("demo", "ood").to_dicts()
    return [row for row in found if all(row[key] == value for key, value in where.items())]


def test_a_group_is_the_mean_over_its_sets(table, scores):
    (near,) = rows(table, group="near", ood_set=None)
    by_hand = [auroc(scores[name], scores["own"]) for name in "ab"]
    assert near["auroc"] == pytest.approx(np.mean(by_hand))
    assert (near["auroc_n"], near["auroc_n_id"], near["auroc_status"]) == (2 * N, N, "done")
    assert near["auroc_low"] < near["auroc"] < near["auroc_high"]
    (b,) = rows(table, ood_set="b")
    assert b["group"] == "near, all"


def test_the_full_spectrum_has_shifted_id_data_as_id(table, scores):
    plain, _ = rows(table, ood_set="a")
    name = "auroc_full_spectrum"
    assert plain[name] == pytest.approx(auroc(scores["a"], scores["own"], scores["fog"]))
    assert (plain[f"{name}_n"], plain[f"{name}_n_id"]) == (N, 2 * N)
    assert plain[name] < plain["auroc"]
    (fog,) = rows(table, ood_set="digits+fog:3")
    assert (fog[name], fog[f"{name}_status"]) == (None, "not asked")
    assert fog["auroc"] == pytest.approx(auroc(scores["fog"], scores["own"]))


def test_an_evasion_is_a_row_of_its_own_against_the_same_id_data(table, scores):
    plain, evaded = rows(table, ood_set="a")
    assert (plain["norm"], evaded["norm"], evaded["eps"]) == (None, "linf", 0.1)
    assert evaded["auroc"] == pytest.approx(auroc(scores["evaded"], scores["own"]))
    assert evaded["auroc_n_id"] == N


def test_a_group_that_is_there_evaded_alone_has_no_row(tmp_path, scores):
    demo = Demo(tmp_path)
    demo.ask("predict", "clean", "clean", params={"source": "clean"})
    scored(demo, None, scores["own"])
    for name in "ab":
        scored(demo, name, scores[name], ["near"], evasion={"norm": "linf", "eps": 0.1})
    found = rows(Results.open(tmp_path))
    assert [row["ood_set"] for row in found] == ["a", "b"]


def test_the_leaderboard_looks_at_what_is_ood_and_as_it_is(table, scores):
    row = table.leaderboard("demo").row(0, named=True)
    assert row["auroc"] == pytest.approx(auroc(scores["a"], scores["own"]))
    assert row["auroc_of"] == "energy / a"


def test_a_group_and_the_full_spectrum_wait_for_all(tmp_path, scores):
    demo = Demo(tmp_path)
    demo.ask("predict", "clean", "clean", params={"source": "clean"})
    scored(demo, None, scores["own"])
    scored(demo, "a", scores["a"], ["near"])
    scored(demo, "b", None, ["near"])
    scored(demo, "digits+fog:3", None, shifted=True)
    results = Results.open(tmp_path)
    (near,) = rows(results, group="near", ood_set=None)
    assert (near["auroc"], near["auroc_n"], near["auroc_status"]) == (None, 0, "running")
    (a,) = rows(results, ood_set="a")
    assert a["auroc"] is not None
    assert (a["auroc_full_spectrum"], a["auroc_full_spectrum_status"]) == (None, "running")


def test_a_set_that_was_tuned_on_is_seen_whatever_its_split(tmp_path, scores):
    demo = Demo(tmp_path)
    demo.ask("predict", "clean", "clean", params={"source": "clean"})
    tune = {"set": "a", "split": "validation"}
    scored(demo, None, scores["own"], tune=tune)
    scored(demo, "a", scores["a"], tune=tune)
    scored(demo, "b", scores["b"], tune=tune)
    a, b = rows(Results.open(tmp_path))
    assert (a["seen"], a["seen_by"], b["seen"], b["seen_by"]) == (True, "tuned on", False, None)


def test_a_group_without_a_mean_says_of_which_set_there_is_none(tmp_path, scores):
    demo = Demo(tmp_path)
    demo.ask("predict", "clean", "clean", params={"source": "clean"})
    scored(demo, None, np.zeros(N))
    scored(demo, "a", np.zeros(N), ["near"])
    scored(demo, "b", scores["b"], ["near"])
    (near,) = rows(Results.open(tmp_path), group="near", ood_set=None)
    assert (near["auroc"], near["auroc_status"]) == (None, "done")
    assert near["why"] == "a: constant scores"
