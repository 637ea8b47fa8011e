import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from robsweep.tasks.ood.odin import odin, search, upward

WEIGHT = torch.tensor([[2.0, -1.0], [-1.0, 3.0]])
IMAGE = torch.tensor([[0.6, 0.1]])


class Linear(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images @ WEIGHT.T


def test_the_sign_of_the_step_by_hand() -> None:
    """Logits 1.1 and -0.3: class 0 wins, and more so with more of the first and less of the second.

    The gradient of log S_0 is (1 - S_0) (w_0 - w_1) / T = (1 - S_0) (3, -4) / T.
    """
    assert torch.equal(upward(Linear(), IMAGE, 10.0), torch.tensor([[1.0, -1.0]]))
    moved = np.array([0.6 + 0.05, 0.1 - 0.05]) @ WEIGHT.numpy().T / 10
    wanted = -np.exp(moved[0]) / np.exp(moved).sum()
    found = odin(Linear(), IMAGE, temperature=10.0, eps=0.05)
    np.testing.assert_allclose(found.numpy(), [wanted], rtol=1e-6)
    assert found < odin(Linear(), IMAGE, temperature=10.0, eps=0.0)  # surer than without a step


def test_its_gradient_is_that_of_the_moved_image() -> None:
    image = IMAGE.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(odin(Linear(), image, temperature=10.0, eps=0.05).sum(), image)
    moved = torch.tensor([[0.65, 0.05]], requires_grad=True)
    plain = odin(Linear(), moved, temperature=10.0, eps=0.0).sum()
    (wanted,) = torch.autograd.grad(plain, moved)
    torch.testing.assert_close(found, wanted)


def test_the_search_finds_the_best_of_the_grid() -> None:
    torch.manual_seed(0)
    inside = torch.rand(80, 2) + torch.tensor([0.5, 0.0])
    outside = torch.rand(60, 2) * 0.7
    tried = search(
        Linear(), inside.split(30), outside.split(25), temperatures=[1.0, 100.0], eps=[0.0, 0.1]
    )
    assert len(tried) == 4
    for one in tried:
        id_, ood = (
            odin(Linear(), part, temperature=one.temperature, eps=one.eps).numpy()
            for part in (inside, outside)
        )
        truth = np.concatenate([np.zeros(80), np.ones(60)])
        assert one.auroc == pytest.approx(roc_auc_score(truth, np.concatenate([id_, ood])))
        assert one.fpr95 == np.mean(ood <= np.sort(id_)[75])  # 76 of 80 are accepted
    assert tried[0].fpr95 == min(one.fpr95 for one in tried)
    assert tried == sorted(tried, key=lambda one: (one.fpr95, -one.auroc, one.eps))
