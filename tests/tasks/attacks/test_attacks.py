from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.how import How
from robsweep.tasks.attacks.job import check_it_works
from robsweep.tasks.attacks.load import LoadedAttack, load
from robsweep.tasks.attacks.run import Result, attack_group
from robsweep.tasks.catalogue import ATTACKS
from robsweep.tasks.catalogue.foolbox import FOOLBOX
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import seed_everything

FEATURES = 12


def linear(seed: int = 0, classes: int = 2) -> nn.Sequential:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(FEATURES, classes)).requires_grad_(False)
    return model.eval()


def samples(model: nn.Module, n: int = 20) -> tuple[Tensor, Tensor]:
    """Images far enough from the border of [0, 1], labelled as the model sees them."""
    images = torch.rand(n, 1, 3, 4) * 0.2 + 0.4
    return images, model(images).argmax(dim=1)


def params(name: str, eps: list[float] | None = None, **parameters: Any) -> dict[str, Any]:
    attack = ATTACKS[name]
    return {
        "attack": name,
        "norm": attack.default_norm,
        "eps": eps,
        "parameters": {**attack.parameters, **parameters},
    }


def run_group(
    attack: LoadedAttack,
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    eps: list[float] | None = None,
    restarts: int = 1,
) -> list[Result]:
    seed_everything(0, "attack", 0)
    return attack_group(attack, model, *data, eps=eps, how=How(restarts=restarts))


def own(
    function: Callable[..., Tensor], norm: str = "linf", *, starts: bool = False
) -> LoadedAttack:
    return LoadedAttack(norm, frozenset({"starting_points"} if starts else ()), function)


def margins(model: nn.Sequential, images: Tensor, dual: float) -> np.ndarray:
    """Exact distance to the boundary of a linear model of two classes: |margin| / ||w||."""
    w = model[1].weight[0] - model[1].weight[1]
    logits = model(images)
    return ((logits[:, 0] - logits[:, 1]).abs() / torch.linalg.vector_norm(w, ord=dual)).numpy()


@pytest.mark.parametrize(
    ("name", "dual"), [("LinfPGD", 1), ("LinfFastGradient", 1), ("LinfBasicIterative", 1),
                       ("L2PGD", 2), ("L2FastGradient", 2)]
)  # fmt: skip
def test_gradient_attacks_break_linear_models_just_beyond_the_margin(name: str, dual: int) -> None:
    model = linear()
    images, labels = samples(model, 10)
    exact = margins(model, images, dual)
    # the steps of L2PGD reach no further than 1.25 eps from a random start
    from_image = {"random_start": False}
    for i, radius in enumerate(exact.tolist()):
        eps = [0.9 * radius, 1.1 * radius]
        one = images[i : i + 1], labels[i : i + 1]
        below, above = run_group(load(params(name, eps, **from_image)), model, one, eps)
        assert not below.success[0]
        assert np.isnan(below.distance[0])
        assert above.success[0]
        assert radius * 0.999 <= above.distance[0] <= 1.1 * radius
        assert below.check == above.check == ["ok"]


def test_deepfool_finds_the_distance_to_a_linear_boundary() -> None:
    model = linear()
    data = samples(model)
    (result,) = run_group(load(params("L2DeepFool")), model, data)
    assert result.success.all()
    np.testing.assert_allclose(result.distance, margins(model, data[0], 2), rtol=0.03)
    assert (result.distance >= margins(model, data[0], 2) * 0.999).all()


# the ones that need more than a model, and the one that is all the others, have tests of their own
_ALONE = {"evasion", "latent_descent", "autoattack"}


