import math

import numpy as np
import polars as pl
import pytest
from scipy.stats import binomtest

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.results.seeds import over_seeds
from tests.demo_store import DemoSweep

N = 40
CLEAN = {"source": "clean"}


def predicted(demo, model, wrong, n=N):
    key = demo.ask("predict", "clean", "clean", model, params=CLEAN, wanted=[(0, N)])
    answers = np.where(np.isin(np.arange(n), wrong), 0, 1)
    columns = {"source": "clean", "label": 1, "logits": np.eye(2, dtype=np.float32)[answers],
               "predicted": answers, "confidence": 0.6 + 0.4 * np.arange(n) / n}  # fmt: skip
    if n:
        demo.add(key, "predictions", range(n), columns, classes=2)


def scored(demo, model, ood_set, scores):
    params = {"scorer": "energy", "ood_set": ood_set}
    key = demo.ask("score", "ood", "energy", model, params=params, wanted=[(0, len(scores))])
    columns = {"scorer": "energy", "ood_set": ood_set, "score": scores}
    demo.add(key, "ood_scores", range(len(scores)), columns)


@pytest.fixture
def three(tmp_path):
    """`good` is right everywhere, `fair` and `poor` are wrong on 10 samples each, half of them
    the same."""
    demo = DemoSweep(tmp_path)
    for name, wrong in (("poor", range(5, 15)), ("good", []), ("fair", range(10))):
        predicted(demo, (name, "standard", 0), [*wrong])
    return Results.open(tmp_path)


def test_pairs_of_accuracies(three):
    rows = three.comparisons("demo", "clean_accuracy").to_dicts()
    assert [(row["model"], row["other_model"]) for row in rows] == [
        ("poor", "good"), ("poor", "fair"), ("good", "fair"),
    ]  # fmt: skip
    worse, same, better = rows
    assert (worse["difference"], better["difference"]) == (-0.25, 0.25)
    assert worse["p"] == pytest.approx(binomtest(0, 10).pvalue)
    assert worse["p_holm"] == pytest.approx(3 * binomtest(0, 10).pvalue)
    assert (same["difference"], same["p"], same["p_holm"]) == (0, 1, 1)
    assert {row["compared"] for row in rows} == {3}
    assert {row["difference_n"] for row in rows} == {N}


def test_a_baseline_is_second_and_fewer_pairs_are_corrected_for(three):
    rows = three.comparisons("demo", "clean_accuracy", "good/standard").to_dicts()
    assert [(row["model"], row["other_model"]) for row in rows] == [
        ("poor", "good"), ("fair", "good"),
    ]  # fmt: skip
    assert {row["difference"] for row in rows} == {-0.25}
    assert {row["p_holm"] for row in rows} == {2 * binomtest(0, 10).pvalue}
    with pytest.raises(InputError, match="there are: poor/standard/0, good"):
        three.comparisons("demo", None, "goo")
    with pytest.raises(InputError, match="clean_accuracy"):
        three.comparisons("demo", "accuracy")


def test_tiers_stand_in_the_order_of_the_values(three):
    rows = three.tiers("demo", "clean_accuracy").to_dicts()
    assert [(row["model"], row["tier"]) for row in rows] == [("good", 1), ("poor", 2), ("fair", 2)]
    assert [row["value"] for row in rows] == [1, 0.75, 0.75]
    assert rows[0]["first_in_halves"] > 0.99
    metrics = three.table("demo", "tiers")["metric"].unique(maintain_order=True).to_list()
    assert metrics == ["clean_accuracy", "ece", "aurc"]


def test_half_a_model_is_compared_on_its_half(tmp_path):
    demo = DemoSweep(tmp_path)
    predicted(demo, ("a", None, None), [0, 1, 30])
    predicted(demo, ("b", None, None), [], n=20)
    predicted(demo, ("c", None, None), [], n=0)
    (row,) = Results.open(tmp_path).comparisons("demo", "clean_accuracy").to_dicts()
    assert (row["difference"], row["difference_n"]) == (-0.1, 20)
    assert (row["n"], row["other_n"]) == (40, 20)
    tiers = Results.open(tmp_path).tiers("demo", "clean_accuracy").to_dicts()
    assert [row["first_in_halves"] for row in tiers] == [None, None]


def test_aurocs_are_compared_on_both_sets_and_constant_ones_not_at_all(tmp_path):
    demo = DemoSweep(tmp_path)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=100)
    for name, shift in (("near", 1.0), ("far", 2.0), ("flat", None)):
        scored(demo, (name, None, None), None, noise[:60] * (shift is not None))
        ood = np.zeros(40) if shift is None else noise[60:] + shift
        scored(demo, (name, None, None), "other", ood)
    (row,) = Results.open(tmp_path).comparisons("demo", "auroc").to_dicts()
    assert (row["difference_n"], row["difference_n_id"], row["ood_set"]) == (40, 60, "other")
    assert row["difference"] < 0
    assert row["p"] < 0.001
    assert row["difference_high"] < 0


