"""What is stored holds for the model as deployed: plainly loaded, in the group's batch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.judge import Judge
from robsweep.tasks.attacks.load import load
from robsweep.tasks.attacks.run import attack_group
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.job import ModelRef
from robsweep.tasks.logits import margin
from robsweep.tasks.models.load import build
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.models.weights import to_bytes
from tests.tasks.attacks.test_attacks import linear, own, params

CNN = ModelRef("m", "cnn", {"dropout": 0.5}, (1, 28, 28), 10)
SIZE = 25  # of a group


def evaluated(model: nn.Module, adversarials: Tensor) -> Tensor:
    return torch.cat([model(part) for part in adversarials.split(SIZE)])  # type: ignore[no-untyped-call]


def to_the_boundary(model: nn.Module, x: Tensor, y: Tensor, eps: float = 1) -> Tensor:
    """Walks to where the model that it sees just turns, digit by digit."""
    other = x.flip(0)
    low, high = torch.zeros(len(x)), torch.ones(len(x))
    for _ in range(25):
        middle = (low + high) / 2
        there = x + middle[:, None, None, None] * (other - x)
        fooled = margin(model(there), y) <= 0
        low, high = torch.where(fooled, low, middle), torch.where(fooled, middle, high)
    return x + high[:, None, None, None] * (other - x)


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("fixed", [False, True], ids=["min_norm", "fixed_eps"])
def test_rows_and_a_plain_evaluation_agree(restarts: int, *, fixed: bool) -> None:
    torch.manual_seed(0)
    images = torch.rand(2 * SIZE, 1, 28, 28)
    model = build(CNN).eval().requires_grad_(False)
    model.fc2.bias -= model(images).mean(dim=0)  # so that it sees several classes
    content = to_bytes(model.state_dict())
    plain, fast = (
        load_model(CNN, content, torch.device("cpu"), many_passes=many).model
        for many in (False, True)
    )
    labels = evaluated(plain, images).argmax(dim=1)
    seed_everything(0, "attack", 0)
    eps = [0.85, 0.9, 0.95, 1.0] if fixed else None
    results = attack_group(
        own(to_the_boundary), fast, images, labels,
        eps=eps, how=How(restarts=restarts), group_size=SIZE, deployed=plain,
    )  # fmt: skip
    # the fast layout by itself is wrong about some of these
    naive = attack_group(own(to_the_boundary), fast, images, labels, eps=eps, group_size=SIZE)
    lost = margin(evaluated(plain, naive[-1].adversarials), labels) <= 0
    assert (lost.numpy() != naive[-1].success).any()
    assert results[-1].success.sum() > SIZE
    for result in results:
        logits = evaluated(plain, result.adversarials)
        assert torch.equal(result.logits, logits)
        assert (result.success == (margin(logits, labels) <= 0).numpy()).all()
        distance = ball.distance(images, result.adversarials, "linf").numpy()
        np.testing.assert_array_equal(result.distance[result.success], distance[result.success])
        assert np.isnan(result.distance[~result.success]).all()


class Step(nn.Module):
    """Class 1 from a mean of `at` on."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def forward(self, images: Tensor) -> Tensor:
        beyond = images.double().flatten(1).mean(dim=1) - self.at
        return torch.stack([-beyond, beyond], dim=1).float()


def test_what_does_not_hold_goes_on_until_it_does() -> None:
    images, labels = torch.full((4, 1, 2, 2), 0.25), torch.zeros(4, dtype=torch.int64)
    tries = torch.full((4, 1, 2, 2), 0.5)
    tries[0] += 0.1
    judge = Judge(Step(0.5001), images, labels, 0, 4, 0)
    movable = torch.tensor([True, True, False, True])
    held, answers = judge.held(tries, movable, last=True)
    assert answers.fooled.tolist() == [True, True, False, True]
    assert torch.equal(held[0], tries[0])  # held as it was
    assert torch.equal(held[2], tries[2])  # was not to be moved
    assert (held[1].double() >= 0.5001).all()
    assert (held[1] < 0.51).all()
    far = Judge(Step(0.7), images, labels, 0, 4, 0)
    assert not far.held(tries, movable, last=True)[1].fooled.any()
    beyond = torch.full_like(images, 0.8)
    held, answers = far.held(tries, movable, beyond, last=True)
    assert torch.equal(answers.fooled, movable)
    assert torch.equal(held[movable], beyond[movable])


def test_an_image_is_no_adversarial_of_itself() -> None:
    images, labels = torch.full((2, 1, 2, 2), 0.9), torch.zeros(2, dtype=torch.int64)
    judge = Judge(Step(0.5), images, labels, 0, 2, 0)
    changed = images.clone()
    changed[1, 0, 0, 0] = 0.8
    assert judge.of(changed, last=True).fooled.tolist() == [False, True]


def test_min_norm_attacks_on_a_deployed_model_that_turns_a_little_later() -> None:
    seen = linear()
    deployed = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).requires_grad_(False)
    deployed.load_state_dict(seen.state_dict())
    deployed[1].bias += torch.tensor([1e-5, -1e-5])
    torch.manual_seed(1)
    images = torch.rand(40, 1, 3, 4) * 0.2 + 0.4
    labels = deployed(images).argmax(dim=1)
    (result,) = attack_group(
        load(params("L2DeepFool")), seen, images, labels, eps=None, deployed=deployed
    )
    assert result.success.all()
    assert (margin(deployed(result.adversarials), labels) <= 0).all()
