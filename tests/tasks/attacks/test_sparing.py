"""What foolbox's attacks are spared changes nothing of what they find."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.attacks.foolbox_attacks import foolbox_class
from robsweep.tasks.attacks.sparing import OnlyCloser, Settled
from robsweep.tasks.groups import seed_everything


def net() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 4))
    layers[1].weight.data *= 8  # curved enough that samples take different numbers of steps
    return layers.requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("name", "spared", "steps"),
    [
        ("SaltAndPepperNoiseAttack", OnlyCloser, 200),
        ("L2DeepFoolAttack", Settled, 50),
        ("LinfDeepFoolAttack", Settled, 50),
    ],
)
def test_the_same_adversarials_for_fewer_passes(
    name: str, spared: type[nn.Module], steps: int
) -> None:
    foolbox = pytest.importorskip("foolbox")
    model = net()
    images = torch.rand(20, 1, 3, 4)
    labels = model(images).argmax(dim=1)

    def run(seen: nn.Module) -> Tensor:
        seed_everything(0, "attack", 0)
        wrapped = foolbox.PyTorchModel(seen, bounds=(0, 1))
        attack = foolbox_class(f"foolbox.attacks:{name}")(steps=steps)
        result: Tensor = attack.run(wrapped, images, foolbox.criteria.Misclassification(labels))
        return result

    plain, tally = Tally(20), Tally(20)
    everyone = torch.arange(20)
    expected = run(Counted(model, plain, everyone))
    found = run(spared(Counted(model, tally, everyone), images, labels))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert (model(expected).argmax(dim=1) != labels).any()
    assert tally.n_forward.sum() < 0.9 * plain.n_forward.sum()
    assert (tally.n_forward <= plain.n_forward).all()
