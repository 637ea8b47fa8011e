"""Scorers that a sweep file cannot mean: refused with their line, before anything is computed."""

import numpy as np
import pytest

from robsweep.orchestrator.errors import InputError, SpecError
from tests.sweeps import SMALL, plan_of, spec_of

ENERGY = "  energy: {sets: [photo_patches]}\n"


def text(entry, models="  mlp: {hidden: [16]}\n"):
    return SMALL.replace(ENERGY, f"  {entry}\n").replace("  mlp: {hidden: [16]}\n", models)


@pytest.fixture
def other(tmp_path, monkeypatch):
    """A data set of the digits' shape with splits of its own."""
    monkeypatch.chdir(tmp_path)
    splits = ("validation", "test")
    arrays = {f"{s}_images": np.random.default_rng(0).random((9, 8, 8), np.float32) for s in splits}
    np.savez("other.npz", **arrays, **{f"{s}_labels": np.arange(9) % 3 for s in splits})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("energy: {sets: [photo_patches], tune: {set: photo_patches}}", "a search of odin's"),
        (
            "odin: {sets: [photo_patches], tune: {set: photo_patches, split: test}}",
            "photo_patches is tested on the very test split that odin is tuned on",
        ),
        (
            "odin: {sets: [photo_patches], tune: {set: photo_patches}}",
            "photo_patches has no validation split; it has test",
        ),
        ("odin: {sets: [photo_patches], tune: {set: digits}}", "the data set itself"),
        ("odin: {sets: [photo_patches], tune: {set: mnist}}", r"has shape \(1, 28, 28\)"),
        (
            "odin: {sets: ['npz:other.npz:validation'], tune: {set: 'npz:other.npz'}}",
            "the very validation split",
        ),
        ("vim: {sets: [photo_patches], members: mean}", "fitted to the ensemble"),
        ("mutual_information: {sets: [photo_patches], members: mean}", "all members together"),
        ("energy: {sets: [photo_patches], evasion: {eps: 2}}", "eps 2 in norm linf"),
        ("energy: {sets: [photo_patches], evasion: {eps: 0.1, norm: l1}}", "linf"),
        ("knn: {sets: [photo_patches], k: 0}", "expected at least 1"),
        ("vim: {sets: [photo_patches], fit_samples: 9}", "fewer than the 10 classes of digits"),
        ("vim: {sets: [photo_patches], pool: max}", "unknown pool 'max'"),
    ],
)
def test_it_is_refused_with_its_line(other, entry, message):
    with pytest.raises(SpecError, match=message) as caught:
        spec_of(text(entry))
    assert "sweep.yaml:1" in str(caught.value)


def test_scores_of_members_are_of_ensembles():
    for entry in ("mi: {scorer: mutual_information,", "mean: {scorer: energy, members: mean,"):
        with pytest.raises(InputError, match="mlp is none: name those that are, with `only:`"):
            plan_of(text(f"{entry} sets: [photo_patches]}}"))


def test_what_is_tuned_or_pushed_is_a_measurement_of_its_own(other):
    plain = plan_of(text("odin: {sets: ['npz:other.npz']}")).measurements
    tuned = plan_of(text("odin: {sets: ['npz:other.npz'], tune: {set: 'npz:other.npz'}}"))
    pushed = plan_of(text("odin: {sets: ['npz:other.npz'], evasion: {eps: [0.1, 0.2]}}"))
    scores = {k for k, one in plain.items() if one.measurement.kind == "score"}
    assert not scores & tuned.measurements.keys()
    assert scores <= pushed.measurements.keys()
    assert len(pushed.measurements) == len(plain) + 2 * 2  # two seeds, two radii


def test_scores_that_share_a_fit_or_features_share_them():
    both = text("vim: {sets: [photo_patches]}\n  residual: {sets: [photo_patches]}")
    kinds = [one.measurement.kind for one in plan_of(both).measurements.values()]
    assert kinds.count("fit") == 2  # one for each seed
    assert kinds.count("features") == 2 * 3  # the training split, the test split and the OOD set
    wider = text(
        "vim: {sets: [photo_patches]}\n  other: {scorer: vim, dim: 3, sets: [photo_patches]}"
    )
    kinds = [one.measurement.kind for one in plan_of(wider).measurements.values()]
    assert (kinds.count("fit"), kinds.count("features")) == (4, 6)


def test_what_a_search_looks_at_is_loaded_before_anything_is_computed(other):
    checked = plan_of(text("odin: {sets: [photo_patches], tune: {set: 'npz:other.npz'}}"))
    of_splits = [one.measurement.split for one in checked.preflights]
    assert of_splits.count("validation") == 1
