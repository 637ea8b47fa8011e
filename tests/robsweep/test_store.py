"""Reading a store: tables, rows, adversarials and counterexamples joined with their images."""

import numpy as np
import pytest
import torch

import robsweep as rob
from robsweep.orchestrator.results.results import TABLES, Results
from robsweep.tasks.rows import TABLES as ROWS


@pytest.fixture
def store(ran):
    return rob.open(ran.store.path)


def model_of(store, seed):
    """The trained network of a seed, put together from the stored weights by hand."""
    from safetensors.torch import load

    row = store.plan("small").filter(kind="train", seed=seed).row(0, named=True)
    file = store.path / "artifacts" / "models" / f"{row['measurement_id']}.safetensors"
    first, bias, last, offset = (
        load(file.read_bytes())[name]
        for name in sorted(load(file.read_bytes()), key=lambda n: (n.rsplit(".", 1)[0], "b" in n))
    )
    return lambda x: torch.relu(torch.tensor(x).flatten(1) @ first.T + bias) @ last.T + offset


def test_every_table_that_show_knows(store):
    assert store.sweeps() == ["small"]
    results = Results.open(store.path)
    for name in TABLES:
        assert store.table("small", name).equals(results.table("small", name)), name
    board = store.table("small")
    assert set(board["seed"]) == {0, 1}
    assert set(board["clean_accuracy_n"]) == {100}


def test_rows_of_all_and_of_one_sweep(store):
    for table in ROWS:
        everything, ours = store.rows(table), store.rows(table, "small")
        assert everything.columns[:7] == ours.columns[:7]
        assert len(everything) >= len(ours), table
    # the sweep wants the first 100 samples; groups of 250 were computed
    assert store.rows("predictions")["sample"].max() == 249
    assert store.rows("predictions", "small")["sample"].max() == 99
    assert set(store.rows("verification", "small")["sample"]) == set(range(20))
    assert len(store.rows("models", "small")) == 2
    assert len(store.rows("training", "small")) == 20
    assert {"train", "attack", "screen"} <= set(store.rows("jobs", "small")["kind"])


def test_adversarials_are_joined_with_their_images(store, digits):
    found = store.adversarials("small", "pgd", seed=1)
    assert len(found) == 200
    assert found.samples.tolist() == [i for i in range(100) for _ in range(2)]
    assert found.eps.tolist() == [8 / 255, 0.1] * 100
    assert found.images.shape == found.adversarials.shape == (200, 1, 8, 8)
    assert found.images.dtype == found.adversarials.dtype == np.float32
    np.testing.assert_array_equal(found.images, digits["test"].images.numpy()[found.samples])
    np.testing.assert_array_equal(found.labels, digits["test"].labels.numpy()[found.samples])
    moved = np.abs(found.adversarials.astype(float) - found.images).reshape(200, -1).max(1)
    assert (moved <= found.eps).all()
    assert (moved[found.success & (found.distance > 0)] > 0).all()
    # what the rows say is what this very model answers
    predicted = model_of(store, 1)(found.adversarials).argmax(1).numpy()
    np.testing.assert_array_equal(predicted, found.predicted)
    np.testing.assert_array_equal(found.success, found.predicted != found.labels)


def test_one_radius_and_min_norm_attacks(store):
    both = store.adversarials("small", "pgd", seed=0)
    for eps in (8 / 255, "8/255"):
        one = store.adversarials("small", "pgd", seed=0, eps=eps)
        np.testing.assert_array_equal(one.adversarials, both.adversarials[0::2])
    closest = store.adversarials("small", "deepfool", model="mlp", training="standard", seed=0)
    assert np.isnan(closest.eps).all()
    moved = (closest.adversarials.astype(float) - closest.images).reshape(100, -1)
    broken = closest.success & (closest.distance > 0)
    norms = np.linalg.norm(moved, axis=1)
    np.testing.assert_allclose(norms[broken], closest.distance[broken], rtol=1e-6)


def test_counterexamples_refute_what_was_asked(store, digits):
    found = store.counterexamples("small", seed=0)
    rows = store.rows("verification", "small")
    plan = store.plan("small").filter(kind="train", seed=0)
    falsified = rows.filter(verdict="falsified", model_id=plan["measurement_id"][0])
    expected = set(falsified.select("sample", "eps").iter_rows())
    assert expected
    assert set(zip(found.samples.tolist(), found.eps.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(found.images, digits["test"].images.numpy()[found.samples])
    moved = np.abs(found.counterexamples.astype(float) - found.images)
    assert (moved.reshape(len(found), -1).max(1) <= found.eps).all()
    logits = model_of(store, 0)(found.counterexamples).numpy()
    own = logits[np.arange(len(found)), found.labels]
    logits[np.arange(len(found)), found.labels] = -np.inf
    assert (logits.max(1) >= own).all()
    assert set(found.properties) == {"untargeted"}
    at = store.counterexamples("small", seed=0, eps=0.06, property="untargeted")
    assert set(at.eps) == {0.06}
    assert len(at) == (found.eps == 0.06).sum()


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda s: s.table("smal"), "no sweep 'smal'; did you mean 'small'"),
        (lambda s: s.table("small", "atacks"), "no table 'atacks'; did you mean 'attacks'"),
        (lambda s: s.rows("prediction"), "did you mean 'predictions'"),
        (lambda s: s.rows("attacks", "smal"), "did you mean 'small'"),
        (lambda s: s.adversarials("small", "pgdd", seed=0), "did you mean 'pgd'"),
        (lambda s: s.adversarials("small", "pgd"), "mlp/standard/0, mlp/standard/1"),
        (lambda s: s.adversarials("small", "pgd", model="mpl"), "did you mean 'mlp'"),
        (lambda s: s.adversarials("small", "pgd", training="standart"), "mean 'standard'"),
        (lambda s: s.adversarials("small", "pgd", seed=2), "no seed 2; known: 0, 1"),
        (lambda s: s.adversarials("small", "pgd", seed=0, eps=0.2), "its radii: 8/255, 0.1"),
        (lambda s: s.adversarials("small", "pgd", seed=0, eps="x"), "no radius"),
        (lambda s: s.adversarials("small", "deepfool", seed=0, eps=1), "leave eps out"),
        (lambda s: s.adversarials("small", "silent", seed=0), "keep_adversarials: false"),
        (lambda s: s.counterexamples("small"), "fits several models"),
        (lambda s: s.counterexamples("small", seed=0, property="target"), "mean 'untargeted'"),
    ],
)
def test_wrong_questions_are_answered_by_what_there_is(store, ask, says):
    with pytest.raises(rob.InputError, match=says):
        ask(store)


def test_no_store(tmp_path):
    with pytest.raises(rob.StoreError, match=r"no store\.json"):
        rob.open(tmp_path)
