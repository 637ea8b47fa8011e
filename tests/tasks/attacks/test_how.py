"""What an attack is aimed at and may see: targets, transfer, estimates, limits."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.job import in_batches
from robsweep.tasks.attacks.load import LoadedAttack, load
from robsweep.tasks.attacks.methods.apgd import apgd_ce
from robsweep.tasks.attacks.refine import across_one_half, closest_on_the_way
from robsweep.tasks.attacks.run import Result, attack_group
from robsweep.tasks.groups import seed_everything
from tests.tasks.attacks.test_attacks import linear, margins, own, params, run_group, samples


def run(
    attack: LoadedAttack,
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    how: How,
    eps: list[float] | None = None,
) -> list[Result]:
    seed_everything(0, "attack", 0)
    return attack_group(attack, model, *data, eps=eps, how=how)


class Staircase(nn.Module):
    """A linear model of inputs that are rounded: its true gradient is zero."""

    def __init__(self, steps: int = 50) -> None:
        super().__init__()
        self.inner, self.steps = linear(), steps

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner((images * self.steps).round() / self.steps)
        return logits


def test_useless_gradients_are_counted_and_estimated_ones_work() -> None:
    model = Staircase()
    data = samples(model)
    eps = [float(margins(model.inner, data[0], 1).max()) * 1.5]
    pgd = load(params("LinfPGD", eps, random_start=False))
    (blind,) = run(pgd, model, data, How(), eps)
    assert not blind.success.any()
    assert (blind.bad_gradients == blind.n_backward).all()
    assert (blind.n_backward > 0).all()
    queried = How(gradients="finite_difference", gradient_step=0.05)
    (seen,) = run(pgd, model, data, queried, eps)
    assert seen.success.all()
    assert (seen.n_forward > 12 * 2 * blind.n_forward).all()  # two for each of 12 pixels
    assert (seen.bad_gradients == 0).all()
    near = How(gradients="finite_difference", gradient_step=1e-5)  # on one stair, mostly
    (stuck,) = run(pgd, model, data, near, eps)
    assert (stuck.bad_gradients > 0).any()
    assert (stuck.bad_gradients <= stuck.n_backward).all()


@pytest.mark.parametrize("target", ["runner_up", "least_likely", "random"])
def test_targets(target: str) -> None:
    model = linear(classes=5)
    images, labels = samples(model)
    logits = model(images)
    torch.manual_seed(1)
    targets = How(target=target).targets(logits, labels)
    assert targets is not None
    assert (targets != labels).all()
    order = logits.argsort(dim=1)
    if target == "random":
        assert len(targets.unique()) > 1
    else:
        expected = order[:, -2] if target == "runner_up" else order[:, 0]
        assert torch.equal(targets, expected)


def test_an_attack_reaches_the_class_it_aims_at() -> None:
    model = linear(classes=5)
    data = samples(model)
    (result,) = run(load(params("LinfPGD", [1.0])), model, data, How(target="least_likely"), [1.0])
    assert result.success.all()
    aimed = model(data[0]).argmin(dim=1)
    assert (result.logits.argmax(dim=1) == aimed).float().mean() > 0.8


def test_a_transfer_is_judged_by_the_target() -> None:
    source, target = linear(classes=3), linear(classes=3)
    target[1].weight += 0.1 * torch.randn_like(target[1].weight)
    images = torch.rand(60, 1, 3, 4)
    labels = target(images).argmax(dim=1)
    both = labels == source(images).argmax(dim=1)
    assert 5 < both.sum() < 60
    pgd = load(params("LinfPGD", [0.2]))
    (result,) = run(pgd, target, (images, labels), How(source=source), [0.2])
    found = target(result.adversarials).argmax(dim=1) != labels
    assert (result.success == found.numpy()).all()
    # what the source has wrong already is not attacked, and not broken by it
    assert not result.success[~both.numpy()].any()
    assert (result.n_forward[~both.numpy()] == 0).all()
    wrong = [check == "wrong at the source" for check in result.check]
    assert wrong == (~both).tolist()
    (white,) = run(pgd, target, (images, labels), How(), [0.2])
    assert white.success.sum() >= result.success.sum()


def fooled_by(model: Callable[[Tensor], Tensor], labels: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda images: model(images).argmax(dim=1) != labels


def test_a_closest_adversarial_goes_on_until_it_fools_the_target() -> None:
    model = linear()
    images, labels = samples(model)
    exact = margins(model, images, 2)
    w = model[1].weight[0] - model[1].weight[1]
    side = torch.where(labels == 0, -1.0, 1.0)[:, None]
    step = (side * (w / w.norm())[None] * torch.from_numpy(exact)[:, None] / 2).float()
    halfway = images + step.reshape(images.shape)  # on the way, not far enough
    fooled = fooled_by(model, labels)
    found = closest_on_the_way(fooled, images, halfway, beyond=True)
    reached = ball.distance(images, found, "l2").numpy()
    np.testing.assert_allclose(reached, exact, rtol=0.01)
    assert (model(found).argmax(dim=1) != labels).all()
    back = images - step.reshape(images.shape)
    away = closest_on_the_way(fooled, images, back, beyond=True)
    assert torch.equal(closest_on_the_way(fooled, images, halfway, beyond=False), halfway)
    far = images + 4 * step.reshape(images.shape)
    near = closest_on_the_way(fooled, images, far, beyond=False)
    np.testing.assert_allclose(ball.distance(images, near, "l2").numpy(), exact, rtol=0.01)
    assert torch.equal(away, back)


def test_what_fools_a_model_need_not_be_one_piece_of_the_way() -> None:
    def fooled(images: Tensor) -> Tensor:
        x = images.flatten(1)[:, 0]
        return ((x > 0.35) & (x < 0.45)) | (x > 0.9)

    images = torch.zeros(2, 1, 1, 1)
    found = closest_on_the_way(fooled, images, images + 1, beyond=False)
    np.testing.assert_allclose(found.flatten().numpy(), 0.35, atol=2**-9)


def test_pixels_of_binary_models_go_just_across_one_half() -> None:
    class Binary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner((images >= 0.5).float())
            return logits

    torch.manual_seed(0)
    model, images = Binary(), torch.rand(30, 1, 3, 4)
    labels = model(images).argmax(dim=1)
    far = (torch.rand(30, 1, 3, 4) > 0.5).float()
    fooled = model(far).argmax(dim=1) != labels
    assert 5 < fooled.sum() < 30
    for norm in ("l2", "linf", "l0"):
        found = across_one_half(fooled_by(model, labels), images, far, norm)
        assert torch.equal(found[~fooled], far[~fooled])
        assert torch.equal(found[fooled] >= 0.5, far[fooled] >= 0.5)
        same = (images >= 0.5) == (far >= 0.5)
        assert torch.equal(found[fooled][same[fooled]], images[fooled][same[fooled]])
        assert (
            (found[fooled] - images[fooled]).abs() <= (far[fooled] - images[fooled]).abs()
        ).all()


class Weak:
    """Breaks what it is given at the first eps, and nothing after."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        self.calls += 1
        if self.calls > 1:
            return x
        return x + eps * (1 - 2 * y).view(-1, 1, 1, 1)


