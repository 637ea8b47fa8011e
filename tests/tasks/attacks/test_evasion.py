"""Attacks on a model and its detector together."""

import math

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.attacks.detector import Detector, calibrated
from robsweep.tasks.attacks.methods.evasion import _direction, _without, evade
from robsweep.tasks.logits import margin
from robsweep.tasks.ood import logit_scores

SCORES = ("max_softmax", "max_logit", "energy", "entropy")
NEVER = Detector(logit_scores.energy, -math.inf)


def plane() -> nn.Module:
    """Class 0 where the first coordinate is below a half."""
    model = nn.Linear(2, 2)
    model.weight.data = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    model.bias.data = torch.tensor([0.5, -0.5])
    return model.eval().requires_grad_(False)


def second(model: nn.Module, images: Tensor) -> Tensor:
    """A score of the other coordinate, and a little of the first."""
    del model
    return 0.2 * images[:, 0] - images[:, 1]


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 4)
    return nn.Sequential(*layers).eval().requires_grad_(False)


def samples(n: int = 30) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    images = torch.rand(n, 3, 4, 4)
    return images, network()(images).argmax(dim=1)


def test_a_detector_accepts_95_percent_of_what_it_was_calibrated_on() -> None:
    images, _ = samples(200)
    detector = calibrated(logit_scores.energy, network(), images, 64)
    assert detector.accepts(network(), images).sum() == 190
    lower = Detector(detector.scorer, math.nextafter(detector.threshold, -math.inf))
    assert lower.accepts(network(), images).sum() == 189


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_differentiable_where_they_are_asked(name: str) -> None:
    scorer = getattr(logit_scores, name)
    model, (images, _) = network(), samples(3)
    images = images.double()
    (found,) = torch.autograd.grad(
        scorer(model.double(), images.requires_grad_(True)).sum(), images
    )
    step = torch.zeros_like(images)
    step[:, 1, 2, 3] = 1e-5
    with torch.no_grad():
        plus, minus = (scorer(model, images.detach() + way * step) for way in (1, -1))
    assert not plus.requires_grad
    torch.testing.assert_close(found[:, 1, 2, 3], (plus - minus) / 2e-5, rtol=1e-4, atol=1e-6)
    assert (found != 0).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("how", ["selective", "orthogonal"])
def test_both_are_fooled_where_the_ball_holds_such_a_point(how: str, norm: str) -> None:
    images = torch.full((8, 2), 0.4)
    labels = torch.zeros(8, dtype=torch.int64)
    possible, impossible = Detector(second, -0.45), Detector(second, -0.75)
    found = evade(plane(), images, labels, 0.2, norm=norm, detector=possible, how=how)
    assert (margin(plane()(found), labels) <= 0).all()
    assert possible.accepts(plane(), found).all()
    assert ball.inside(images, found, norm, 0.2 + 1e-6).all()
    found = evade(plane(), images, labels, 0.2, norm=norm, detector=impossible, how=how)
    assert not impossible.accepts(plane(), found).any()
    # of the misclassified ones, the least suspicious
    assert (margin(plane()(found), labels) <= 0).all()
    corner = -(0.4 + 0.2 * (1 if norm == "linf" else 0.75**0.5)) + 0.2 * 0.5
    assert (second(plane(), found) <= corner + 0.02).all()


def test_an_orthogonal_step_leaves_the_other_one_alone() -> None:
    torch.manual_seed(0)
    one, other = torch.randn(2, 5, 3, 4, 4)
    left = _without(one, other)
    assert ((left * other).flatten(1).sum(dim=1).abs() < 1e-5).all()
    along = (left * one).flatten(1).sum(dim=1)
    assert (along > 0).all()
    assert (along < one.square().flatten(1).sum(dim=1)).all()
    torch.testing.assert_close(_without(one, torch.zeros_like(one)), one)
    assert (_without(one, 3 * one).abs() < 1e-5).all()
    assert torch.linalg.vector_norm(_direction(one, "l2")[0]).item() == pytest.approx(1)


def test_knowing_the_detector_evades_it_more_often() -> None:
    model, (images, labels) = network(), samples()
    detector = calibrated(logit_scores.energy, model, images, 100)
    attacks = {"blind": Detector(logit_scores.energy, math.inf), "adaptive": detector}
    both = {}
    for name, known in attacks.items():
        torch.manual_seed(0)
        found = evade(model, images, labels, 0.15, norm="linf", detector=known, steps=60)
        fooled = margin(model(found), labels) <= 0
        both[name] = (fooled & detector.accepts(model, found)).sum()
    assert both["adaptive"] > both["blind"]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_who_is_done_costs_nothing_more_and_seeds_decide(norm: str) -> None:
    model, (images, labels) = network(), samples(10)
    easy = Detector(logit_scores.energy, math.inf)
    tally = Tally(10)
    counted = Counted(model, tally, torch.arange(10))
    torch.manual_seed(0)
    found = evade(counted, images, labels, 0.05, norm=norm, detector=easy, steps=10)
    done = margin(model(found), labels) <= 0
    assert (tally.n_forward[~done] == 22).all()
    assert (tally.n_forward[done] <= 22).all()
    assert (tally.n_forward >= 2).all()
    torch.manual_seed(0)
    again = evade(model, images, labels, 0.05, norm=norm, detector=easy, steps=10)
    assert torch.equal(found, again)
    tally = Tally(10)
    counted = Counted(model, tally, torch.arange(10))
    evade(counted, images, labels, 0.05, norm=norm, detector=NEVER, steps=3)
    assert tally.n_forward.tolist() == [8] * 10
    assert tally.n_backward.tolist() == [6] * 10
