"""Data sets as words of a sweep file."""

from pathlib import Path

import numpy as np
import pytest

from robsweep.orchestrator.errors import SpecError
from robsweep.tasks.catalogue.words import Corruption, Word, base_of, word_of
from tests.sweeps import spec_of

SWEEP = """\
name: words
dataset: mnist
models:
  mlp: {hidden: [4]}
trainings:
  standard: {epochs: 1}
  exposed: {training: outlier_exposure, outliers: fashion_mnist, epochs: 1}
attacks:
  pgd: {attack: LinfPGD, eps: 0.1}
ood:
  energy: {sets: [notmnist]}
"""


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("mnist", Word("mnist")),
        ("fashion_mnist:train", Word("fashion_mnist", "train")),
        ("mnist+gaussian_noise:3", Word("mnist", None, Corruption("gaussian_noise", 3))),
        ("mnist:train+contrast:5", Word("mnist", "train", Corruption("contrast", 5))),
        ("npz:a/b+c.npz", Word("npz:a/b+c.npz")),
        ("npz:a.npz:validation+mine:f:1", Word("npz:a.npz", "validation", Corruption("mine:f", 1))),
        ("npz:0123-12+m:f@0a1b2c3d:2", Word("npz:0123-12", None, Corruption("m:f", 2, "0a1b2c3d"))),
    ],
)
def test_words_are_read_and_written(text, word):
    assert word_of(text) == word
    assert word.text == text
    assert base_of(text) == word.base


def replaced(old, new):
    assert old in SWEEP
    return SWEEP.replace(old, new)


def test_a_corrupted_data_set_is_one_of_its_own():
    spec = spec_of(replaced("dataset: mnist", "dataset: mnist+contrast:3"))
    assert spec.dataset.name == "mnist+contrast:3"
    assert spec.dataset.splits == spec_of(SWEEP).dataset.splits


def test_a_list_of_data_sets_is_an_axis():
    axis = "eps: 0.1, dataset: [mnist, mnist+contrast:3]"
    spec = spec_of(replaced("eps: 0.1", axis))
    assert [*spec.attacks] == ["pgd[dataset=mnist]", "pgd[dataset=mnist+contrast:3]"]
    named = [spec.dataset_of(entry).name for entry in spec.attacks.values()]
    assert named == ["mnist", "mnist+contrast:3"]


def test_data_and_corruptions_of_the_user(tmp_path: Path):
    (tmp_path / "mine.py").write_text("def rows(images, severity):\n    return images * 0\n")
    arrays = {"test_images": np.zeros((5, 4)), "test_labels": np.arange(5) % 2}
    np.savez(tmp_path / "mine.npz", **arrays, train_images=np.ones((5, 4)),
             train_labels=np.arange(5) % 2)  # fmt: skip
    text = """\
        name: own
        dataset: {npz: "mine.npz+mine:rows:2", classes: 3}
        models:
          mlp: {hidden: [4]}
        trainings:
          standard: {epochs: 1}
        """
    before = spec_of(text, tmp_path).dataset
    assert (before.classes, before.function, before.shape) == (3, "mine:rows", (4,))
    word = word_of(before.name)
    assert word.corruption is not None
    assert word.corruption[:2] == ("mine:rows", 2)
    (tmp_path / "mine.py").write_text("def rows(images, severity):\n    return images * 0.5\n")
    after = spec_of(text, tmp_path).dataset
    assert after.name != before.name, "other code makes other images"


def test_groups_stand_for_their_sets():
    groups = "ood_groups: {near: [notmnist, fashion_mnist], far: [uniform_noise]}\nood:"
    text = replaced("ood:", groups).replace("sets: [notmnist]", "sets: [far, near, notmnist]")
    spec = spec_of(text)
    assert spec.ood["energy"].sets == ("uniform_noise", "notmnist", "fashion_mnist")
    assert spec.ood_sets["uniform_noise"].shape == (1, 28, 28)
    assert spec.ood_groups["near"] == ("notmnist", "fashion_mnist")


