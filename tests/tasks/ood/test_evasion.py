"""OOD images pushed towards low scores, in the exact ball."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.ood import logit_scores
from robsweep.tasks.ood.evasion import Evasion, evaded


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 4)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def images(n: int = 40) -> Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("restarts", [1, 3])
def test_scores_fall_and_images_stay_in_the_ball(norm: str, restarts: int) -> None:
    x, model = images(), network()
    found = evaded(logit_scores.energy, model, x, Evasion(0.1, norm, restarts=restarts))
    assert ball.inside(x, found, norm, 0.1).all()
    before, after = logit_scores.energy(model, x), logit_scores.energy(model, found)
    assert (after < before).all()


def test_more_restarts_find_no_higher_score() -> None:
    x, model = images(), network()
    torch.manual_seed(0)
    once = evaded(logit_scores.energy, model, x, Evasion(0.3, steps=5))
    torch.manual_seed(0)
    more = evaded(logit_scores.energy, model, x, Evasion(0.3, steps=5, restarts=4))
    assert (logit_scores.energy(model, more) <= logit_scores.energy(model, once)).all()


def test_a_linear_score_reaches_the_corner() -> None:
    def linear(model: nn.Module, x: Tensor) -> Tensor:
        del model
        return x.flatten(1).double() @ torch.tensor([1.0, -2.0, 0.5] + [0.1] * 9).double()

    x = 0.3 + 0.4 * images()
    found = evaded(linear, nn.Identity(), x, Evasion(0.1, steps=30))
    slope = torch.tensor([1.0, -2.0, 0.5] + [0.1] * 9).sign().reshape(3, 2, 2)
    torch.testing.assert_close(found, x - 0.1 * slope)


def test_a_score_without_a_gradient_leaves_the_image() -> None:
    def broken(model: nn.Module, x: Tensor) -> Tensor:
        del model
        return (x.flatten(1).sum(dim=1) * 0).sqrt()  # its gradient is not a number

    x = images(3)
    assert torch.equal(evaded(broken, nn.Identity(), x, Evasion(0.1, steps=3)), x)
