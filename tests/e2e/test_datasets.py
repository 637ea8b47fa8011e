"""A sweep that attacks and verifies corrupted digits, from its file to its tables."""

import numpy as np
import polars as pl
import pytest
from scipy.special import logsumexp

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.results.results import Results
from robsweep.tasks.data.load import load

NOISY = "digits+gaussian_noise:3"
SWEEP = f"""\
name: shifted
dataset: digits
samples: 40
models:
  mlp: {{hidden: [16]}}
trainings:
  standard: {{epochs: 20}}
attacks:
  pgd: {{attack: LinfPGD, eps: 0.05, steps: 3, dataset: [digits, {NOISY}]}}
ood_groups: {{far: [uniform_noise, photo_patches]}}
ood:
  energy: {{sets: [far, {NOISY}, "adversarials:pgd"], ood_samples: 40}}
verification:
  linf:
    {{verifier: milp, eps: 0.05, samples: 20, time_limit_seconds: 10, dataset: "{NOISY}"}}
"""


# seconds: trains, attacks and verifies
@pytest.fixture(scope="module")
def results(tmp_path_factory):
    import robsweep

    folder = tmp_path_factory.mktemp("shifted")
    (folder / "shifted.yaml").write_text(SWEEP)
    robsweep.run(folder / "shifted.yaml", store=folder / "store", address="inline")
    return Results.open(folder / "store")


def rows(results, table, kind, dataset):
    ids = results.plan("shifted").filter(kind=kind, dataset=dataset, section=SECTIONS[kind])
    wanted = results.rows(table, ids["measurement_id"].to_list()).filter(pl.col("sample") < 40)
    return wanted.sort("sample").collect()


SECTIONS = {"predict": "clean", "attack": "attacks", "screen": "verification"}


def test_clean_predictions_are_on_the_very_images_that_are_attacked_and_verified(results):
    clean = rows(results, "predictions", "predict", NOISY)
    wrong = (clean["predicted"] != clean["label"]).to_list()
    attacked = rows(results, "attacks", "attack", NOISY)
    assert ((attacked["success"] & (attacked["distance"] == 0)).fill_null(False)).to_list() == wrong
    screened = rows(results, "verification", "screen", NOISY).filter(pl.col("sample") < 20)
    assert (screened["verdict"] == "misclassified").to_list() == wrong[:20]
    own = rows(results, "predictions", "predict", "digits")
    assert own["label"].to_list() == clean["label"].to_list()
    assert own["logits"].to_list() != clean["logits"].to_list()


def test_the_leaderboard_says_each_on_its_own(results):
    own, noisy = results.leaderboard("shifted").to_dicts()
    assert (own["dataset"], noisy["dataset"]) == ("digits", NOISY)
    assert noisy["clean_accuracy"] < own["clean_accuracy"]
    assert noisy["robust_accuracy_clean"] == noisy["clean_accuracy"]
    assert own["verified_accuracy_status"] == "not asked"
    low, high = noisy["bracket_low"], noisy["bracket_high"]
    assert 0 < low <= high <= noisy["bracket_clean"]
    assert noisy["bracket_n"] == 20
    assert results.alarms("shifted").is_empty()


def test_the_ood_table_and_what_the_plan_says_of_its_sets(results):
    table = results.table("shifted", "ood")
    made = [f"adversarials:pgd[dataset={name}]:0.05" for name in ("digits", NOISY)]
    named = table.filter(pl.col("ood_set").is_not_null())["ood_set"].unique(maintain_order=True)
    assert named.to_list() == ["uniform_noise", "photo_patches", NOISY, *made]
    assert table["dataset"].unique().to_list() == ["digits"]
    asked = {a.params["ood_set"]: a for a in results.models("shifted")[0].of("score")}
    assert {name: one.groups for name, one in asked.items()} == {
        None: (), "uniform_noise": ("far",), "photo_patches": ("far",), NOISY: (),
        **dict.fromkeys(made, ()),
    }  # fmt: skip
    assert [name for name, one in asked.items() if one.shifted] == [NOISY]


def test_adversarials_are_joined_with_the_images_they_were_made_of(results):
    import robsweep

    store = robsweep.open(results.store.root)
    found = store.adversarials("shifted", f"pgd[dataset={NOISY}]")
    images = load(NOISY, "test", "").images.numpy()[found.samples]
    np.testing.assert_array_equal(found.images, images)
    moved = np.abs(found.adversarials.astype(float) - images).reshape(len(images), -1).max(1)
    assert 0.04 < moved.max() <= 0.05


def test_adversarials_are_scored_as_the_attack_has_stored_them(results):
    """The attack has kept its logits too: energy is minus their log-sum-exp."""
    for dataset in ("digits", NOISY):
        (attack,) = results.plan("shifted").filter(kind="attack", dataset=dataset).to_dicts()
        kept = results.rows("predictions", [attack["measurement_id"]]).filter(pl.col("sample") < 40)
        logits = np.array(kept.sort("sample").collect()["logits"].to_list(), dtype=np.float64)
        name = f"adversarials:{attack['measurement_id']}:0.05"
        scores = results.rows("ood_scores").filter(pl.col("ood_set") == name).sort("sample")
        scores = scores.filter(pl.col("sample") < 40).collect()["score"].to_numpy()
        np.testing.assert_allclose(scores, -logsumexp(logits, axis=1), rtol=1e-5)


def test_only_what_broke_counts_as_adversarial(results):
    table = results.table("shifted", "ood")
    found = {row["ood_set"]: row for row in table.to_dicts()}
    for dataset in ("digits", NOISY):
        attacked = rows(results, "attacks", "attack", dataset)
        hits = attacked.filter("success", pl.col("distance") > 0)
        assert found[f"adversarials:pgd[dataset={dataset}]:0.05"]["auroc_n_ood"] == len(hits) > 0


def test_adversarials_of_another_sweep_on_the_store(results, tmp_path):
    import robsweep

    def run(name, word):
        text = SWEEP.partition("attacks:")[0].replace("name: shifted", f"name: {name}")
        text += f'ood:\n  energy: {{sets: ["adversarials:{word}"], ood_samples: 40}}\n'
        (tmp_path / "other.yaml").write_text(text)
        robsweep.run(tmp_path / "other.yaml", store=results.store.root, address="inline")
        return Results.open(results.store.root).table(name, "ood")

    own = {row["ood_set"]: row for row in results.table("shifted", "ood").to_dicts()}
    for row in run("other", "shifted/pgd").to_dicts():
        same = own[row["ood_set"].replace("shifted/", "")]
        assert (row["auroc"], row["auroc_n_ood"]) == (same["auroc"], same["auroc_n_ood"])
    with pytest.raises(InputError, match="no attack 'pdg' that has run; did you mean 'pgd"):
        run("wrong", "shifted/pdg")
    with pytest.raises(InputError, match="no sweep 'shiftd' on this store"):
        run("wrong", "shiftd/pgd")
