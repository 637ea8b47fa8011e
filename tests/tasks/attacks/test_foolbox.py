"""Every attack of foolbox through the one adapter."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.foolbox_attacks import foolbox_class
from robsweep.tasks.attacks.job import check_it_works
from robsweep.tasks.attacks.load import LoadedAttack, load
from robsweep.tasks.attacks.run import NO_START
from robsweep.tasks.attacks.starts import starting_points
from robsweep.tasks.catalogue.foolbox import FOOLBOX
from robsweep.tasks.errors import InputError
from tests.tasks.attacks.test_attacks import (
    OnlyTheOthers,
    linear,
    margins,
    params,
    run_group,
    samples,
)

foolbox = pytest.importorskip("foolbox")

BRENDEL_BETHGE = [name for name in FOOLBOX if "BrendelBethge" in name]
MIN_NORM = [name for name, attack in FOOLBOX.items() if attack.gives == "min_norm"]
FROM_STARTS = [*BRENDEL_BETHGE, "BinarizationRefinement", "L0Pointwise", "L2Boundary",
               "L2HopSkipJump", "L2Pointwise", "LinfHopSkipJump"]  # fmt: skip
FEW = {
    "steps": 3, "directions": 5, "repeats": 3, "population": 4, "binary_search_steps": 2,
    "initial_gradient_eval_steps": 5, "num_translations": 2, "num_rotations": 2,
}  # fmt: skip


class Binarised(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.eval()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.model((x >= 0.5).float())


@pytest.fixture(autouse=True)
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """At an eps, `__call__` cuts a closest adversarial down to that size, and l0 ones raise."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("run is what we use")

    for kind in (foolbox.attacks.base.MinimizationAttack, foolbox.attacks.base.FixedEpsilonAttack):
        monkeypatch.setattr(kind, "__call__", refuse)


