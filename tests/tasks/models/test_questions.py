"""Models that are not what they are taken for, each told by its fault and by no other."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.catalogue import MODELS
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, ModelRef, Setting
from robsweep.tasks.jobs import run
from robsweep.tasks.models import questions
from robsweep.tasks.models.load import build
from robsweep.tasks.models.questions import Findings, ask, ask_trained
from tests.tasks.digit_jobs import MLP, job_of, train_job

IMAGES = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A small classifier, and what is done before it and behind it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)
        self.register_buffer("calls", torch.zeros(()))
        self.requires_grad_(False).eval()

    def logits(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x.flatten(1))
        return result

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x)


class Writing(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x.sub_(0.5))


class Counting(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(x)


class Learning(Net):
    def forward(self, x: Tensor) -> Tensor:
        self.layer.weight.mul_(0.9)
        return self.logits(x)


class Dropping(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(F.dropout(x, 0.1, training=True))


class OwnDice(Net):
    """Draws from a generator that nobody else seeds, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.dice = torch.Generator().manual_seed(1)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.logits(x + torch.rand(x.shape, generator=self.dice))


class OfTheBatch(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits((x - x.mean(dim=0)) / (x.std(dim=0) + 1e-3))


class OfTheLargest(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x / x.max())


class OfTheOneBefore(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x + x.roll(1, 0))


class Softmax(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).softmax(dim=1)


class Sigmoid(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).sigmoid()


class LogSoftmax(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).log_softmax(dim=1)


class Scaled(Net):
    def __init__(self, factor: float, shift: float = 0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) * self.factor + self.shift


TOLD: dict[type[Net], str] = {
    Writing: questions.WRITES,
    Dropping: questions.RANDOM,
    OfTheBatch: questions.DEPENDS,
    OfTheLargest: questions.DEPENDS,
    OfTheOneBefore: questions.DEPENDS,
    Softmax: questions.SOFTMAX,
    Sigmoid: questions.SIGMOID,
    LogSoftmax: questions.LOG_SOFTMAX,
}


@pytest.mark.parametrize("kind", TOLD)
def test_each_fault_is_told_alone(kind: type[Net]) -> None:
    assert ask(kind(), IMAGES) == Findings(warnings=(TOLD[kind],))


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1, 1e6])
@pytest.mark.parametrize("shift", [0, 1000])
def test_nothing_is_told_of_logits_of_any_size(factor: float, shift: float) -> None:
    assert ask(Scaled(factor, shift), IMAGES) == Findings()


def test_noise_is_seen_beside_a_large_constant() -> None:
    class Both(Scaled, Dropping):
        def logits(self, x: Tensor) -> Tensor:
            return super().logits(F.dropout(x, 0.1, training=True))

    assert ask(Both(1, 100), IMAGES).warnings == (questions.RANDOM,)


def test_what_a_model_changes_of_itself() -> None:
    model = Counting()
    (warning,) = ask(model, IMAGES).warnings
    assert "its own state (calls)" in warning
    assert model.calls == 0
    learning = Learning()
    before = learning.layer.weight.clone()
    found = ask(learning, IMAGES)
    assert len(found.refusals) == 1
    assert "(layer.weight)" in found.refusals[0]
    assert not found.warnings
    assert torch.equal(learning.layer.weight, before)
    # what it counts is not what makes its answers differ
    dice = ask(OwnDice(), IMAGES)
    assert not dice.refusals
    assert dice.warnings[1] == questions.RANDOM


def test_batch_normalisation_by_the_batch_is_told_and_by_training_is_not() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10))
    assert ask(net.eval(), IMAGES) == Findings()
    assert questions.DEPENDS in ask(net.train(), IMAGES).warnings
    own = nn.BatchNorm1d(32, track_running_stats=False)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), own, nn.Linear(32, 10)).eval()
    assert ask(net, IMAGES).warnings == (questions.DEPENDS,)


