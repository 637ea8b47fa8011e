"""Auto-PGD: closed forms on linear models, brute force, counts, and the authors' numbers."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.count import Counted, Tally
from robsweep.tasks.attacks.load import load
from robsweep.tasks.attacks.methods.apgd import apgd_ce, apgd_dlr, apgd_targeted
from robsweep.tasks.attacks.methods.losses import dlr, targeted_dlr
from robsweep.tasks.attacks.methods.projections import onto_l1, project
from robsweep.tasks.attacks.run import attack_group
from robsweep.tasks.catalogue import ATTACKS
from robsweep.tasks.groups import seed_everything
from robsweep.tasks.logits import margin, raw_logits

NAMES = ["apgd_ce", "apgd_dlr", "apgd_targeted"]
NORMS = ["linf", "l2", "l1"]
FEATURES = 24
CPU = torch.device("cpu")


def linear(classes: int) -> nn.Sequential:
    """All classes tie in the middle of the range."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, classes)).requires_grad_(False)
    model[1].bias.copy_(-model[1].weight.sum(dim=1) / 2)
    return model.eval()


def curved() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, 40), nn.ReLU(), nn.Linear(40, 5))
    model[3].weight.data *= 3
    return model.requires_grad_(False).eval()


def inner(model: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    """Images far enough from the border of [0, 1], labelled as the model sees them."""
    images = torch.rand(n, 2, 3, 4) * 0.2 + 0.4
    return images, model(images).argmax(dim=1)


def exact_distance(model: nn.Sequential, images: Tensor, norm: str) -> Tensor:
    """Of linear models, to the nearest class: difference of logits / dual norm of weights."""
    weight, logits = model[1].weight, model(images)
    labels = logits.argmax(dim=1)
    dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
    away = torch.linalg.vector_norm(weight[labels][:, None] - weight[None], ord=dual, dim=2)
    gap = logits.gather(1, labels[:, None]) - logits
    return (gap / away).scatter(1, labels[:, None], torch.inf).amin(dim=1)


def success(name: str, norm: str, model: nn.Module, data: tuple[Tensor, Tensor], eps: float,
            **parameters: int) -> np.ndarray:  # fmt: skip
    """Whether each sample is broken, as the job says."""
    given = {**ATTACKS[name].parameters, **parameters}
    loaded = load({"attack": name, "norm": norm, "eps": [eps], "parameters": given})
    seed_everything(0, "attack", 0)
    (result,) = attack_group(loaded, model, *data, eps=[eps])
    assert set(result.check) == {"ok"}
    assert ball.inside(data[0], result.adversarials, norm, eps).all()
    return result.success


@pytest.mark.parametrize(
    ("name", "classes"),
    [("apgd_ce", 2), ("apgd_dlr", 2), *(("apgd_targeted", k) for k in (2, 3, 4, 10))],
)
@pytest.mark.parametrize("norm", NORMS)
def test_linear_models_break_just_beyond_their_margin(name: str, norm: str, classes: int) -> None:
    model = linear(classes)
    images, labels = inner(model, 60)
    distances = exact_distance(model, images, norm)
    close = distances < 0.3  # no box in between
    eps = float(distances[close].median())
    clear = close & ((distances / eps - 1).abs() > 0.02)
    expected = (distances[clear] < eps).numpy()
    assert 5 < expected.sum() < len(expected) - 5
    found = success(name, norm, model, (images[clear], labels[clear]), eps, steps=40)
    np.testing.assert_array_equal(found, expected)


def test_the_l1_projection_is_the_closest_point() -> None:
    torch.manual_seed(0)
    images = torch.rand(60, 6, dtype=torch.float64)
    images[:20] = images[:20].round()
    x = images + torch.randn_like(images) * torch.rand(60, 1) * 2
    for eps in (0.1, 0.7, 2.0):
        found = onto_l1(images, x, eps)
        assert ((found >= 0) & (found <= 1)).all()
        assert ((found - images).abs().sum(dim=1) <= eps + 1e-9).all()
        # optimal: <x - found, z - found> <= 0 for all z of a convex set
        for _ in range(10):
            z = project(images, images + torch.randn_like(images), eps, "l1")
            assert (((x - found) * (z - found)).sum(dim=1) <= 1e-9).all()
        inside = torch.lerp(images, found, 0.5)
        torch.testing.assert_close(onto_l1(images, inside, eps), inside)


def test_the_l1_projection_agrees_with_bisection() -> None:
    torch.manual_seed(1)
    images = torch.rand(100, 50, dtype=torch.float64)
    x = images + torch.randn_like(images)
    room = torch.where(x > images, 1 - images, images)
    low, high = torch.zeros(100, 1), torch.full((100, 1), 10.0).double()
    for _ in range(80):
        shift = (low + high) / 2
        moved = ((x - images).abs() - shift).clamp(min=0).minimum(room)
        over = moved.sum(dim=1, keepdim=True) > 3
        low, high = torch.where(over, shift, low), torch.where(over, high, shift)
    expected = images + moved * (x - images).sign()
    torch.testing.assert_close(onto_l1(images, x, 3.0), expected)
    kept = onto_l1(images.float(), x.float(), 3.0)
    assert torch.equal(kept == images.float(), moved == 0)


@pytest.mark.parametrize("norm", NORMS)
def test_projected_points_lie_in_the_ball_and_the_range(norm: str) -> None:
    torch.manual_seed(0)
    images = torch.rand(50, 30)
    size = {"linf": 0.2, "l2": 0.8, "l1": 2.0}[norm]
    found = project(images, images + torch.randn_like(images), size, norm)
    assert ball.inside(images, found, norm, size * (1 + 1e-5)).all()
    assert (ball.distance(images, found, norm) > 0.7 * size).all()
    assert torch.equal(project(images, images, size, norm), images)
    with pytest.raises(ValueError, match="'l0'"):
        project(images, images, size, "l0")


def test_the_ratio_does_not_depend_on_scale_and_shift_of_the_logits() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(20, 6), torch.randint(6, (20,))
    targets = (labels + 1) % 6
    torch.testing.assert_close(dlr(100 * logits - 7, labels), dlr(logits, labels))
    torch.testing.assert_close(
        targeted_dlr(100 * logits - 7, labels, targets), targeted_dlr(logits, labels, targets)
    )
    by_hand = torch.tensor([[5.0, 3.0, 1.0, 0.0]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert dlr(by_hand, zero).item() == pytest.approx(-2 / 4)
    assert dlr(by_hand, one).item() == pytest.approx(2 / 4)
    assert targeted_dlr(by_hand, zero, one).item() == pytest.approx(-2 / 4.5)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_losses_of_few_classes_have_gradients_and_the_sign_of_the_margin(classes: int) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(30, classes), torch.randint(classes, (30,))
    wrong = margin(logits, labels) < 0
    assert torch.equal(dlr(logits, labels) > 0, wrong)
    for offset in range(1, classes):
        moving = logits.clone().requires_grad_()
        targets = (labels + offset) % classes
        value = targeted_dlr(moving, labels, targets)
        ahead = logits.gather(1, targets[:, None]) > logits.gather(1, labels[:, None])
        assert torch.equal(value > 0, ahead.flatten())
        (gradient,) = torch.autograd.grad(value.sum(), moving)
        assert (gradient.abs().sum(dim=1) > 1e-3).all()


@pytest.mark.parametrize("norm", NORMS)
def test_more_steps_and_larger_balls_break_more(norm: str) -> None:
    model = curved()
    data = inner(model, 60)
    size = {"linf": 0.02, "l2": 0.06, "l1": 0.16}[norm]
    broken = [success("apgd_ce", norm, model, data, size * k, steps=20).sum() for k in (1, 2, 4)]
    assert 0 < broken[0] < broken[1] < broken[2]
    one_step = success("apgd_ce", norm, model, data, size, steps=1).sum()
    assert one_step <= broken[0]


def corners(images: Tensor, eps: float) -> Tensor:
    """All corners of the linf balls in few pixels, (2^F, N, F)."""
    f = images.shape[1]
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * f)
    return (images[None] + eps * signs[:, None]).clamp(0, 1)


def test_brute_force_over_a_convex_margin_finds_no_more() -> None:
    """The margin of a label with a concave logit is largest for others in a corner."""
    torch.manual_seed(0)
    hidden, out = nn.Linear(6, 12), nn.Linear(12, 3)
    out.weight.data.abs_()
    out.weight.data[0] *= -1  # convex logits for 1 and 2, a concave one for 0
    model = nn.Sequential(hidden, nn.ReLU(), out).requires_grad_(False).eval()
    images = torch.rand(300, 6)
    out.bias[0] += -margin(model(images), torch.zeros(300, dtype=torch.int64)).median()
    images = images[margin(model(images), torch.zeros(300, dtype=torch.int64)) > 0]
    labels = torch.zeros(len(images), dtype=torch.int64)
    eps = 0.02
    every = corners(images, eps)
    values = margin(model(every.flatten(0, 1)), labels.repeat(len(every)))
    expected = (values.view(len(every), -1).amin(dim=0) <= 0).numpy()
    assert 5 < expected.sum() < len(images) - 5
    for name in NAMES:
        found = success(name, "linf", model, (images, labels), eps, steps=30)
        assert not (found & ~expected).any()
        assert (found != expected).sum() <= 1


@pytest.mark.parametrize("norm", NORMS)
def test_each_sample_is_counted_until_it_is_broken(norm: str) -> None:
    model = curved()
    images, labels = inner(model, 40)
    size = {"linf": 0.05, "l2": 0.2, "l1": 0.6}[norm]
    tally = Tally(41)
    counted = Counted(model, tally, torch.arange(1, 41))
    torch.manual_seed(0)
    found = apgd_ce(counted, images, labels, size, norm=norm, steps=10)
    broken = margin(raw_logits(model, found), labels) <= 0
    assert broken.any()
    assert not broken.all()
    looks = 3 if norm == "l1" else 1  # at the starts
    assert tally.n_forward[0] == 0
    assert (tally.n_forward[1:][~broken] == 10 + looks).all()
    assert (tally.n_backward[1:][~broken] == 10).all()
    assert (tally.n_forward[1:][broken] < 10 + looks).any()
    assert (tally.n_forward[1:] - tally.n_backward[1:] <= looks).all()


def test_targets_are_tried_one_after_the_other_on_what_is_left() -> None:
    model = curved()
    images, labels = inner(model, 40)
    tally = Tally(40)
    torch.manual_seed(0)
    found = apgd_targeted(
        Counted(model, tally, torch.arange(40)),
        images,
        labels,
        0.05,
        norm="linf",
        steps=5,
        classes=9,
    )
    broken = margin(raw_logits(model, found), labels) <= 0
    assert (tally.n_forward[~broken] == 1 + 4 * 6).all()  # five classes: four wrong ones
    assert (tally.n_forward[broken] <= 4 * 6 + 1).all()
    assert tally.n_forward[broken].min() <= 1 + 6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_seed_gives_the_same_adversarials(name: str, norm: str) -> None:
    model = curved()
    images, labels = inner(model, 10)
    attack = {"apgd_ce": apgd_ce, "apgd_dlr": apgd_dlr, "apgd_targeted": apgd_targeted}[name]
    runs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        runs.append(attack(model, images, labels, 0.02, norm=norm, steps=8))
    assert torch.equal(runs[0], runs[1])
    if norm != "l1":  # whose runs end in the same corner
        assert not torch.equal(runs[0], runs[2])
    assert runs[0].dtype == torch.float32
    assert runs[0].shape == images.shape


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_not_broken_gets_the_highest_loss_seen(norm: str) -> None:
    model = curved()
    images, labels = inner(model, 20)
    seen: list[Tensor] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = model(x)
            if len(x) == len(labels):
                seen.append(F.cross_entropy(logits.detach(), labels, reduction="none"))
            return logits

    torch.manual_seed(0)
    size = {"linf": 0.003, "l2": 0.01, "l1": 0.03}[norm]
    found = apgd_ce(Watched(), images, labels, size, norm=norm, steps=12)
    values = F.cross_entropy(model(found), labels, reduction="none")
    in_ball = seen[-5:] if norm == "l1" else seen  # the last 40 % of 12 steps, before in others
    assert len(seen) == (15 if norm == "l1" else 13)
    torch.testing.assert_close(values, torch.stack(in_ball).amax(dim=0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_of_all_targets_the_point_of_the_lowest_margin_is_kept(norm: str) -> None:
    """In small balls nothing breaks, and no further target takes anything back."""
    model = curved()
    images, labels = inner(model, 60)
    size = {"linf": 0.004, "l2": 0.015, "l1": 0.04}[norm]
    clear = margin(model(images), labels) > 0.15
    images, labels = images[clear], labels[clear]
    ends = []
    for classes in (1, 2, 3, 4):
        torch.manual_seed(0)
        found = apgd_targeted(model, images, labels, size, norm=norm, steps=10, classes=classes)
        ends.append(margin(raw_logits(model, found), labels))
    assert (ends[-1] > 0).all()
    for fewer, more in pairwise(ends):
        assert (more <= fewer + 1e-6).all()
    assert (ends[-1] < margin(model(images), labels)).all()


class Noisy(nn.Module):
    """Logits of another model, with noise in their gradients alone; counts its calls."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.calls = model, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.model(x)
        noise = torch.randn(FEATURES, logits.shape[1])
        return logits + (x - x.detach()).flatten(1) @ noise


def test_gradients_are_averaged_over_passes() -> None:
    model = curved()
    images, labels = inner(model, 60)
    robust = []
    for eot in (1, 25):
        torch.manual_seed(0)
        noisy = Noisy(model)
        found = apgd_dlr(noisy, images, labels, 0.01, norm="linf", steps=10, eot=eot)
        assert noisy.calls == 11 * eot
        robust.append(int((margin(model(found), labels) > 0).sum()))
    assert 0 < robust[1] < robust[0]


def test_gradients_that_are_tiny_or_not_numbers_do_no_harm() -> None:
    base = linear(2)
    images, labels = inner(base, 6)
    scale = 40 / margin(base(images), labels).max()  # probabilities of 1e-17, in a flat loss

    class Loud(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = base(x) * scale
            return logits

    eps = float(exact_distance(base, images, "l2").max()) * 2  # the label's gradient is lost
    found = apgd_ce(Loud(), images, labels, eps, norm="l2", steps=10)
    assert (margin(base(found), labels) <= 0).all()

    class Torn(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = base(x) + 0 * (x - x.detach()).square().sum().sqrt()
            return logits

    for norm in NORMS:
        assert torch.isfinite(apgd_ce(Torn(), images, labels, 0.01, norm=norm, steps=5)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_in_a_ball_of_no_size_is_the_image_alone(norm: str) -> None:
    model = linear(2)
    images, labels = inner(model, 6)
    found = apgd_ce(model, images, labels, 0.0, norm=norm, steps=5)
    torch.testing.assert_close(found, images)
