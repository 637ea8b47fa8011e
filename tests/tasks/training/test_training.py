import math

import pytest
import torch
from torch import nn

from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, Output
from robsweep.tasks.jobs import run
from robsweep.tasks.models.architectures.mlp import mlp
from robsweep.tasks.training.fit import Batch, Loss, Setup, cross_entropy
from robsweep.tasks.training.losses.adversarial import ascend, pgd, trades
from robsweep.tasks.training.losses.outlier_exposure import outlier_exposure
from robsweep.tasks.training.losses.penalties import input_gradient, jacobian
from robsweep.tasks.training.recipe import Recipe, lr_at
from tests.tasks.digit_jobs import train_job
from tests.tasks.trainings import setup_of, trained_with

NONE = Labelled(torch.rand(8, 3), torch.zeros(8, dtype=torch.int64))


def batch_of(images: torch.Tensor, labels: torch.Tensor, epoch: int = 1) -> Batch:
    return Batch(images, labels, labels, epoch, 0.0)


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


@pytest.mark.parametrize("training", ["fgsm", "pgd", "trades"])
def test_adversarial_training_makes_more_robust(training: str, trained: Output) -> None:
    from robsweep.tasks.models.load import load as load_model
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

    model = Watched(3, 2)
    loss = pgd(setup_of(model, NONE), eps=0.1, steps=2)
    history = trained_with(model, NONE, loss, epochs=1, batch_size=8)
    assert modes == [False, False, True]
    assert math.isnan(history[0].val_accuracy)


def test_adversarial_weight_follows_its_schedule() -> None:
    torch.manual_seed(0)
    model = mlp((3,), 2)
    images, labels = torch.rand(6, 3), torch.randint(2, (6,))
    loss = pgd(setup_of(model, NONE), eps=0.1, adversarial_weight=(0.0, 0.25, 1.0))
    assert loss(model, batch_of(images, labels)).terms == {}  # clean only
    mixed = loss(model, batch_of(images, labels, epoch=2))
    clean, hostile = mixed.terms["clean"], mixed.terms["adversarial"]
    assert mixed.value.item() == pytest.approx(0.75 * clean.item() + 0.25 * hostile.item())
    assert hostile > clean
    assert loss(model, batch_of(images, labels, epoch=9)).value > clean


def test_trades_of_a_constant_model_is_its_clean_loss() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    nn.init.zeros_(model.weight)
    images, labels = torch.rand(6, 3), torch.randint(2, (6,))
    result = trades(setup_of(model, NONE), eps=0.1)(model, batch_of(images, labels))
    assert result.value.item() == pytest.approx(result.terms["clean"].item())


def test_jacobian_penalty_of_a_linear_model_is_its_squared_norm() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    loss = jacobian(setup_of(model, NONE), weight=3.0, projections=4000)
    result = loss(model, batch_of(torch.rand(2, 6), torch.tensor([0, 1])))
    norm = model.weight.square().sum().item()
    assert result.terms["jacobian"].item() == pytest.approx(norm, rel=0.05)
    clean = cross_entropy(model, batch_of(torch.rand(2, 6), torch.tensor([0, 1])))
    assert clean.value < result.value


def test_input_gradient_penalty_is_that_of_each_samples_own_loss() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    images, labels = torch.rand(5, 6), torch.randint(4, (5,))
    result = input_gradient(setup_of(model, NONE))(model, batch_of(images, labels))
    wrong = model(images).softmax(dim=1) - nn.functional.one_hot(labels, 4)
    expected = (wrong @ model.weight).square().sum(dim=1).mean()  # the closed form
    assert result.terms["input_gradient"].item() == pytest.approx(expected.item(), rel=1e-5)
    result.value.backward()
    assert model.weight.grad is not None


