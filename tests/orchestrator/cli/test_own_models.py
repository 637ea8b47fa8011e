"""What a user is told of a model and of data of their own, at the run and in the store."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load, save_file
from sklearn.datasets import load_digits

from robsweep.orchestrator.results.results import Results
from robsweep.orchestrator.run import session
from robsweep.orchestrator.settings import Settings
from robsweep.orchestrator.spec.one_model import spec_for
from robsweep.tasks.job import Inputs, ModelRef
from robsweep.tasks.jobs import run
from tests.stores import all_rows
from tests.sweeps import sweep
from tests.tasks.digit_jobs import train_job

OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=10, learns=False, softmax=False, drops=False):
        super().__init__()
        self.layer = nn.Linear(64, outputs)
        self.learns, self.softmax, self.drops = learns, softmax, drops

    def forward(self, x):
        if self.learns:
            self.layer.weight.data.mul_(0.9)
        if self.drops:
            x = nn.functional.dropout(x, 0.5, training=True)
        y = self.layer(x.flatten(1))
        return y.softmax(1) if self.softmax else y

def first(shape, classes): return Net(learns=True)
def second(shape, classes): return Net(outputs=7)
def softmax(shape, classes): return Net(softmax=True)
def random(shape, classes): return Net(drops=True)
def ten(shape, classes): return Net()
def nine(shape, classes): return Net(outputs=9)
"""

HEAD = "name: own\ndataset: digits\nsamples: 100\nmodels:\n"


@pytest.fixture(autouse=True)
def _module(robsweep, tmp_path):
    (tmp_path / "mine.py").write_text(OWN)


def models(*names):
    return "".join(f'  {n}: {{arch: "mine:{n}", train: false}}\n' for n in names)


def test_all_that_is_refused_is_told_at_once(robsweep, tmp_path):
    code, _, err = robsweep("run", sweep(HEAD + models("first", "ten", "second")))
    assert code == 2
    assert "2 things are wrong:" in err
    assert "'mine:first', called on" in err
    assert "changes its own state (layer.weight)" in err
    assert "'mine:second', called on" in err
    assert "gave shape (2, 7), not logits (2, 10)" in err
    assert not (tmp_path / "results").exists()
    code, _, err = robsweep("run", sweep(HEAD + models("ten", "second")))
    assert code == 2
    assert "things are wrong" not in err


def test_what_is_warned_of_is_said_and_stored(robsweep, tmp_path):
    text = HEAD + models("ten", "softmax", "random")
    text += "trainings: {standard: {epochs: 1}}\n"
    text = text.replace("models:\n", 'models:\n  trained: {arch: "mine:softmax"}\n')
    code, _, err = robsweep("run", sweep(text))
    assert code == 0, err
    rows = all_rows(tmp_path / "results", "models").to_pylist()
    told = {row["model"]: row["warnings"] for row in rows}
    assert told["ten"] is None
    assert told["softmax"] == told["trained"]
    assert "return the logits" in told["softmax"]
    assert "`eot:`" in told["random"]
    for name in ("model 'softmax': ", "model 'random': ", "model 'trained' (standard, seed 0): "):
        assert name in err
    assert "model 'ten'" not in err


def digits(**changed):
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) / 16).astype(np.float32)
    kept = labels < 9
    return {
        "train_images": images[kept][:800], "train_labels": labels[kept][:800],
        "test_images": images[kept][800:1000], "test_labels": labels[kept][800:1000], **changed,
    }  # fmt: skip


def test_a_network_of_more_classes_than_have_samples(robsweep, tmp_path):
    np.savez("nine.npz", **digits())
    text = HEAD.replace("digits", "npz:nine.npz") + models("ten")
    code, _, err = robsweep("run", sweep(text))
    assert code == 2
    assert "(2, 10), not logits (2, 9): the largest label in nine.npz is 8" in err
    assert "dataset: {npz: nine.npz, classes: 10}" in err
    said = text.replace("npz:nine.npz", "{npz: nine.npz, classes: 10}")
    code, _, err = robsweep("run", sweep(said))
    assert code == 0, err
    logits = all_rows(tmp_path / "results", "predictions")["logits"]
    assert len(logits[0]) == 10


