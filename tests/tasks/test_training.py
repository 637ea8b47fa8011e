import math

import pytest
import torch
from torch import nn

from tasks.data.load import Labelled, empty_like, load
from tasks.job import Inputs, Output
from tasks.jobs import run
from tasks.models.mlp import mlp
from tasks.training.adversarial import ascend, pgd
from tasks.training.fit import Loss, fit
from tasks.training.standard import cross_entropy, standard
from tests.tasks.digit_jobs import train_job


def test_training_learns_and_is_recorded(trained: Output) -> None:
    epochs = trained.tables["training"].to_pylist()
    assert [epoch["epoch"] for epoch in epochs] == list(range(1, 11))
    assert epochs[-1]["val_accuracy"] > 0.85
    assert epochs[-1]["loss"] < epochs[0]["loss"] / 3
    (model,) = trained.tables["models"].to_pylist()
    assert model["parameters"] == 64 * 32 + 32 + 32 * 10 + 10
    assert model["sample"] is None
    assert model["weights_sha256"] == epochs[0]["weights_sha256"]


def test_training_is_deterministic() -> None:
    def digest(seed: int) -> str:
        tables = run(train_job("noise", seed=seed, epochs=2), Inputs()).tables
        return str(tables["models"]["weights_sha256"][0])

    torch.rand(3)
    assert digest(1) == digest(1) != digest(2)


@pytest.mark.parametrize("training", ["fgsm", "pgd"])
def test_adversarial_training_makes_more_robust(training: str, trained: Output) -> None:
    from tasks.models.load import load as load_model
    from tests.tasks.digit_jobs import MLP

    data = load("digits", "test", "")
    hardened = run(train_job(training, lr=1e-2, batch_size=32, eps=0.15, epochs=10), Inputs())
    survived = []
    for output in (trained, hardened):
        content = output.artifacts["models/train-0.safetensors"]
        model = load_model(MLP, content, torch.device("cpu")).model
        attacked = ascend(model, *data, eps=0.15, steps=20, step_size=0.02)
        survived.append(float((model(attacked).argmax(dim=1) == data.labels).float().mean()))
    assert survived[1] > survived[0] + 0.2


def test_ascent_stays_in_the_ball_and_raises_the_loss() -> None:
    torch.manual_seed(0)
    model, images, labels = mlp((5,), 3), torch.rand(50, 5), torch.randint(3, (50,))
    adversarials = ascend(model, images, labels, eps=0.2, steps=5, step_size=0.1)
    assert (adversarials - images).abs().max() <= 0.2 + 1e-6
    assert adversarials.min() >= 0
    assert adversarials.max() <= 1
    loss = nn.CrossEntropyLoss()
    assert loss(model(adversarials), labels) > loss(model(images), labels)


def test_adversarial_training_attacks_in_eval_mode_and_learns_in_train_mode() -> None:
    modes = []

    class Watched(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes.append(self.training)
            return super().forward(x)

    data = Labelled(torch.rand(4, 3), torch.zeros(4, dtype=torch.int64))
    history = pgd(Watched(3, 2), data, empty_like(data), epochs=1, batch_size=4, eps=0.1, steps=2)
    assert modes == [False, False, True]
    assert math.isnan(history[0].val_accuracy)


def test_loss_terms_are_averaged_over_samples() -> None:
    def loss(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Loss:
        value, logits, _ = cross_entropy(model, images, labels)
        return Loss(value, logits, {"size": torch.tensor(float(len(labels)))})

    data = Labelled(torch.rand(10, 3), torch.zeros(10, dtype=torch.int64))
    (epoch,) = fit(
        nn.Linear(3, 2), data, data, loss,
        epochs=1, batch_size=4, lr=1e-3, lr_decay=1.0, weight_decay=0.0,
    )  # fmt: skip
    assert epoch.loss_terms["size"] == pytest.approx((4 * 4 + 4 * 4 + 2 * 2) / 10)


def test_learning_rate_decays_by_epoch() -> None:
    data = Labelled(torch.rand(8, 3), torch.zeros(8, dtype=torch.int64))
    torch.manual_seed(0)
    once, model = nn.Linear(3, 2), nn.Linear(3, 2)
    model.load_state_dict(once.state_dict())
    torch.manual_seed(0)
    standard(once, data, data, epochs=1, batch_size=8)
    standard(model, data, data, epochs=4, batch_size=8, lr_decay=0.0)
    assert torch.allclose(model.weight, once.weight)


def test_diverged_training_says_where() -> None:
    data = Labelled(torch.rand(8, 3), torch.zeros(8, dtype=torch.int64))
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="epoch 1, step 1 of 2"):
        standard(model, data, data, batch_size=4)
