"""Models that answer at random: what is success, and what is luck."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.load import LoadedAttack, load
from robsweep.tasks.attacks.run import Result, attack_group
from robsweep.tasks.groups import seed_everything, seeded
from robsweep.tasks.logits import margin
from tests.tasks.attacks.test_attacks import linear, own, params

N = 200


class Dropping(nn.Module):
    """Dropout that is left on, before a linear model."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear(classes=3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(F.dropout(images, 0.5, training=True))
        return logits


class Chaotic(nn.Module):
    """Wrong about every fifth image; about which ones, chance decides, and the last digits."""

    def forward(self, images: Tensor) -> Tensor:
        shift = torch.rand(len(images))
        digits = images.double().flatten(1).sum(dim=1) * 1e9 + shift
        wrong = (digits.frac() < 0.2).float()
        return torch.stack([1 - wrong, wrong], dim=1)


def nothing(model: nn.Module, x: Tensor, y: Tensor, eps: float = 0) -> Tensor:
    return x.clone()


def hardly_anything(model: nn.Module, x: Tensor, y: Tensor, eps: float = 0) -> Tensor:
    return x + 1e-6 * torch.randn_like(x)


def data(model: nn.Module) -> tuple[Tensor, Tensor]:
    torch.manual_seed(3)
    images = torch.rand(N, 1, 3, 4)
    labels = torch.stack([model(images) for _ in range(50)]).mean(dim=0).argmax(dim=1)
    return images, labels


def attacked(
    attack: LoadedAttack, model: nn.Module, eps: list[float] | None = None, **how: int
) -> list[Result]:
    images, labels = data(model)
    seed_everything(0, "attack", 0)
    return attack_group(attack, model, images, labels, eps=eps, how=How(**how), group_size=50)


def broken_by_attack(result: Result) -> np.ndarray:
    return result.success & (result.distance > 0)


@pytest.mark.parametrize("eps", [[0.1, 0.2, 0.3], None], ids=["fixed_eps", "min_norm"])
@pytest.mark.parametrize("restarts", [1, 5])
@pytest.mark.parametrize("eot", [1, 3])
def test_doing_nothing_breaks_nothing(eps: list[float] | None, restarts: int, eot: int) -> None:
    model = Dropping()
    results = attacked(own(nothing), model, eps, restarts=restarts, eot=eot)
    wrong = results[0].success
    assert 0 < wrong.sum() < N
    for result in results:
        assert not broken_by_attack(result).any()
        assert (result.success == wrong).all()


def test_what_is_right_is_what_predict_finds_right() -> None:
    model = Dropping()
    images, labels = data(model)
    (result,) = attacked(own(nothing), model, [0.1])
    for group in range(4):
        part = slice(50 * group, 50 * group + 50)
        with seeded(0, "predict", group):
            logits = model(images[part])
        assert torch.equal(result.logits[part], logits)
        assert (result.success[part] == (margin(logits, labels[part]) <= 0).numpy()).all()


@pytest.mark.parametrize("eps", [[1e-5], None], ids=["fixed_eps", "min_norm"])
def test_restarts_are_not_chosen_for_their_luck(eps: list[float] | None) -> None:
    (coupled,) = attacked(own(hardly_anything), Dropping(), eps, restarts=20)
    assert broken_by_attack(coupled).mean() < 0.02
    if eps is None:  # whose steps outwards are tries too: each has its distance
        return
    (once,) = attacked(own(hardly_anything), Chaotic(), eps, restarts=1)
    (often,) = attacked(own(hardly_anything), Chaotic(), eps, restarts=20)
    # 1 - .8^20 = .99 of the samples look broken to whoever counts every try
    for result in (once, often):
        right = ~(result.success & (result.distance == 0))
        assert 0.1 < broken_by_attack(result)[right].mean() < 0.3


def test_a_real_attack_breaks_a_random_model() -> None:
    (weak, strong) = attacked(load(params("LinfPGD", [0.01, 0.5])), Dropping(), [0.01, 0.5], eot=5)
    assert broken_by_attack(weak).sum() < broken_by_attack(strong).sum()
    assert strong.success.mean() > 0.9


def test_the_generators_go_on_as_if_nobody_had_judged() -> None:
    def draws(judged: int) -> list[float]:
        seed_everything(0, "attack", 0)
        for _ in range(judged):
            with seeded(1, "other", 0):
                torch.rand(3)
                np.random.random()
        return [float(torch.rand(())), float(np.random.random())]

    assert draws(0) == draws(3)