WRONG = {
    "no such corruption": ("dataset: mnist", "dataset: mnist+contrst:3", 2, "did you mean 'contr"),
    "no severity": ("dataset: mnist", "dataset: mnist+contrast", 2, "NAME+CORRUPTION:SEVERITY"),
    "severity 6": ("dataset: mnist", "dataset: mnist+contrast:6", 2, "from 1 to 5"),
    "of images alone": ("dataset: mnist", "dataset: iris+rotation:3", 2, "rotation is for images"),
    "no such base": ("dataset: mnist", "dataset: mnst+contrast:3", 2, "did you mean 'mnist'"),
    "two corruptions": ("dataset: mnist", "dataset: mnist+contrast:3+contrast:2", 2, "one corr"),
    "split of the sweep": ("dataset: mnist", "dataset: mnist:train", 2, "in `sets:` of `ood:`"),
    "noise has no labels": ("dataset: mnist", "dataset: uniform_noise", 2, "no classes"),
    "entry": ("eps: 0.1", "eps: 0.1, dataset: mnist+fgo:1", 9, "attacks.pgd.dataset: unknown corr"),
    "shape": ("eps: 0.1", "eps: 0.1, dataset: digits", 9, "the models take (1, 28, 28)"),
    "classes": ("eps: 0.1", "eps: 0.1, dataset: emnist_letters", 9, "26 classes"),
    "samples": ("eps: 0.1", "eps: 0.1, samples: 10001, dataset: kmnist", 9, "10001 samples"),
    "set": ("[notmnist]", "[notmnst]", 11, "did you mean 'notmnist'"),
    "split": ("[notmnist]", "[notmnist:train]", 11, "notmnist has no split 'train'"),
    "no split": ("[notmnist]", "[fashion_mnist:trian]", 11, "did you mean 'train'"),
    "itself": ("[notmnist]", "[mnist]", 11, "mnist is the data set itself"),
    "itself, split": ("[notmnist]", "[mnist:train]", 11, "is the data set itself"),
    "exposed": ("[notmnist]", "[fashion_mnist:train]", 11, "the very split that training exposed"),
    "exposed, corrupted": ("[notmnist]", "[fashion_mnist:train+contrast:1]", 11, "the very split"),
    "no such attack": ("[notmnist]", "[adversarials:pdg]", 11, "did you mean 'pgd'"),
    "attacks others": (
        "eps: 0.1}\nood:\n  energy: {sets: [notmnist]}",
        "eps: 0.1, only: [exposed]}\nood:\n  energy: {sets: [adversarials:pgd]}",
        11,
        "pgd does not attack mlp",
    ),
    "kept none": (
        "eps: 0.1}\nood:\n  energy: {sets: [notmnist]}",
        "eps: 0.1, keep_adversarials: false}\nood:\n  energy: {sets: [adversarials:pgd]}",
        11,
        "keep_adversarials: false",
    ),
    "group of nothing": ("ood:", "ood_groups: {near: []}\nood:", 10, "expected a list"),
    "group, unknown": ("ood:", "ood_groups: {near: [notmnst]}\nood:", 10, "did you mean 'notm"),
    "group, unused": ("ood:", "ood_groups: {near: [kmnist]}\nood:", 10, "no entry of `ood:`"),
}


@pytest.mark.parametrize("what", WRONG)
def test_mistakes_are_said_with_their_line(what):
    old, new, line, message = WRONG[what]
    with pytest.raises(SpecError) as caught:
        spec_of(replaced(old, new))
    assert f"sweep.yaml:{line}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "sets", ["[fashion_mnist]", "[fashion_mnist:validation]", "[mnist+contrast:5]"]
)
def test_other_splits_and_shifted_data_may_be_tested(sets):
    spec_of(replaced("[notmnist]", sets))


def test_a_model_that_was_not_exposed_may_be_tested_on_that_split():
    spec_of(replaced("[notmnist]", "[fashion_mnist:train], exclude: [exposed]"))
