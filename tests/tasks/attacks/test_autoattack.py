import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.load import load
from robsweep.tasks.attacks.methods.autoattack import autoattack
from robsweep.tasks.errors import InputError
from tests.tasks.attacks.test_attacks import linear, margins, params, run_group, samples

DUAL = {"linf": 1, "l2": 2, "l1": float("inf")}


@pytest.mark.parametrize(
    "norm",
    [
        "linf",
        pytest.param("l2", marks=pytest.mark.slow),
        pytest.param("l1", marks=pytest.mark.slow),
    ],
)
def test_a_linear_model_breaks_exactly_beyond_its_margin(norm: str) -> None:
    model = linear()
    data = samples(model, 20)
    exact = margins(model, data[0], DUAL[norm])
    eps = float(np.sort(exact)[9:11].mean())
    attack = load({**params("autoattack", [eps]), "norm": norm})
    (result,) = run_group(attack, model, data, [eps])
    assert (result.success == (exact <= eps)).all()
    assert set(result.check) == {"ok"}


def test_later_attacks_cost_only_what_is_left() -> None:
    model = linear()
    data = samples(model, 20)
    exact = margins(model, data[0], 1)
    eps = float(np.sort(exact)[9:11].mean())
    (result,) = run_group(load(params("autoattack", [eps])), model, data, [eps])
    assert (result.n_forward[~result.success] > 5000).all()  # Square asks that often
    assert (result.n_forward[result.success] < 300).all()


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images + 0.05 * torch.randn_like(images))
        return logits


@pytest.mark.parametrize("version", ["plus", "rand"])
def test_other_versions(version: str) -> None:
    model = linear() if version == "plus" else Noisy()
    images, labels = samples(linear(), 8)
    eps = 1.3 * float(margins(linear(), images, 1).max())
    torch.manual_seed(0)
    found = autoattack(model, images, labels, eps, norm="linf", version=version)
    assert (linear()(found).argmax(dim=1) != labels).float().mean() > 0.8
    with pytest.raises(InputError, match="standard, plus or rand"):
        autoattack(model, images, labels, eps, norm="linf", version="best")
