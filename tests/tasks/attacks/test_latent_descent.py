from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.attacks.methods.latent_descent import (
    _BELOW,
    _Explained,
    _fewest,
    _halved,
    latent_descent,
)
from robsweep.tasks.attacks.starts import starting_points
from robsweep.tasks.catalogue import MODELS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import ModelRef
from robsweep.tasks.logits import margin
from robsweep.tasks.models.load import load
from tests.tasks.attacks.test_sigma_zero import fewest, linear
from tests.tasks.models.test_abs import FEW, images, small

FASTER = FEW._replace(samples=10, steps=1)
NORMS = ("linf", "l2", "l0")


def test_the_largest_number_below_the_threshold() -> None:
    assert np.nextafter(np.float32(0.5), np.float32(0)) == _BELOW


@pytest.mark.parametrize("binary", [False, True])
def test_its_pass_is_the_models_own_and_is_tallied_once(binary: bool) -> None:
    model, tally = small(FASTER, binary=binary), Tally(6)
    if binary:
        model.class_weights.copy_(torch.tensor([0.9, 1.0, 1.2]))
    counted = Counted(Counted(model, tally, torch.arange(4)), Tally(4), torch.arange(4))
    explained = _Explained.of(counted)
    assert torch.equal(explained.model(images()), model(images()))
    assert explained.kept.explanations.pixels.shape == (4, 3, 784)
    assert tally.n_forward.tolist() == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("norm", NORMS)
def test_it_finds_adversarials_in_every_norm(norm: str, binary: bool) -> None:
    model, tally = small(FASTER, binary=binary), Tally(4)
    x = images(4)
    labels = model(x).argmax(dim=1)
    counted = Counted(model, tally, torch.arange(4))
    found = latent_descent(counted, x, labels, norm=norm, steps=24, rel_step_size=0.1)
    flipped = margin(model(found), labels) <= 0
    assert flipped.float().mean() > 0.6
    assert torch.equal(found[~flipped], x[~flipped])
    assert ball.in_range(found).all()
    assert (tally.n_forward > 0).all()
    assert (tally.n_forward <= 44).all()
    assert (tally.n_backward == 0).all()
    if binary:
        changed = found != x
        seen, before = found[changed] >= 0.5, x[changed] >= 0.5
        assert (seen != before).all()
        assert torch.equal(found[changed], torch.where(seen, 0.5, _BELOW))
    noise = starting_points(model, x, labels, x, labels)
    both = flipped & noise.found
    near, far = (ball.distance(x, other, norm)[both] for other in (found, noise.images))
    assert (near < far).float().mean() > 0.9


def test_fewer_pixels_for_l0_and_less_length_for_l2() -> None:
    model = small(FASTER, binary=True)
    x = images()
    labels = model(x).argmax(dim=1)
    of = {norm: latent_descent(model, x, labels, norm=norm, steps=24) for norm in NORMS}
    for norm in NORMS:
        mean = {kind: ball.distance(x, found, norm).mean() for kind, found in of.items()}
        assert mean[norm] == min(mean.values())


def test_the_fewest_pixels_of_a_linear_model_are_exact() -> None:
    model = linear(40)
    x = torch.rand(20, 1, 5, 8)
    labels = model(x).argmax(dim=1)
    w = (model[1].weight[labels] - model[1].weight[1 - labels]).reshape(x.shape)
    corner = (w < 0).to(x.dtype)
    gain = (w * (x - corner)).flatten(1)
    found = _fewest(model, x, labels, corner, gain)
    assert torch.equal(ball.distance(x, found, "l0").long(), fewest(model, x, labels))
    assert torch.equal(_fewest(model, x, labels, x, gain), x)


def test_halving_ends_at_the_boundary() -> None:
    model = linear(40)
    x = torch.rand(20, 1, 5, 8)
    model[1].bias += (model(x).diff(dim=1).median() / 2) * torch.tensor([1, -1])
    labels = model(x).argmax(dim=1)
    others = torch.stack([x[labels == 1][0], x[labels == 0][0]])
    far = others[labels]
    far[:3] = x[:3]
    found = _halved(model, labels, x, far)
    moved = (far != x).flatten(1).any(dim=1)
    assert moved.sum() == 17
    start, end = (margin(model(part), labels)[moved] for part in (x, far))
    exact = start / (start - end)
    share = ball.distance(x, found, "l2")[moved] / ball.distance(x, far, "l2")[moved]
    assert (margin(model(found), labels)[moved] <= 0).all()
    assert ((share - exact >= -1e-6) & (share - exact <= 1.01 / 1024)).all()
    assert torch.equal(found[~moved], x[~moved])


def test_other_models_are_refused() -> None:
    model = Counted(nn.Flatten(), Tally(1), torch.arange(1))
    with pytest.raises(InputError, match="analysis by synthesis, not for Flatten"):
        latent_descent(model, torch.rand(1, 1, 28, 28), torch.zeros(1).long(), norm="l2")


@pytest.mark.data
@pytest.mark.slow
def test_it_comes_closer_than_noise_to_the_published_model(data_dir: Path, nets_dir: Path) -> None:
    weights = str(nets_dir / "abs_authors.safetensors")
    ref = ModelRef("m", "abs", MODELS["abs"].parameters, (1, 28, 28), 10, weights=weights)
    model = load(ref, None, torch.device("cpu")).model.requires_grad_(False)
    x, labels = (part[:5] for part in load_data("mnist", "test", str(data_dir)))
    found = latent_descent(model, x, labels, norm="l2")
    assert (margin(model(found), labels) <= 0).all()
    noise = starting_points(model, x, labels, x, labels)
    assert noise.found.all()
    near, far = (ball.distance(x, other, "l2") for other in (found, noise.images))
    assert (near < far).all()
    assert near.median() < 5