# those that need weights of their own, or another model
_PARAMETERS = {
    "ensemble": {"vote": "mean_logits", "members": [{"arch": "cnn", "params": {}}] * 2},
    "abs": {"samples": 20, "steps": 5},
    "binary_abs": {"samples": 20, "steps": 5},
}


@pytest.mark.parametrize("name", sorted({*MODELS} - {"onnx"}))
def test_nothing_is_told_of_the_catalogues_models(name: str) -> None:
    """Also of those that draw (ABS its latents, once) and those that compare (the neighbours)."""
    torch.manual_seed(0)
    params = {**MODELS[name].parameters, **_PARAMETERS.get(name, {})}
    model = build(ModelRef("m", name, params, (1, 28, 28), 10)).eval().requires_grad_(False)
    images = torch.rand(2 if "steps" in params else 8, 1, 28, 28)
    if name == "nearest_neighbour":
        model.finish(Labelled(torch.rand(100, 1, 28, 28), torch.arange(100) % 10))
    assert ask(model, images) == Findings()


OWN = """
from torch import nn

class Own(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.layer = nn.Linear(64, classes)

    def forward(self, x):
        return self.layer(x.flatten(1)).softmax(1)

class Learning(Own):
    def forward(self, x):
        self.layer.weight.data.mul_(0.9)
        return self.layer(x.flatten(1))

class Ten(Own):
    def forward(self, x):
        if len(x) > 2:
            raise ValueError("two at a time")
        return self.layer(x.flatten(1))

def probable(shape, classes):
    return Own(classes)

def learning(shape, classes):
    return Learning(classes)

def few(shape, classes):
    return Ten(classes)
"""


def test_the_preflight_tells_and_refuses(tmp_path: Path) -> None:
    (tmp_path / "own_answers.py").write_text(OWN)
    setting = Setting(data_dir="", import_paths=(str(tmp_path),))

    def preflight(name: str, model_id: str = "import-0"):  # type: ignore[no-untyped-def]
        ref = ModelRef(model_id, f"own_answers:{name}", {}, (1, 8, 8), 10)
        return run(job_of("preflight", {}, model=ref, setting=setting), Inputs())

    told = preflight("probable")
    assert told.warnings == (questions.SOFTMAX,)
    assert told.tables["models"]["warnings"].to_pylist() == [questions.SOFTMAX]
    fresh = preflight("probable", "train-0")  # whose row is for its training to write
    assert fresh.warnings == (questions.SOFTMAX,)
    assert not fresh.tables
    with pytest.raises(InputError, match=r"own_answers:learning.*changes its own state"):
        preflight("learning")
    with pytest.raises(InputError, match=r"raised ValueError: two at a time; it must take batches"):
        preflight("few")


def test_a_trained_model_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "own_answers.py").write_text(OWN)
    setting = Setting(data_dir="/nowhere", import_paths=(str(tmp_path),))
    for ref, said in ((MLP, None), (ModelRef("m", "own_answers:probable", {}, (1, 8, 8), 10),
                                    questions.SOFTMAX)):  # fmt: skip
        job = train_job(epochs=1, model=ref)
        job = type(job)(job.measurement, 0, 1, setting)
        output = run(job, Inputs())
        assert output.tables["models"]["warnings"].to_pylist() == [said]
        assert output.warnings == (() if said is None else (said,))


def test_logits_that_are_not_finite_are_refused_and_nothing_else_is_said() -> None:
    class Overflowing(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.logits(x) / (x[:, 0, :1, 0] > 0.5)

    found = ask(Overflowing(), IMAGES)
    assert found == Findings(("gave logits that are not finite for some of 8 images",))


def test_hours_of_training_are_not_lost_on_a_question() -> None:
    class Fragile(Net):
        def forward(self, x: Tensor) -> Tensor:
            raise ZeroDivisionError("oh")

    found = ask_trained(Fragile(), IMAGES)
    assert found.text == "cannot be asked about itself: ZeroDivisionError: oh"