def test_outlier_exposure_makes_a_model_unsure_of_outliers() -> None:
    torch.manual_seed(0)
    images = torch.cat([torch.zeros(40, 2), torch.ones(40, 2)])
    data = Labelled(images, torch.arange(80) // 40)
    far = Labelled(torch.tensor([[0.0, 1.0]]).repeat(20, 1), torch.zeros(20, dtype=torch.int64))

    def confidence(coefficient: float) -> float:
        torch.manual_seed(0)
        model = mlp((2,), 2)
        setup = setup_of(model, data, lambda _name, _split: far)
        loss = outlier_exposure(setup, outliers="far", coefficient=coefficient)
        trained_with(model, data, loss, epochs=100, batch_size=16, lr=0.01)
        assert (model(images).argmax(dim=1) == data.labels).all()
        return model(far.images).softmax(dim=1).max().item()

    assert confidence(0.5) < 0.55
    assert confidence(0.5) < confidence(0.0)


def test_outliers_never_come_from_a_test_split() -> None:
    with pytest.raises(InputError, match="outlier_split: test"):
        outlier_exposure(setup_of(mlp((3,), 2), NONE), outliers="far", outlier_split="test")


def test_loss_terms_are_averaged_over_samples() -> None:
    def loss(model: nn.Module, batch: Batch) -> Loss:
        value, logits, _ = cross_entropy(model, batch)
        return Loss(value, logits, {"size": torch.tensor(float(len(batch.labels)))})

    data = Labelled(torch.rand(10, 3), torch.zeros(10, dtype=torch.int64))
    (epoch,) = trained_with(nn.Linear(3, 2), data, loss, epochs=1, batch_size=4)
    assert epoch.loss_terms["size"] == pytest.approx((4 * 4 + 4 * 4 + 2 * 2) / 10)


def test_a_loss_without_logits_has_no_training_accuracy() -> None:
    def loss(model: nn.Module, batch: Batch) -> Loss:
        return Loss(model(batch.images).square().mean(), None, {})

    (epoch,) = trained_with(nn.Linear(3, 2), NONE, loss, epochs=1)
    assert math.isnan(epoch.train_accuracy)
    assert epoch.loss > 0


def test_learning_rates() -> None:
    assert lr_at(Recipe(lr=1.0, lr_decay=0.5), 2.7) == pytest.approx(0.25)
    cosine = Recipe(lr=1.0, schedule="cosine", epochs=4)
    assert [lr_at(cosine, done) for done in (0, 2, 4)] == pytest.approx([1.0, 0.5, 0.0])
    assert lr_at(Recipe(lr=1.0, warmup_epochs=2), 0.5) == pytest.approx(0.25)
    late = Recipe(lr=1.0, warmup_epochs=1, lr_decay=0.1)
    assert lr_at(late, 1.75, 0.25) == pytest.approx(0.1)  # the last step of epoch 2


def test_learning_rate_decays_by_epoch() -> None:
    torch.manual_seed(0)
    once, model = nn.Linear(3, 2), nn.Linear(3, 2)
    model.load_state_dict(once.state_dict())
    trained_with(once, NONE, epochs=1)
    trained_with(model, NONE, epochs=4, lr_decay=0.0)
    assert torch.allclose(model.weight, once.weight)


def test_gradients_are_clipped_as_a_whole() -> None:
    model = nn.Linear(3, 2)
    before = torch.cat([p.detach().flatten() for p in model.parameters()]).clone()
    trained_with(model, NONE, epochs=1, optimizer="sgd", momentum=0.0, lr=1.0, clip_norm=1e-3)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_weight_average_is_the_mean_over_steps() -> None:
    torch.manual_seed(0)
    start = nn.Linear(3, 2)
    seen: list[torch.Tensor] = [start.weight.detach().clone()]

    def watched(model: nn.Module, batch: Batch) -> Loss:
        seen.append(model.weight.detach().clone())  # type: ignore[operator, union-attr]
        return cross_entropy(model, batch)

    model = nn.Linear(3, 2)
    model.load_state_dict(start.state_dict())
    trained_with(model, NONE, watched, epochs=3, batch_size=8, lr=0.1, ema=0.9)
    plain = nn.Linear(3, 2)
    plain.load_state_dict(start.state_dict())
    trained_with(plain, NONE, epochs=3, batch_size=8, lr=0.1)
    average = seen[0]
    for step, weight in enumerate([*seen[2:], plain.weight.detach()], start=1):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
    assert torch.allclose(model.weight, average, atol=1e-6)


def test_early_stopping_keeps_the_best_epoch() -> None:
    torch.manual_seed(0)
    data = Labelled(torch.rand(64, 5), torch.randint(2, (64,)))
    checks = Labelled(torch.rand(64, 5), torch.randint(2, (64,)))
    model = mlp((5,), 2)
    history = trained_with(
        model, data, validation=checks, epochs=60, batch_size=16, lr=0.02, patience=3
    )
    values = [epoch.val_accuracy for epoch in history]
    assert len(history) < 60
    assert values.index(max(values)) == len(values) - 4
    right = (model(checks.images).argmax(dim=1) == checks.labels).float().mean()
    assert float(right) == pytest.approx(max(values))


def test_early_stopping_needs_a_validation_split() -> None:
    with pytest.raises(InputError, match="patience"):
        trained_with(nn.Linear(3, 2), NONE, patience=1)


def test_compiling_needs_a_gpu() -> None:
    with pytest.raises(InputError, match="compile"):
        trained_with(nn.Linear(3, 2), NONE, compile=True)


def test_mixed_precision_learns_too() -> None:
    torch.manual_seed(0)
    model, data = mlp((1, 8, 8), 10), load("digits", "train", "")
    history = trained_with(model, data, epochs=3, lr=0.01, precision="bfloat16")
    assert history[-1].train_accuracy > 0.85
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_diverged_training_says_where() -> None:
    model = nn.Linear(3, 2)

    def loss(model: nn.Module, batch: Batch) -> Loss:
        value, logits, terms = cross_entropy(model, batch)
        return Loss(value / (0 if batch.progress >= 0.5 else 1), logits, terms)

    with pytest.raises(FloatingPointError, match="epoch 2, step 1 of 2"):
        trained_with(model, NONE, loss, epochs=2, batch_size=4)


def test_a_model_without_parameters_is_not_trained() -> None:
    with pytest.raises(InputError, match="no parameters to train"):
        trained_with(nn.Flatten(), NONE)


def test_setup_tells_a_training_its_data() -> None:
    setup = Setup(nn.Linear(3, 2), NONE, 2, lambda _name, _split: NONE)
    assert setup.outliers("any", "train") is NONE


def test_a_last_batch_of_one_joins_the_one_before_it() -> None:
    sizes = []

    def watched(model: nn.Module, batch: Batch) -> Loss:
        sizes.append(len(batch.labels))
        return cross_entropy(model, batch)

    data = Labelled(torch.rand(9, 3), torch.zeros(9, dtype=torch.int64))
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    trained_with(model, data, watched, epochs=1, batch_size=4)
    assert sizes == [4, 5]