def test_weights_of_more_classes_than_have_samples(robsweep):
    np.savez("nine.npz", **digits())
    weight, bias = torch.zeros(10, 64), torch.zeros(10)
    save_file({"layer.weight": weight, "layer.bias": bias}, "net.safetensors")
    (Path.cwd() / "mine.py").write_text(OWN + "def own(shape, classes): return Net(classes)\n")
    command = ["eval", "mine:own", "--weights", "net.safetensors", "--dataset", "npz:nine.npz"]
    code, _, err = robsweep(*command, "--eps", "0.1")
    assert code == 2
    assert "shape (10, 64), the model wants (9, 64)" in err
    assert "the largest label in nine.npz is 8" in err
    assert "dataset: {npz: nine.npz, classes: 10}" in err
    assert "--classes 10" in err
    save_file({"layer.weight": weight[:, :60].clone(), "layer.bias": bias}, "net.safetensors")
    code, _, err = robsweep(*command, "--eps", "0.1")
    assert code == 2
    assert "--classes" not in err


def test_data_are_warned_of_by_plan_and_run(robsweep):
    arrays = digits()
    arrays["test_images"][0] = arrays["train_images"][3]
    np.savez("mine.npz", **arrays)
    text = HEAD.replace("digits", "npz:mine.npz") + models("nine")
    code, _, planned = robsweep("plan", sweep(text))
    assert code == 0
    said = "own: data set mine.npz: 1 of 200 test images are also in train (e.g. test 0 = train 3)"
    assert said in planned
    code, _, ran = robsweep("run", sweep(text))
    assert code == 0, ran
    assert said in ran


@pytest.mark.parametrize(
    "scales", [(1, 1e4), pytest.param((1, 1e-3, 100, 1e4), marks=pytest.mark.slow)]
)
def test_eval_sees_through_the_scale_of_the_logits(tmp_path, scales):
    """Evaluations of a trained network, on few images: some seconds each.

    In float32 the cross entropy of logits a hundred times as large has no gradient.
    """
    mlp = ModelRef("m", "mlp", {"hidden": (64, 64)}, (1, 8, 8), 10)
    trained = run(train_job(model=mlp, lr=1e-2, batch_size=32, epochs=10), Inputs())
    tensors = load(trained.artifacts["models/train-0.safetensors"])
    data = digits()
    few = {f"test_{what}": data[f"test_{what}"][:60] for what in ("images", "labels")}
    np.savez(tmp_path / "few.npz", **few)
    robust, by_pgd = [], []
    for scale in scales:
        file = tmp_path / f"net{scale:g}.safetensors"
        last = {name: t * scale for name, t in tensors.items() if name.startswith("fc3.")}
        save_file({**tensors, **last}, file)
        dataset = f"npz:{tmp_path}/few.npz"
        spec = spec_for("mlp", dataset, str(file), "linf", ["0.06"], None, 0, 60.0, classes=10)
        store = tmp_path / "store"
        session.run(spec, Settings.read(str(store), address="inline"))
        rows = Results.open(store).table(spec.name, "attacks")
        robust.append(rows.filter(rows["attack"] == "worst_case")["robust_accuracy"][0])
        by_pgd.append(rows.filter(rows["attack"] == "pgd")["robust_accuracy"][0])
    assert max(robust) - min(robust) <= 0.03
    assert by_pgd[-1] - by_pgd[0] > 0.1, "what cross entropy alone would have said"


def test_an_ood_set_that_holds_images_of_the_id_data(robsweep, tmp_path):
    mine, known = digits(), digits()
    noise = np.random.default_rng(0).random((50, 8, 8), np.float32)
    mixed = noise.copy()
    mixed[[7, 30]] = known["test_images"][[4, 11]]
    np.savez("mine.npz", **mine)
    for name, images in (("noise", noise), ("mixed", mixed)):
        np.savez(f"{name}.npz", test_images=images, test_labels=np.arange(50) % 3)
    text = HEAD.replace("digits", "npz:mine.npz") + models("nine")
    asked = text + "ood:\n  energy: {sets: ['npz:NAME.npz'], ood_samples: 20}\n"
    code, _, err = robsweep("run", sweep(asked.replace("NAME", "mixed")))
    assert code == 2
    assert "2 of 50 images of mixed.npz:test are in mine.npz:test too" in err
    assert "its image 7 is image 4 there" in err
    code, _, err = robsweep("run", sweep(asked.replace("NAME", "noise")))
    assert code == 0, err
