import inspect
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from robsweep.tasks import ball
from robsweep.tasks.attacks.load import LoadedAttack
from robsweep.tasks.attacks.methods.fab import fab, fab_targeted
from robsweep.tasks.attacks.methods.hyperplane import to_hyperplane
from robsweep.tasks.attacks.run import Result, attack_group
from robsweep.tasks.catalogue import ATTACKS
from robsweep.tasks.logits import margin

NORMS = ("linf", "l2", "l1")
ORDERS = {"linf": np.inf, "l2": 2, "l1": 1}


def shortest(point: np.ndarray, normal: np.ndarray, value: float, norm: str) -> float | None:
    """Length of the smallest step onto the hyperplane in the box; None where there is none."""
    n = len(point)
    if norm == "l2":
        return _shortest_l2(point, normal, value)
    # variables: the step's positive and negative parts, and the largest of them for linf
    bounds = [(0, 1 - p) for p in point] + [(0, p) for p in point] + [(0, None)]
    cost = np.r_[np.zeros(2 * n), 1] if norm == "linf" else np.r_[np.ones(2 * n), 0]
    parts = np.c_[np.eye(n), np.eye(n), -np.ones(n)]
    found = linprog(
        cost, parts if norm == "linf" else None, np.zeros(n) if norm == "linf" else None,
        np.r_[normal, -normal, 0][None], [-value], bounds,
    )  # fmt: skip
    return float(found.fun) if found.status == 0 else None


def _shortest_l2(point: np.ndarray, normal: np.ndarray, value: float) -> float | None:
    """By bisection over the multiplier: clip(point - t * normal) is what KKT asks for."""

    def step(t: float) -> np.ndarray:
        clipped: np.ndarray = np.clip(point - t * normal * np.sign(value), 0, 1) - point
        return clipped

    def left(t: float) -> float:
        return float(abs(value) + np.sign(value) * normal @ step(t))

    low, high = 0.0, 1e6
    if left(high) > 0:
        return None
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if left(middle) > 0 else (low, middle)
    return float(np.linalg.norm(step(high)))


@pytest.mark.parametrize("norm", NORMS)
def test_steps_to_a_hyperplane_are_the_shortest_in_the_box(norm: str) -> None:
    torch.manual_seed(0)
    points = torch.rand(60, 6).double()
    points[::4, 0], points[1::4, 1] = 0, 1
    normals, values = torch.randn(60, 6).double(), torch.randn(60).double()
    normals[::3, 2] = 0
    normals[5:10] *= 1e-3
    values[5:10] *= 1e-3
    steps = to_hyperplane(points, normals, values, norm)
    after = values + (normals * steps).sum(dim=1)
    assert ((points + steps) >= -1e-12).all()
    assert ((points + steps) <= 1 + 1e-12).all()
    missed = 0
    for i in range(60):
        args = points[i].numpy(), normals[i].numpy(), float(values[i])
        expected = shortest(*args, norm)
        if expected is None:
            missed += 1
            # the corner at which the linear function is closest to 0
            corner = np.where(args[1] * args[2] > 0, 0.0, 1.0)
            corner = np.where(args[1] == 0, args[0], corner)
            np.testing.assert_allclose((points + steps)[i], corner, atol=1e-12)
        else:
            assert abs(after[i]) < 1e-9
            length = np.linalg.norm(steps[i].numpy(), ord=ORDERS[norm])
            assert length == pytest.approx(expected, rel=1e-6)
    assert 3 < missed < 40


@pytest.mark.parametrize("norm", NORMS)
def test_steps_without_a_direction_stay(norm: str) -> None:
    points = torch.rand(3, 5)
    normals = torch.zeros(3, 5)
    normals[2] = 1
    steps = to_hyperplane(points, normals, torch.tensor([1.0, 0.0, 0.0]), norm)
    assert torch.equal(steps, torch.zeros(3, 5))
    tiny = torch.full((1, 5), 1e-30)
    assert torch.isfinite(to_hyperplane(points[:1], tiny, torch.tensor([9.0]), norm)).all()


def linear(classes: int, features: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes)).requires_grad_(False).eval()


def attacked(attack: Callable[..., Tensor], model: nn.Module, images: Tensor, norm: str) -> Result:
    labels = model(images).argmax(dim=1)
    loaded = LoadedAttack(norm, frozenset(), attack)
    (result,) = attack_group(loaded, model, images, labels, eps=None)
    assert set(result.check) <= {"ok"}
    return result


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_linear_models_are_broken_at_their_distance(
    attack: Callable[..., Tensor], norm: str
) -> None:
    model = linear(classes=4)
    images = torch.rand(15, 1, 3, 4)
    result = attacked(lambda m, x, y: attack(m, x, y, norm=norm, steps=30), model, images, norm)
    weight, labels = model[1].weight.double().numpy(), model(images).argmax(dim=1)
    logits = model(images).double().numpy()
    for i, label in enumerate(labels.tolist()):
        lengths = [
            shortest(images[i].flatten().double().numpy(), weight[k] - weight[label],
                     float(logits[i, k] - logits[i, label]), norm)
            for k in range(4) if k != label
        ]  # fmt: skip
        possible = [length for length in lengths if length is not None]
        assert result.success[i] == bool(possible)
        if possible:
            assert min(possible) * 0.999 <= result.distance[i] <= min(possible) * 1.02


