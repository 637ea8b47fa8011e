from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.attacks.methods.sigma_zero import sigma_zero
from robsweep.tasks.catalogue import MODELS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.job import ModelRef
from robsweep.tasks.logits import margin
from robsweep.tasks.models.load import load

SHAPES = [(40,), (1, 5, 8), (3, 4, 5)]


def linear(features: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, 2)).requires_grad_(False).eval()


def fewest(model: nn.Sequential, images: Tensor, labels: Tensor) -> Tensor:
    """Exact: each pixel moves to the corner that costs the label most, the best pixels first."""
    w = model[1].weight[labels] - model[1].weight[1 - labels]
    x = images.flatten(1)
    falls = torch.maximum(w * x, w * (x - 1))
    if images.ndim == 4:
        falls = falls.reshape(len(images), images.shape[1], -1).sum(dim=1)
    best = falls.sort(dim=1, descending=True).values.cumsum(dim=1)
    return (best < margin(model(images), labels)[:, None]).sum(dim=1) + 1


@pytest.mark.parametrize("shape", SHAPES)
def test_on_a_linear_model_it_comes_close_to_the_fewest_pixels(shape: tuple[int, ...]) -> None:
    features = int(torch.tensor(shape).prod())
    model = linear(features)
    images = torch.rand(30, *shape)
    labels = model(images).argmax(dim=1)
    exact = fewest(model, images, labels)
    assert exact.max() >= 3
    found = sigma_zero(model, images, labels, steps=300)
    count = ball.distance(images, found, "l0")
    assert (margin(model(found), labels) <= 0).all()
    assert ball.in_range(found).all()
    assert (count >= exact).all()
    assert (count <= exact + 1).all()
    assert (count == exact).float().mean() > 0.8


def test_more_steps_find_fewer_pixels_and_nothing_is_random() -> None:
    model = linear(60)
    images = torch.rand(30, 3, 4, 5)
    labels = model(images).argmax(dim=1)
    few, often = (sigma_zero(model, images, labels, steps=steps) for steps in (20, 300))
    counts = [ball.distance(images, found, "l0").mean() for found in (few, often)]
    assert counts[1] < counts[0]
    assert torch.equal(often, sigma_zero(model, images, labels, steps=300))


def test_where_there_is_no_adversarial_the_image_stays_and_passes_are_tallied() -> None:
    model = linear(4)
    model[1].bias.copy_(torch.tensor([50.0, -50.0]))
    tally = Tally(3)
    images, labels = torch.rand(3, 4), torch.zeros(3, dtype=torch.int64)
    found = sigma_zero(Counted(model, tally, torch.arange(3)), images, labels, steps=7)
    assert torch.equal(found, images)
    assert tally.n_forward.tolist() == [8] * 3
    assert tally.n_backward.tolist() == [7] * 3


@pytest.mark.data
def test_it_needs_fewer_pixels_than_published_attacks(data_dir: Path, nets_dir: Path) -> None:
    ref = ModelRef("m", "abs_cnn", MODELS["abs_cnn"].parameters, (1, 28, 28), 10)
    weights = (nets_dir / "abs_vanilla_cnn.safetensors").read_bytes()
    model = load(ref, weights, torch.device("cpu")).model.requires_grad_(False)
    data = load_data("mnist", "test", str(data_dir))
    images, labels = data.images[:20], data.labels[:20]
    found = sigma_zero(model, images, labels, steps=100)
    assert (margin(model(found), labels) <= 0).all()
    # Schott et al. 2019, table 1: 8.67 pixels, the median over the best of several attacks
    assert ball.distance(images, found, "l0").median() <= 8
