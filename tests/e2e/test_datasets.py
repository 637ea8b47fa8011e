"""A sweep that attacks and verifies corrupted digits, from its file to its tables."""

import numpy as np
import polars as pl
import pytest

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
  energy: {{sets: [far, {NOISY}], ood_samples: 40}}
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
    assert table["ood_set"].to_list() == ["uniform_noise", "photo_patches", NOISY]
    assert table["dataset"].unique().to_list() == ["digits"]
    asked = {a.params["ood_set"]: a for a in results.models("shifted")[0].of("score")}
    assert {name: one.groups for name, one in asked.items()} == {
        None: (), "uniform_noise": ("far",), "photo_patches": ("far",), NOISY: (),
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