@pytest.mark.parametrize("name", sorted({*ATTACKS} - {*FOOLBOX} - _ALONE))
def test_every_attack_of_ours_gives_valid_adversarials(name: str) -> None:
    model = linear(classes=4)
    images, labels = samples(model, 8)
    fixed = ATTACKS[name].gives == "fixed_eps"
    eps = [0.05, 0.2] if fixed else None
    few = {k: v for k, v in {"steps": 5, "queries": 50}.items() if k in ATTACKS[name].parameters}
    results = run_group(load(params(name, eps, **few)), model, (images, labels), eps)
    assert [result.eps for result in results] == (eps or [None])
    for result in results:
        assert set(result.check) <= {"ok"}
        assert result.adversarials.shape == images.shape
        assert torch.equal(result.logits, model(result.adversarials))
        if result.eps is not None:
            assert ball.inside(
                images, result.adversarials, ATTACKS[name].default_norm, result.eps
            ).all()
        predicted = result.logits.argmax(dim=1).numpy()
        assert (result.success == (predicted != labels.numpy())).all()
        found = ball.distance(images, result.adversarials, ATTACKS[name].default_norm).numpy()
        np.testing.assert_array_equal(result.distance[result.success], found[result.success])
        assert np.isnan(result.distance[~result.success]).all()
    if not fixed:
        assert results[0].success.any()