def test_images_in_the_middle_are_broken_at_margin_by_dual_norm() -> None:
    model = linear(classes=2)
    images = torch.rand(20, 12) * 0.2 + 0.4
    logits = model(images)
    weight = model[1].weight[0] - model[1].weight[1]
    for norm, dual in (("linf", 1), ("l2", 2)):
        result = attacked(lambda m, x, y, n=norm: fab(m, x, y, norm=n), model, images, norm)
        exact = (logits[:, 0] - logits[:, 1]).abs() / torch.linalg.vector_norm(weight, ord=dual)
        np.testing.assert_allclose(result.distance, exact, rtol=2e-3)


def bent(inputs: int = 2) -> nn.Sequential:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 3))
    model[0].weight.data *= 4
    return model.requires_grad_(False).eval()


@pytest.mark.parametrize("norm", NORMS)
def test_a_small_network_is_broken_near_its_true_distance(norm: str) -> None:
    model, images = bent(), torch.rand(40, 2)
    ticks = torch.linspace(0, 1, 401)
    grid = torch.cartesian_prod(ticks, ticks)
    labels, on_grid = model(images).argmax(dim=1), model(grid).argmax(dim=1)
    order = ORDERS[norm]
    true = torch.stack(
        [torch.linalg.vector_norm(grid[on_grid != y] - x, ord=order, dim=1).min()
         for x, y in zip(images, labels, strict=True)]
    ).numpy()  # fmt: skip
    targeted = attacked(
        lambda m, x, y: fab_targeted(m, x, y, norm=norm, steps=50), model, images, norm
    )
    untargeted = attacked(lambda m, x, y: fab(m, x, y, norm=norm, steps=50), model, images, norm)
    for result in (targeted, untargeted):
        found = result.success
        assert found.mean() > 0.8
        assert (result.distance[found] >= true[found] - 2 / 400).all()
        assert np.median(result.distance[found] - true[found]) < 2 / 400


def test_more_classes_come_no_less_close() -> None:
    model = linear(classes=6)
    images = torch.rand(20, 12)
    distances = [
        attacked(lambda m, x, y, k=k: fab_targeted(m, x, y, classes=k, steps=20), model, images,
                 "linf").distance
        for k in (1, 3, 50)
    ]  # fmt: skip
    assert (distances[1] <= distances[0] * 1.001).all()
    assert (distances[2] <= distances[1] * 1.001).all()
    assert (distances[2] < distances[0] * 0.999).any()


def test_passes_are_counted() -> None:
    model, images = linear(classes=4), torch.rand(5, 12) * 0.2 + 0.4
    result = attacked(lambda m, x, y: fab(m, x, y, steps=10), model, images, "linf")
    # the search: both ends, three steps; 16 that bring any result closer
    assert (result.n_forward == 10 * 2 + 2 + 3 + 16).all()
    assert (result.n_backward == 10 * 4).all()
    result = attacked(lambda m, x, y: fab_targeted(m, x, y, steps=10), model, images, "linf")
    assert (result.n_forward == 1 + 3 * 10 * 2 + 2 + 3 + 16).all()
    assert (result.n_backward == 3 * 10).all()


@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_images_stay_where_nothing_is_found(attack: Callable[..., Tensor]) -> None:
    model = linear(classes=3)
    model[1].bias[1] += 100
    images = torch.rand(4, 1, 3, 4)
    labels = torch.ones(4, dtype=torch.int64)
    for norm in NORMS:
        assert torch.equal(attack(model, images, labels, norm=norm, steps=5), images)
    model[1].weight.zero_()
    assert torch.equal(attack(model, images, labels, steps=5), images)


def test_adversarials_are_beyond_doubt_and_the_search_shortens_them() -> None:
    model, images = bent(5), torch.rand(30, 5)
    labels = model(images).argmax(dim=1)
    found = fab(model, images, labels, steps=10)
    moved = (found != images).any(dim=1)
    assert moved.sum() > 20
    assert (margin(model(found), labels)[moved] < 0).all()
    assert ball.in_range(found).all()
    assert torch.equal(found, fab(model, images, labels, steps=10))


@pytest.mark.parametrize("name", ["fab", "fab_targeted"])
def test_catalogue_parameters_are_the_defaults(name: str) -> None:
    function = {"fab": fab, "fab_targeted": fab_targeted}[name]
    given = inspect.signature(function).parameters
    assert ATTACKS[name].parameters == {
        key: p.default for key, p in given.items()
        if p.kind is p.KEYWORD_ONLY and key != "norm"
    }  # fmt: skip