def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step straight to the boundary instead of the trust region, which takes numba a minute."""

    def solve(x0: Any, x: Any, b: Any, low: float, high: float, c: float, r: float) -> Any:
        return np.clip(x + c * b / (b @ b), low, high) - x

    for name in BRENDEL_BETHGE:
        kind = foolbox_class(FOOLBOX[name].path)
        monkeypatch.setattr(kind, "instantiate_optimizer", lambda _: SimpleNamespace(solve=solve))


def few(name: str) -> dict[str, Any]:
    return {key: value for key, value in FEW.items() if key in FOOLBOX[name].parameters}


def aimed(attack: LoadedAttack, targets: Tensor) -> LoadedAttack:
    """The attack with a target for each sample of a group."""

    def function(model: Any, *arguments: Any, **starts: Any) -> Tensor:
        return attack.function(model, *arguments, targets=targets[model.samples], **starts)

    return attack._replace(function=function)


def both_classes(n: int = 20) -> tuple[nn.Sequential, Tensor, Tensor]:
    """A linear model whose boundary goes through the middle of the images."""
    model, images = linear(), torch.rand(n, 1, 3, 4)
    logits = model(images)
    model[1].bias[0] -= (logits[:, 0] - logits[:, 1]).median() + 1e-3
    labels = model(images).argmax(dim=1)
    assert 0 < labels.sum() < n
    return model, images, labels


def closest(model: nn.Sequential, images: Tensor, labels: Tensor, norm: str) -> np.ndarray:
    """No adversarial of a linear model of two classes is closer than this."""
    if norm != "l0":
        return margins(model, images, {"linf": 1, "l2": 2, "l1": torch.inf}[norm])
    sign = 1 - 2 * labels.float()[:, None]
    w = sign * (model[1].weight[0] - model[1].weight[1])
    gains = torch.maximum(-w * images.flatten(1), w * (1 - images.flatten(1)))
    logits = model(images)
    left = (logits[:, 0] - logits[:, 1]).abs()[:, None]
    reached = gains.sort(dim=1, descending=True).values.cumsum(dim=1)
    return (1 + (reached < left * (1 - 1e-5)).sum(dim=1)).numpy()


@pytest.mark.parametrize("name", FOOLBOX)
def test_every_attack_gives_what_it_says(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if name in BRENDEL_BETHGE:
        without_compiler(monkeypatch)
    check_attack(name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.parametrize("name", BRENDEL_BETHGE)
def test_brendel_bethge_with_its_compiled_solver(name: str) -> None:
    check_attack(name)
    model = linear()
    data = samples(model, 4)
    (result,) = run_group(load(params(name, steps=200)), model, data)
    exact = closest(model, *data, FOOLBOX[name].default_norm)
    if FOOLBOX[name].default_norm != "l0":  # that one hardly leaves its start
        assert np.median(result.distance / exact) < 1.02


def check_attack(name: str) -> None:
    """Two runs with one seed on a linear model of two classes, where distances are known."""
    attack, model = FOOLBOX[name], linear()
    images, _ = samples(model, 8)
    binarised = Binarised(model) if name == "BinarizationRefinement" else None
    labels = (binarised or model)(images).argmax(dim=1)
    before = images.clone(), model[1].weight.clone()
    eps = [0.05, 0.3] if attack.gives == "fixed_eps" else None
    loaded = load(params(name, eps, **few(name)))
    if attack.targets == "required":
        loaded = aimed(loaded, 1 - labels)
    results, again = (
        run_group(loaded, binarised or model, (images, labels), eps) for _ in range(2)
    )
    assert torch.equal(images, before[0])
    assert torch.equal(model[1].weight, before[1])
    assert model[1].weight.grad is None
    bound = closest(model, images, labels, attack.default_norm)
    for result, same in zip(results, again, strict=True):
        assert set(result.check) <= {"ok", NO_START}
        assert result.adversarials.shape == images.shape
        assert result.adversarials.dtype == torch.float32
        assert ball.in_range(result.adversarials).all()
        found = ball.distance(images, result.adversarials, attack.default_norm).numpy()
        np.testing.assert_array_equal(result.distance[result.success], found[result.success])
        if binarised is None:
            assert (found[result.success] >= bound[result.success] * 0.9999).all()
        if attack.access == "white_box":
            assert (result.n_backward[np.isnan(result.inferred_from_eps)] > 0).all()
        else:
            assert result.n_backward.sum() == 0
        assert torch.equal(result.adversarials, same.adversarials)
        np.testing.assert_array_equal(result.n_forward, same.n_forward)
        np.testing.assert_array_equal(result.distance, same.distance)


@pytest.mark.parametrize(
    ("name", "ratio", "parameters"),
    [
        ("LinfDeepFool", 1.03, {}),
        ("LInfFMN", 1.01, {}),
        ("L1FMN", 1.01, {}),
        ("L0FMN", 2.1, {}),
        ("DDN", 1.05, {}),
        ("L2CarliniWagner", 1.1, {"steps": 100, "initial_const": 1.0, "binary_search_steps": 6}),
        ("L1EAD", 1.1, {"steps": 100, "initial_const": 1.0, "binary_search_steps": 6}),
        ("L2HopSkipJump", 1.2, {"steps": 10}),
        ("L0Pointwise", 1.5, {}),
    ],
)
def test_min_norm_attacks_come_close_to_a_linear_boundary(
    name: str, ratio: float, parameters: dict[str, Any]
) -> None:
    model = linear()
    data = samples(model, 10)
    (result,) = run_group(load(params(name, **parameters)), model, data)
    exact = closest(model, *data, FOOLBOX[name].default_norm)
    assert result.success.all()
    assert np.median(result.distance / exact) <= ratio


def test_what_l2_fmn_of_foolbox_does_not_project_is_drawn_back() -> None:
    model = linear()
    data = samples(model, 10)
    (result,) = run_group(load(params("L2FMN")), model, data)
    walked = load(params("L2FMN")).function(model, *data)
    exact = closest(model, *data, "l2")
    assert (ball.distance(data[0], walked, "l2").numpy() > 2 * exact).all()
    assert (result.distance < 1.1 * exact).all()


@pytest.mark.parametrize(
    "name",
    ["L1PGD", "LinfAdamPGD", "LinfMomentumIterativeFastGradient", "L1FastGradient",
     "SparseL1Descent"],
)  # fmt: skip
def test_fixed_eps_attacks_break_linear_models_beyond_the_margin_alone(name: str) -> None:
    model = linear()
    images, labels = samples(model, 4)
    exact = closest(model, images, labels, FOOLBOX[name].default_norm)
    steps = {"random_start": False}
    for i, radius in enumerate(exact.tolist()):
        eps = [0.9 * radius, 8 * radius]  # the l1 steps are those of l2, and far from the best
        one = images[i : i + 1], labels[i : i + 1]
        below, above = run_group(load(params(name, eps, **steps)), model, one, eps)
        assert not below.success[0]
        assert above.success[0]


@pytest.mark.parametrize("name", MIN_NORM)
def test_attacks_that_find_their_own_distance_take_no_eps(name: str) -> None:
    with pytest.raises(InputError, match="no eps"):
        load(params(name, [0.1]))


@pytest.mark.parametrize("name", ["L2CarliniWagner", "EAD", "L1EAD", "DDN", "L0FMN", "Dataset"])
def test_images_come_back_where_nothing_is_found(name: str) -> None:
    model = linear()
    model[1].bias += torch.tensor([50.0, 0.0])
    images, labels = samples(model, 4)
    function = load(params(name, **{**few(name), "steps": 60} if few(name) else {})).function
    assert torch.equal(function(model, images, labels), images)


@pytest.mark.parametrize("name", sorted({*FROM_STARTS} - {*BRENDEL_BETHGE}))
def test_one_sample_without_a_start_stops_no_other(name: str) -> None:
    images = torch.rand(4, 1, 3, 4)
    images[3] = 1
    labels = torch.tensor([0, 0, 0, 1])
    attack = load(params(name, **few(name)))
    assert "starting_points" in attack.wants
    (result,) = run_group(attack, OnlyTheOthers(), (images[:3], labels[:3]))
    assert result.check == [NO_START] * 3
    if name != "BinarizationRefinement":
        (result,) = run_group(attack, OnlyTheOthers(), (images, labels))
        assert result.check == ["ok"] * 4
        assert result.success.all()


@pytest.mark.parametrize("name", FOOLBOX)
def test_only_attacks_that_can_aim_take_targets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_compiler(monkeypatch)
    eps = [0.1] if FOOLBOX[name].gives == "fixed_eps" else None
    wants = load(params(name, eps, **few(name))).wants
    assert ("targets" in wants) == (FOOLBOX[name].targets != "none")
    assert ("starting_points" in wants) == (name in FROM_STARTS)


@pytest.mark.parametrize(
    "name", ["LinfPGD", "L2AdamBasicIterative", "DDN", "L1FMN", "L2CarliniWagner", "GenAttack"]
)
def test_targets_are_reached(name: str) -> None:
    model = linear(classes=4)
    images, labels = samples(model, 8)
    targets = (labels + 2) % 4
    fixed = FOOLBOX[name].gives == "fixed_eps"
    eps = [0.39 if FOOLBOX[name].default_norm == "linf" else 1.3] if fixed else None
    fewer = {"steps": 50} | ({"initial_const": 10.0} if name == "L2CarliniWagner" else {})
    (result,) = run_group(
        aimed(load(params(name, eps, **fewer)), targets), model, (images, labels), eps
    )
    assert torch.equal(result.logits.argmax(dim=1), targets)


def test_decisions_walk_from_starts_of_the_target() -> None:
    model = linear(classes=4)
    images, labels = samples(model, 8)
    targets = (labels + 2) % 4
    pool = torch.rand(300, 1, 3, 4)
    starts = starting_points(
        model, images, labels, pool, model(pool).argmax(dim=1), targets=targets
    )
    assert starts.found.all()
    assert torch.equal(model(starts.images).argmax(dim=1), targets)
    function = load(params("L2Boundary", steps=50)).function
    closer = function(model, images, labels, starting_points=starts.images, targets=targets)
    assert torch.equal(model(closer).argmax(dim=1), targets)
    before = ball.distance(images, starts.images, "l2")
    assert (ball.distance(images, closer, "l2") < before).all()


def test_gen_attack_needs_targets() -> None:
    model = linear()
    (result,) = run_group(load(params("GenAttack", [0.1])), model, samples(model, 2), [0.1])
    with pytest.raises(InputError, match="needs targets"):
        check_it_works([result])


def test_pointwise_leaves_no_pixel_that_it_could_reset() -> None:
    model = linear(classes=4)
    images, labels = samples(model, 8)
    (result,) = run_group(load(params("L0Pointwise")), model, (images, labels))
    for image, adversarial, label in zip(images, result.adversarials, labels, strict=True):
        for pixel in (adversarial != image).nonzero():
            reset = adversarial.clone()
            reset[tuple(pixel)] = image[tuple(pixel)]
            assert model(reset[None]).argmax() == label


def test_pointwise_in_l2_goes_on_to_the_boundary() -> None:
    model = linear()
    data = samples(model, 10)
    pixels, values = (
        run_group(load(params(name)), model, data)[0] for name in ("L0Pointwise", "L2Pointwise")
    )
    measured = ball.distance(data[0], pixels.adversarials, "l2").numpy()
    assert (values.distance < measured).all()
    assert ((values.logits[:, 0] - values.logits[:, 1]).abs() < 1e-3).all()


def test_contrast_goes_as_far_as_the_boundary() -> None:
    model = linear()
    images = torch.rand(40, 1, 3, 4)
    labels = model(images).argmax(dim=1)
    grey = torch.full_like(images, 0.5)
    rows = torch.arange(40)
    ahead = [
        logits[rows, labels] - logits[rows, 1 - labels] for logits in (model(images), model(grey))
    ]
    share = (ahead[0] / (ahead[0] - ahead[1])).numpy()
    crosses = (ahead[1] < -1e-3).numpy()
    assert crosses.any()
    for name, precision in (
        ("BinarySearchContrastReduction", 2**-14),
        ("LinearSearchContrastReduction", 2e-3),
    ):
        (result,) = run_group(load(params(name)), model, (images, labels))
        assert (result.success == crosses).all()
        whole = ball.distance(images, grey, "l2").numpy()
        gone = (result.distance / whole)[crosses]
        assert (gone >= share[crosses] - 1e-5).all()
        assert (gone <= share[crosses] + precision).all()


@pytest.mark.parametrize("norm", FOOLBOX["Inversion"].norms)
def test_attacks_of_no_norm_are_measured_in_each(norm: str) -> None:
    model, images, labels = both_classes()
    (result,) = run_group(load({**params("Inversion"), "norm": norm}), model, (images, labels))
    found = load({**params("Inversion"), "norm": norm}).function(model, images, labels)
    torch.testing.assert_close(found, 1 - images)
    expected = ball.distance(images, 1 - images, norm).numpy()
    assert result.success.any()
    broken = result.success
    if norm == "l0":
        np.testing.assert_allclose(result.distance[broken], expected[broken])
    else:  # drawn back
        assert (result.distance[broken] < expected[broken]).all()


def test_the_dataset_attack_draws_from_the_group() -> None:
    model, images, labels = both_classes()
    (result,) = run_group(load(params("Dataset")), model, (images, labels))
    assert result.success.all()
    found = load(params("Dataset")).function(model, images, labels)
    assert {tuple(x.flatten().tolist()) for x in found} <= {
        tuple(x.flatten().tolist()) for x in images
    }


def test_binarization_goes_no_further_than_the_threshold() -> None:
    model = Binarised(linear())
    images = torch.rand(20, 1, 3, 4)
    labels = model(images).argmax(dim=1)
    (result,) = run_group(load(params("BinarizationRefinement")), model, (images, labels))
    assert result.success.all()
    below = torch.nextafter(torch.tensor(0.5), torch.tensor(0.0))
    changed = result.adversarials[result.adversarials != images]
    assert ((changed == 0.5) | (changed == below)).all()
    # at a wrong threshold foolbox refuses those whose class it would lose
    (wrong,) = run_group(
        load(params("BinarizationRefinement", threshold=0.1)), model, (images, labels)
    )
    assert not wrong.success.all()
    refused = [why for why, success in zip(wrong.check, wrong.success, strict=True) if not success]
    assert all("does not match" in why for why in refused)