def test_misclassified_samples_are_broken_and_never_attacked() -> None:
    model = linear()
    images, labels = samples(model)
    labels[::2] = 1 - labels[::2]
    seen = []

    def attack(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        seen.append(len(x))
        return x

    small, large = run_group(own(attack), model, (images, labels), [0.1, 0.2])
    assert seen == [10, 10]
    for result in (small, large):
        assert result.success.tolist() == [True, False] * 10
        assert (result.distance[::2] == 0).all()
        assert torch.equal(result.adversarials, images)
        assert np.isnan(result.inferred_from_eps).all()
        assert result.n_forward.sum() == 0


def test_what_a_smaller_eps_breaks_is_carried_over() -> None:
    model = linear()
    data = samples(model)
    radii = np.sort(margins(model, data[0], 1))
    eps = [float(radii[9:11].mean()), float(radii[-1]) * 1.2]
    small, large = run_group(load(params("LinfPGD", eps)), model, data, eps)
    broken = small.success
    assert 5 < broken.sum() <= 10
    assert large.success.all()
    assert (large.inferred_from_eps[broken] == eps[0]).all()
    assert np.isnan(large.inferred_from_eps[~broken]).all()
    assert (large.distance[broken] == small.distance[broken]).all()
    assert torch.equal(large.logits[broken], small.logits[broken])
    assert (large.n_forward[broken] == 0).all()
    assert (large.n_forward[~broken] == 40).all()  # steps
    assert (large.n_backward[~broken] == 40).all()


def test_restarts_attack_only_what_is_left_with_fresh_randomness() -> None:
    model = linear()
    images, labels = samples(model, 200)
    eps = [float(np.median(margins(model, images, 1))) * 2]
    attack = load(params("LinfAdditiveUniformNoise", eps))
    broken = [run_group(attack, model, (images, labels), eps, n)[0] for n in (1, 5, 50)]
    counts = [int(result.success.sum()) for result in broken]
    assert counts[0] < counts[1] < counts[2]
    assert (broken[2].success >= broken[1].success).all()
    assert (broken[0].n_forward == 0).all()


def test_min_norm_restarts_keep_the_closest() -> None:
    model = linear()
    data = samples(model)
    once, often = (
        run_group(load(params("SaltAndPepperNoise", steps=20)), model, data, restarts=n)[0]
        for n in (1, 5)
    )
    assert (often.success >= once.success).all()
    both = once.success & often.success
    assert (often.distance[both] <= once.distance[both]).all()
    assert (often.distance[both] < once.distance[both]).any()


def test_the_job_believes_nothing() -> None:
    model = linear()
    images, labels = samples(model, 4)

    def wild(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
        x = x.clone()
        x[0] = torch.nan
        x[1] = torch.inf
        x[2] += 100
        return x

    (result,) = run_group(own(wild), model, (images, labels), [0.01])
    assert result.check == ["not finite", "not finite", "ok", "ok"]
    assert torch.equal(result.adversarials[:2], images[:2])
    assert ball.inside(images, result.adversarials, "linf", 0.01).all()
    assert not result.success[:2].any()

    (result,) = run_group(own(wild, "l0"), model, (images, labels), [1.0])
    assert result.check == ["not finite", "not finite", "outside the ball", "ok"]
    assert not result.success[2]


def test_a_tie_is_adversarial() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False)).requires_grad_(False)
    model[1].weight.copy_(torch.tensor([[1.0], [-1.0]]))
    images, labels = torch.full((1, 1), 0.5), torch.zeros(1, dtype=torch.int64)

    def to_zero(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return torch.zeros_like(x)

    (result,) = run_group(own(to_zero), model, (images, labels))
    assert result.success.tolist() == [True]
    assert result.distance.tolist() == [0.5]


def test_one_raising_sample_does_not_stop_the_others() -> None:
    model = linear()
    images, labels = samples(model, 5)
    images[3, 0, 0, 0] = 1
    labels = model(images).argmax(dim=1)

    def fragile(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if (x[:, 0, 0, 0] > 0.9).any():
            raise AssertionError("cannot start")
        return 1 - x

    (result,) = run_group(own(fragile), model, (images, labels))
    assert result.check == ["ok"] * 3 + ["error: AssertionError: cannot start", "ok"]
    assert not result.success[3]
    assert torch.equal(result.adversarials[3], images[3])


def test_an_attack_that_always_raises_fails_the_job() -> None:
    def broken(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        raise ValueError("no such thing")

    model = linear()
    (always,) = run_group(own(broken), model, samples(model, 3))
    (alone,) = run_group(own(broken), model, samples(model, 1))
    (works,) = run_group(own(lambda m, x, y: 1 - x), model, samples(model, 3))
    for groups in ([always], [always, always], [alone, alone]):
        with pytest.raises(ValueError, match="no such thing"):
            check_it_works(groups)
    check_it_works([alone])
    check_it_works([always, works])
    check_it_works([works, always])


class OnlyTheOthers(nn.Module):
    """Class 1 for images of ones, class 0 for all else."""

    def forward(self, x: Tensor) -> Tensor:
        ones = (x.flatten(1) == 1).all(dim=1).float()
        return torch.stack([1 - ones, ones], dim=1)


@pytest.mark.parametrize("name", ["L2Boundary", "LinfHopSkipJump"])
def test_decision_attacks_start_from_other_images_or_say_that_they_cannot(name: str) -> None:
    images = torch.rand(4, 1, 3, 4)
    images[3] = 1
    attack = load(params(name, steps=3))
    (result,) = run_group(attack, OnlyTheOthers(), (images, torch.tensor([0, 0, 0, 1])))
    # the three have an image of ones to start from; that one has starts in plenty
    assert result.check == ["ok"] * 4
    assert result.success.all()
    (result,) = run_group(attack, OnlyTheOthers(), (images[:3], torch.tensor([0, 0, 0])))
    assert result.check == ["no starting point"] * 3
    assert not result.success.any()
    assert np.isnan(result.distance).all()


def test_decision_attacks_get_close_to_a_linear_boundary() -> None:
    model = linear()
    data = samples(model)
    for name, dual, steps in (("L2Boundary", 2, 1000), ("LinfHopSkipJump", 1, 10)):
        (result,) = run_group(load(params(name, steps=steps)), model, data)
        exact = margins(model, data[0], dual)
        assert result.success.all()
        assert (result.distance >= exact * 0.999).all()
        assert np.median(result.distance / exact) < 2
        assert (result.n_backward == 0).all()
        assert (result.n_forward > 100).all()


def test_deepfool_counts_its_passes() -> None:
    model = linear()
    (result,) = run_group(load(params("L2DeepFool", steps=1)), model, samples(model))
    # to order the classes, and one step; 16 to bring the result closer
    assert (result.n_forward == 2 + 16).all()
    assert (result.n_backward == 1).all()


def test_attacks_that_do_not_fit_their_eps_are_refused() -> None:
    with pytest.raises(InputError, match="needs eps"):
        load(params("LinfPGD"))
    with pytest.raises(InputError, match="no eps"):
        load(params("L2DeepFool", [0.1]))
    with pytest.raises(InputError, match="has norm linf, not 'l2'"):
        load({**params("LinfPGD", [0.1]), "norm": "l2"})
    with pytest.raises(InputError, match="neither a catalogue name"):
        load({"attack": "LinfPDG", "norm": "linf", "eps": [0.1], "parameters": {}})
