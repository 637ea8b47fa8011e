"""Scorers against each other on one model, and over its seeds."""

import json

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.results import Results
from tests.demo_store import DemoSweepOfUses

N, SEEDS = 150, (0, 1, 2)
SHIFTS = {"sharp": 2.0, "alike": 1.95, "blunt": 0.8}  # of the OOD sets, in ID's deviations
SETS = ("letters", "letters+fog:3", "clothes")


def ask(demo, seed, scorer, ood_set, scores):
    params = {"scorer": scorer, "ood_set": ood_set}
    model = ("cnn", "exposed", seed)
    key = demo.ask("score", "ood", scorer, model, params=params, wanted=[(0, N)], dataset="digits")
    groups = ["outside"] if ood_set else []
    use = {"section": "ood", "entry": scorer, "dataset": "digits", "groups": groups}
    demo._asked(key)["uses_json"] = json.dumps([{**use, "shifted": False}])
    columns = {"scorer": scorer, "ood_set": ood_set, "score": scores}
    demo.add(key, "ood_scores", range(N), columns)


@pytest.fixture(scope="module")
def drawn():
    """Scores of every seed, scorer and set: what an image looks like is common to them all."""
    rng = np.random.default_rng(0)
    images = {name: rng.normal(0, 1, N) for name in ("digits", "letters", "clothes")}
    found = {}
    for seed in SEEDS:
        for scorer, shift in SHIFTS.items():
            for name in (None, *SETS):
                base = images[(name or "digits").partition("+")[0]]
                own = base + rng.normal(0, 0.2, N)
                found[seed, scorer, name] = own if name is None else own + shift
    return found


@pytest.fixture(scope="module")
def results(tmp_path_factory, drawn):
    place = tmp_path_factory.mktemp("scorers")
    demo = DemoSweepOfUses(place)
    for seed in SEEDS:
        params = {"parameters": {"outliers": "clothes"}}
        key = demo.ask("train", "models", "cnn", ("cnn", "exposed", seed), params=params)
        demo._asked(key)["measurement_id"] = f"cnn-exposed-{seed}"
    for key, scores in drawn.items():
        ask(demo, *key, scores)
    demo.write_plan()
    return Results.open(place)


def auroc(drawn, seed, scorer, names):
    own = drawn[seed, scorer, None]
    return np.mean(
        [roc_auc_score([0] * N + [1] * N, np.r_[own, drawn[seed, scorer, name]]) for name in names]
    )


def test_each_model_ranks_its_scorers_on_each_set_and_group(results, drawn):
    table = results.tiers("demo", "scorer_auroc")
    assert len(table) == len(SEEDS) * len(SHIFTS) * (len(SETS) + 1)
    for row in table.iter_rows(named=True):
        names = [row["ood_set"]] if row["ood_set"] else SETS
        wanted = auroc(drawn, row["seed"], row["scorer"], names)
        assert row["value"] == pytest.approx(wanted)
        assert row["value_low"] < row["value"] < row["value_high"]
        assert row["value_n"] == N * (1 if row["ood_set"] else 2)  # images
        if row["scorer"] != "alike":  # chance decides whether that one is told apart
            assert row["tier"] == 1 or row["scorer"] == "blunt"
            assert (row["alike_beyond"] is None) == (row["scorer"] == "sharp") or row["tier"] > 1
        assert row["seen_by"] == ("trained on" if row["ood_set"] in ("clothes", None) else None)
    assert set(table["group"].drop_nulls()) == {"outside"}


def test_a_difference_over_a_group_by_leaving_out_images(results, drawn):
    rows = results.comparisons("demo", "scorer_auroc", "blunt").to_dicts()
    row = next(r for r in rows if r["group"] and r["seed"] == 0 and r["scorer"] == "sharp")
    assert (row["other_scorer"], row["difference_n"], row["difference_n_id"]) == (
        "blunt", 2 * N, N,  # the fog is on the very same letters
    )  # fmt: skip

    def difference(own, letters, clothes):
        found = []
        for scorer in ("sharp", "blunt"):
            id_ = drawn[0, scorer, None][own]
            for name in SETS:
                keep = letters if name.startswith("letters") else clothes
                ood = drawn[0, scorer, name][keep]
                found.append(roc_auc_score([0] * len(id_) + [1] * len(ood), np.r_[id_, ood]))
        return np.mean(found[:3]) - np.mean(found[3:])

    everyone = np.arange(N)
    assert row["difference"] == pytest.approx(difference(everyone, everyone, everyone))
    variance = 0.0
    for part in range(3):
        left_out = []
        for i in range(N):
            kept = [everyone] * 3
            kept[part] = np.delete(everyone, i)
            left_out.append(difference(*kept))
        variance += (N - 1) * np.var(left_out)
    half = (row["difference_high"] - row["difference_low"]) / 2
    assert half == pytest.approx(norm.ppf(0.975) * np.sqrt(variance), rel=0.02)


def test_over_seeds_a_scorer_is_one_recipe(results, drawn):
    table = results.tiers("demo", "scorer_auroc", by_seed=False)
    assert len(table) == len(SHIFTS) * (len(SETS) + 1)
    for row in table.iter_rows(named=True):
        names = [row["ood_set"]] if row["ood_set"] else SETS
        wanted = np.mean([auroc(drawn, seed, row["scorer"], names) for seed in SEEDS])
        assert row["value"] == pytest.approx(wanted)
        assert (row["seeds"], row["seed"], row["model_id"]) == (3, None, None)
        if row["scorer"] != "alike":  # chance decides whether that one is told apart
            assert row["tier"] == 1 or row["scorer"] == "blunt"
            assert (row["alike_beyond"] is None) == (row["scorer"] == "sharp") or row["tier"] > 1
    rows = results.comparisons("demo", "scorer_auroc", by_seed=False).to_dicts()
    assert len(rows) == 3 * (len(SETS) + 1)
    assert {row["seeds"] for row in rows} == {3}


def test_scorers_are_compared_only_where_it_is_asked_for(results):
    assert set(results.comparisons("demo")["metric"]) == {"auroc"}
    assert results.comparisons("demo")["other_scorer"].is_null().all()
    with pytest.raises(InputError, match="'energy': no such scorer; there are: sharp, alike"):
        results.comparisons("demo", "scorer_auroc", "energy")
