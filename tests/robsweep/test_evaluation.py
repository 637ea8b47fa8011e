"""A live model: the numbers of `robsweep eval`, and a model that is afterwards as it was."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import robsweep as rob

NETS = """
from torch import nn


def small(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, classes))
"""
# What tells whose rows they are, and how long they took.
NAMES = ["measurement_id", "model_id", "weights_sha256", "dataset", "seconds"]


def of_the_job(rows, *by):
    there = [name for name in NAMES if name in rows.columns]
    return rows.drop(there).sort(*by, nulls_last=True)


def test_the_numbers_are_those_of_eval(robsweep, net, digits, tmp_path):
    # several seconds: all of the test split twice
    (tmp_path / "nets_of_test.py").write_text(NETS)
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    words = ["--weights", "net.safetensors", "--dataset", "digits", "--eps", "8/255", "--eps"]
    words += ["0.1", "--verify", "20", "--time-limit", "20"]
    code, _, err = robsweep("eval", "nets_of_test:small", *words)
    assert code == 0, err
    store = rob.open("results")
    (sweep,) = store.sweeps()

    images, labels = digits["test"]
    found = rob.evaluate(
        net,
        images,
        labels,
        eps=["8/255", 0.1],
        verify=20,
        time_limit_seconds=20,
        validation=digits["validation"],
    )
    for table in ("leaderboard", "attacks", "calibration", "verification", "honesty"):
        theirs, ours = store.table(sweep, table), found.table(table)
        same = [name for name in theirs.columns if name not in NAMES]
        assert theirs.select(same).equals(ours.select(same)), table
        assert len(ours) > 0, table
    board = store.table(sweep).filter(eps=0.1).row(0, named=True)
    assert found.clean_accuracy.value == board["clean_accuracy"]
    assert found.robust_accuracy[0.1] == rob.Estimate(
        *(board[f"robust_accuracy{part}"] for part in ("", "_low", "_high", "_n"))
    )
    assert found.verified_accuracy[0.1].value == board["verified_accuracy"]
    assert found.bracket[0.1] == (board["bracket_low"], board["bracket_high"], 20)
    assert found.ece.value == board["ece"]
    assert found.ece_scaled is not None
    assert found.ece_scaled.value == board["ece_scaled"]
    assert found.eps == (8 / 255, 0.1)

    theirs = of_the_job(store.rows("attacks", sweep), "attack", "sample", "eps")
    assert theirs.equals(of_the_job(found.attacks, "attack", "sample", "eps"))
    clean = [rows.filter(source="clean") for rows in (store.rows("predictions"), found.predictions)]
    assert of_the_job(clean[0], "split", "sample").equals(of_the_job(clean[1], "split", "sample"))
    assert len(found.verification) == 40


@pytest.fixture(scope="module")
def hardened(digits):
    """The same perceptron, each step on what five of PGD give in the ball of radius 0.1."""
    images, labels = digits["train"]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        x = images
        for _ in range(5):
            x = x.detach().requires_grad_()
            loss = nn.functional.cross_entropy(model(x), labels)
            (up,) = torch.autograd.grad(loss, x)
            x = (x + 0.04 * up.sign()).clamp(images - 0.1, images + 0.1).clamp(0, 1)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x.detach()), labels).backward()
        optimiser.step()
    return model


# Seconds: targeted APGD has a run for each of nine classes.
@pytest.mark.parametrize(("norm", "eps"), [("linf", [0.03, 0.1]), ("l2", [0.3, 1.0])])
def test_the_attacks_by_default_contradict_no_honest_model(net, hardened, some, norm, eps):
    few = tuple(part[:60] for part in some)
    for model in (net, hardened):
        found = rob.evaluate(model, *few, eps=eps, norm=norm).table("honesty")
        shown = found.select("check", "status", "violations", "detail").rows()
        assert not [row for row in shown if row[1] == "fail"]
        assert len([row for row in shown if row[1] == "warn"]) <= 2
        ran = {row[0] for row in shown if row[1] != "not run"}
        assert {"loss increases", "gradients are of use"} <= ran


def test_per_sample_rows_give_the_metrics(net, some):
    found = rob.evaluate(net, *some, eps=0.05, verify=10)
    with torch.no_grad():
        right = net(some[0]).argmax(1) == some[1]
    assert found.clean_accuracy.value == right.double().mean().item()
    clean = found.predictions.filter(source="clean").sort("sample")
    np.testing.assert_array_equal(clean["predicted"] == clean["label"], right.numpy())
    survivors = {*range(100)} - set(found.attacks.filter(success=True)["sample"])
    assert found.robust_accuracy[0.05].value == len(survivors) / 100
    verified = set(found.verification.filter(verdict="verified")["sample"])
    assert verified <= survivors
    assert found.verified_accuracy[0.05].value == len(verified) / 10
    assert found.bracket[0.05].n == 10
    assert "robust_accuracy" in repr(found)


def test_what_images_and_labels_may_be(net, some):
    images, labels = some
    found = [
        rob.evaluate(net, *given, attacks="LinfFastGradient").table("attacks").drop("seconds")
        for given in (
            (images, labels),
            (images[:, 0], labels.int()),
            (images.numpy(), labels.tolist()),
            (images.double().requires_grad_(), labels),
        )
    ]
    assert all(rows.drop("model_id").equals(found[0].drop("model_id")) for rows in found)
    flat = rob.evaluate(net, images.flatten(1), labels, attacks="LinfFastGradient", verify=3)
    assert flat.robust_accuracy[0.1] == rob.Estimate(
        *found[0].filter(attack="worst_case")[0].select("^robust_accuracy(_low|_high|_n)?$").row(0)
    )
    assert len(flat.verification) == 3


def test_attacks_of_all_kinds(net, some):
    few = tuple(part[:30] for part in some)
    entries = {
        "two": {"attack": "LinfPGD", "steps": 2},
        "ten": {"attack": "LinfPGD", "steps": 10, "eps": 0.05},
        "far": {"attack": "L2DeepFool"},
    }
    found = rob.evaluate(net, *few, eps=0.1, attacks=entries)
    shown = found.table("attacks")
    assert set(shown["attack"]) == {"two", "ten", "far", "worst_case"}
    assert shown.filter(attack="far")["median_distance"][0] > 0
    assert set(found.robust_accuracy) == {0.05, 0.1}
    names = rob.evaluate(net, *few, norm="l2", eps=0.5, attacks=["L2PGD", "fab"])
    assert set(names.table("attacks").filter(eps=0.5)["norm"]) == {"l2"}
    assert not names.attacks.is_empty()
    none = rob.evaluate(net, *few, attacks=())
    assert none.attacks.is_empty()
    assert none.robust_accuracy == {}
    assert none.clean_accuracy.n == 30


class Looping(nn.Module):
    """torch.fx cannot follow a decision on values."""

    def __init__(self, net) -> None:
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images) if images.sum() > -1 else -self.net(images)


def test_a_model_that_cannot_be_read_is_attacked_and_not_verified(net, some):
    model = Looping(net)
    same, plain = (rob.evaluate(m, *some, eps=0.1, attacks="LinfPGD") for m in (model, net))
    assert same.robust_accuracy == plain.robust_accuracy
    assert same.ece == plain.ece
    with pytest.raises(rob.InputError, match=r"verify=5: the model cannot be verified: .*trace"):
        rob.evaluate(model, *some, verify=5)


def bad_model(answer):
    class Bad(nn.Module):
        def forward(self, images):
            return answer(images)

    return Bad()


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: x.no_such_thing, "raised AttributeError"),
        (lambda x: x.flatten(1).tolist(), "gave a list"),
        (lambda x: x, "not logits"),
        (lambda x: x.flatten(1)[:, :10].double(), "float64"),
        (lambda x: x.flatten(1)[:, :10] / 0 * 0, "not finite"),
        (lambda x: x.flatten(1)[:, :5], "has label 9, .* only 5 classes"),
        (lambda x: x.flatten(1)[:, :10].detach(), "cannot be attacked by its gradients"),
    ],
)
def test_a_model_that_is_none(some, answer, says):
    with pytest.raises(rob.InputError, match=says):
        rob.evaluate(bad_model(answer), *some)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x * 255, y), r"lie in \[0, 255\]"),
        (lambda x, y: ((x * 255).byte(), y), "divide by 255"),
        (lambda x, y: (x / 0, y), "not all finite"),
        (lambda x, y: (x[:5], y), r"labels have shape \(100,\) for 5 images"),
        (lambda x, y: (x, y.float()), "expected classes counted from 0"),
        (lambda x, y: (x, y - 1), "expected classes counted from 0"),
        (lambda x, y: (x[0, 0, 0], y), r"images have shape \(8,\)"),
        (lambda x, y: (x[:0], y[:0]), "images have shape"),
    ],
)
def test_wrong_samples(net, some, change, says):
    with pytest.raises(rob.InputError, match=says):
        rob.evaluate(net, *change(*some))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"norm": "linff"}, "norm='linff'; did you mean 'linf'"),
        ({"norm": "l1"}, "norm='l1' has no attacks by default"),
        ({"norm": "l0", "verify": 1}, "needs a norm of linf, l2, l1"),
        ({"verify": 101}, "there are 100 samples"),
        ({"verify": -1}, "there are 100 samples"),
        ({"eps": 2}, r"evaluate: attacks\.pgd\.eps: .*pixels are 0 to 1"),
        ({"attacks": ["LinfPDG"]}, "did you mean 'LinfPGD'"),
        ({"attacks": {"a": {"attack": "LinfPGD", "step": 1}}}, r"attacks\.a\.step: .*mean 'steps'"),
        ({"device": "tpu9"}, "device='tpu9'"),
    ],
)
def test_wrong_options(net, some, options, says):
    with pytest.raises(rob.InputError, match=says):
        rob.evaluate(net, *some, **options)


def test_nothing_is_written_and_other_copies_give_the_same(net, some, tmp_path):
    few = tuple(part[:30] for part in some)
    other = copy.deepcopy(net)
    a, b = (rob.evaluate(m, *few, attacks="LinfPGD", verify=2) for m in (net, other))
    assert [*tmp_path.iterdir()] == []
    assert a.attacks.drop("seconds").equals(b.attacks.drop("seconds"))
    with torch.no_grad():
        other[1].weight += 1e-3
    c = rob.evaluate(other, *few, attacks="LinfPGD")
    assert set(c.attacks["model_id"]).isdisjoint(a.attacks["model_id"])
    assert set(c.attacks["measurement_id"]).isdisjoint(a.attacks["measurement_id"])


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda z: z.softmax(dim=1), "probabilities"),
        (lambda z: nn.functional.dropout(z, 0.5), "differently each time"),
        (lambda z: z - z.mean(dim=0), "other images of its batch"),
    ],
)
def test_what_looks_wrong_in_a_model_is_said(net, some, answer, says):
    found = rob.evaluate(bad_model(lambda x: answer(net(x))), *some, attacks=())
    (text,) = found.warnings
    assert says in text
    assert found.table()["warnings"].to_list() == [text]
    assert text in repr(found)
    assert rob.evaluate(net, *some, attacks=()).warnings == ()


def test_an_attack_that_always_raises_is_missed_and_loses_nothing(net, some):
    Path("raises.py").write_text("def attack(model, images, labels, eps):\n    raise KeyError(3)\n")
    mine = {"mine": {"attack": "raises:attack"}}
    pgd = {"attack": "LinfPGD"}
    alone = rob.evaluate(net, *some, attacks={"pgd": pgd})
    found = rob.evaluate(net, *some, attacks=mine | {"pgd": pgd})
    assert found.robust_accuracy == alone.robust_accuracy
    assert found.clean_accuracy == alone.clean_accuracy
    assert "mine: raised KeyError" in found.table()["missing_attacks"][0]
    assert {one.name for one in found.failures} == {"raises:attack"}
    assert "raise KeyError(3)" in found.failures[0].error
    assert "KeyError: 3" in repr(found)
    assert alone.failures == ()
    only = rob.evaluate(net, *some, attacks=mine)
    assert only.robust_accuracy[0.1].value is None
    assert only.table()["robust_accuracy_status"].to_list() == ["failed"]
    assert only.clean_accuracy == alone.clean_accuracy


def test_what_looks_wrong_in_samples_is_said(net, digits):
    images, labels = digits["test"]

    def said(x, y, **more):
        return rob.evaluate(net, x, y, attacks=(), **more).warnings

    assert said(images, labels, validation=digits["validation"]) == ()
    (text,) = said(images[labels > 0], labels[labels > 0])
    assert "labels go from 1 to 9" in text
    (text,) = said(images[labels != 4], labels[labels != 4])
    assert "no sample of class 4, of 10" in text
    assert said(images[:3], labels[:3]) == ()  # too few to tell
    (text,) = said(images, labels, validation=(images[:50], labels[:50]))
    assert "50 of" in text
    assert "also in validation" in text
    last = images.reshape(-1, 4, 4, 4).repeat(1, 2, 2, 1)[:, :, :, :1]
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (text,) = rob.evaluate(model, last, labels, attacks=()).warnings
    assert "permute(0, 3, 1, 2)" in text