class Sum(nn.Module):
    """Two classes: whether the mean pixel is above one half."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(dim=1) - 0.5
        return torch.stack([-mean, mean], dim=1)


def test_a_tenth_of_what_is_carried_over_is_attacked_again() -> None:
    torch.manual_seed(0)
    images = torch.rand(200, 1, 3, 4) * 0.02 + 0.49
    labels = Sum()(images).argmax(dim=1)
    weak = own(Weak())
    small, large = run(weak, Sum(), (images, labels), How(), [0.1, 0.2])
    assert small.success.all()
    assert large.success.all()  # carried over
    assert np.isnan(small.broken_again).all()
    again = large.broken_again[~np.isnan(large.broken_again)]
    assert 5 < len(again) < 40
    assert (again == 0).all()  # it fails at the larger eps, which honesty checks must see
    data = samples(linear())
    eps = [float(margins(linear(), data[0], 1).max()) * 1.2, 0.9]
    _, sound = run_group(load(params("LinfPGD", eps)), linear(), data, eps)
    assert (sound.broken_again[~np.isnan(sound.broken_again)] == 1).all()


def test_what_is_brought_closer_keeps_the_class_it_was_aimed_at() -> None:
    model = linear(classes=5)
    images, labels = samples(model)
    ddn = load(params("DDN", steps=50))
    how = How(target="least_likely")
    (result,) = run(ddn, model, (images, labels), how)
    targets = how.targets(model(images), labels)
    reached = result.logits.argmax(dim=1) == targets
    assert reached[torch.from_numpy(result.success)].float().mean() > 0.9


def test_a_second_attack_at_a_larger_eps_has_as_many_tries() -> None:
    torch.manual_seed(0)
    images = torch.rand(200, 1, 3, 4) * 0.02 + 0.49
    labels = Sum()(images).argmax(dim=1)

    def lucky(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        far = x + eps * (1 - 2 * y).view(-1, 1, 1, 1)
        return torch.where(torch.rand(len(x), 1, 1, 1) < 0.4, far, x)

    for restarts, low, high in ((1, 0.1, 0.7), (20, 0.99, 1)):
        _, large = run(own(lucky), Sum(), (images, labels), How(restarts=restarts), [0.1, 0.2])
        again = large.broken_again[~np.isnan(large.broken_again)]
        assert low <= again.mean() <= high


def test_a_model_that_answers_at_random_is_judged_by_the_mean_of_several_answers() -> None:
    class Moody(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            wrong = (torch.rand(len(x)) < 0.1).float() * 3
            return torch.stack([1 - wrong, torch.zeros(len(x))], dim=1)

    data = torch.rand(300, 1, 3, 4), torch.zeros(300, dtype=torch.int64)
    nothing = own(lambda m, x, y, eps: x)
    once, often = (run(nothing, Moody(), data, How(eot=eot), [0.1])[0] for eot in (1, 50))
    assert once.success.mean() > 0.05
    assert not often.success.any()


def test_the_tenth_is_the_samples_not_the_groups() -> None:
    def drawn(first: int, n: int) -> set[int]:
        images = torch.full((n, 1, 3, 4), 0.49)
        labels = torch.zeros(n, dtype=torch.int64)
        seed_everything(0, "attack", 0)
        _, large = attack_group(own(Weak()), Sum(), images, labels, eps=[0.1, 0.2], first=first)
        return {first + i for i in np.flatnonzero(~np.isnan(large.broken_again))}

    whole = drawn(0, 120)
    assert 3 < len(whole) < 30
    assert whole == set().union(*(drawn(i, 10) for i in range(0, 120, 10)))


def test_passes_of_several_copies_are_tallied_once() -> None:
    model = linear()
    data = samples(model, 6)
    attack = LoadedAttack("linf", frozenset(), partial(apgd_ce, norm="linf", steps=5, eot=4))
    (result,) = run(attack, model, data, How(), [1e-6])
    assert (result.n_backward == 5 * 4).all()
    assert (result.n_forward == 6 * 4).all()


def test_groups_share_a_batch_as_memory_allows() -> None:
    asked: list[range] = []

    def attacked(piece: range) -> Any:
        asked.append(piece)
        if len(piece) > 4:
            raise torch.OutOfMemoryError
        return list(piece)

    pieces = [range(i, i + 2) for i in range(0, 10, 2)]
    gpu = in_batches(attacked, pieces, torch.device("cuda"))
    assert [sample for batch in gpu for sample in batch] == list(range(10))
    assert len(asked) < 6
    asked.clear()
    in_batches(attacked, pieces, torch.device("cpu"))
    assert asked == pieces
    with pytest.raises(torch.OutOfMemoryError):
        in_batches(attacked, [range(9)], torch.device("cuda"))


def test_a_detector_must_accept() -> None:
    from robsweep.tasks.attacks.detector import Detector

    model = linear()
    data = samples(model)
    eps = [float(margins(model, data[0], 1).max()) * 1.2]
    pgd = load(params("LinfPGD", eps))

    def scorer(model: nn.Module, images: Tensor) -> Tensor:
        return images.flatten(1).mean(dim=1)

    accepts_all = How(detector=Detector(scorer, 2.0))
    accepts_none = replace(accepts_all, detector=Detector(scorer, -1.0))
    (all_,) = run(pgd, model, data, accepts_all, eps)
    (none,) = run(pgd, model, data, accepts_none, eps)
    assert all_.success.all()
    assert not none.success.any()
    assert set(none.check) == {"ok"}