def test_what_cannot_be_tested_says_why(tmp_path):
    demo = DemoSweep(tmp_path)
    for name, distance in (("a", math.inf), ("b", 1.0)):
        key = demo.ask("attack", "attacks", "deepfool", (name, None, None), norm="l2")
        found = math.isfinite(distance)
        columns = {"attack": "deepfool", "norm": "l2", "success": found, "check": "ok",
                   "distance": distance if found else None}  # fmt: skip
        demo.add(key, "attacks", range(10), columns)
    (row,) = Results.open(tmp_path).comparisons("demo", "median_distance").to_dicts()
    assert (row["difference"], row["p"], row["p_holm"]) == (None, None, None)
    assert row["why"] == "no finite difference with a variance"


def test_attacks_that_only_one_was_asked_are_named(tmp_path):
    demo = DemoSweep(tmp_path)
    for name, attacks in (("a", ["pgd", "fgsm"]), ("b", ["pgd"])):
        for attack in attacks:
            key = demo.ask("attack", "attacks", attack, (name, None, None), norm="linf", eps=[0.1])
            columns = {"attack": attack, "norm": "linf", "eps": 0.1, "success": False,
                       "check": "ok"}  # fmt: skip
            demo.add(key, "attacks", range(10), columns)
    (row,) = Results.open(tmp_path).comparisons("demo", "robust_accuracy").to_dicts()
    assert row["note"] == "not asked alike: fgsm"
    assert (row["norm"], row["eps"], row["p"]) == ("linf", 0.1, 1)


def test_over_seeds(tmp_path):
    demo = DemoSweep(tmp_path)
    for seed, wrong in enumerate((2, 4, 6)):
        predicted(demo, ("cnn", "standard", seed), [*range(wrong)])
    predicted(demo, ("other", None, None), [0])
    by_seed = Results.open(tmp_path).leaderboard("demo")
    cnn, other = over_seeds(by_seed).to_dicts()
    accuracies = 1 - np.array([2, 4, 6]) / N
    assert cnn["clean_accuracy"] == pytest.approx(accuracies.mean())
    assert cnn["clean_accuracy_spread"] == pytest.approx(accuracies.std(ddof=1))
    assert (cnn["clean_accuracy_seeds"], cnn["clean_accuracy_n"], cnn["seeds"]) == (3, N, 3)
    width = (by_seed["clean_accuracy_high"] - by_seed["clean_accuracy_low"])[:3].to_numpy()
    sampling = np.sqrt(np.mean((width / 2 / 1.959964) ** 2))
    assert cnn["clean_accuracy_sampling"] == pytest.approx(sampling, rel=1e-5)
    assert (other["clean_accuracy_seeds"], other["clean_accuracy_spread"]) == (1, None)


def test_what_a_number_is_of_stays_over_seeds():
    table = pl.DataFrame(
        {"model": ["cnn"] * 3, "seed": [0, 1, 2], "auroc": [0.8, 0.9, 0.7],
         "auroc_of": ["energy / far", "energy / near", "energy / far"],
         "seen_by": [None, "tuned on", "tuned on"]}
    )  # fmt: skip
    (row,) = over_seeds(table).to_dicts()
    assert (row["auroc_of"], row["seen_by"]) == ("energy / far; energy / near", "tuned on")


def test_recipes_are_compared_by_their_means_over_seeds(tmp_path):
    demo = DemoSweep(tmp_path)
    for training, wrongs in (("plain", (9, 10, 11)), ("noise", (1, 2, 3)), ("once", (5,))):
        for seed, wrong in enumerate(wrongs):
            predicted(demo, ("cnn", training, seed), [*range(wrong)])
    results = Results.open(tmp_path)
    rows = results.comparisons("demo", "clean_accuracy", "cnn/plain", by_seed=False).to_dicts()
    assert [(row["training"], row["other_training"]) for row in rows] == [
        ("noise", "plain"), ("once", "plain"),
    ]  # fmt: skip
    assert [row["difference"] for row in rows] == pytest.approx([8 / N, 5 / N])
    assert [(row["seeds"], row["other_seeds"], row["seed"]) for row in rows] == [
        (3, 3, None), (1, 3, None),
    ]  # fmt: skip
    assert rows[0]["p"] < rows[1]["p"]
    assert {row["compared"] for row in rows} == {2}
