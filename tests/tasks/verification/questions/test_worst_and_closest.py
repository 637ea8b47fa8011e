"""Numbers from both sides, against brute force over activation patterns and fine grids."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.ball import distance
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.questions.closest import closest_one
from robsweep.tasks.verification.questions.worst import worst_one
from robsweep.tasks.verification.reading.properties import BOUNDARY
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question
from tests.tasks.verification.small_nets import dense, smallest_margin

pytest.importorskip("ortools")

NORMS = ("linf", "l1", "l2")
BY_MILP = Method(frozenset({"attack", "crown", "milp"}))
BY_BRANCHING = Method(frozenset({"attack", "crown", "alpha", "branching"}))


def asked(net: nn.Module, image: Tensor, eps: float | None = None, **more: object) -> Question:
    label = net(image).argmax(1)
    robustness = Robustness(eps, **more)  # type: ignore[arg-type]
    return Question(subject_of(net, tuple(image.shape[1:])), image, label, robustness)


def seeded(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def beside(logits: Tensor, one: int) -> tuple[Tensor, Tensor]:
    """The logit of a class, and the largest one of the others, (N,) each."""
    return logits[:, one], torch.cat([logits[:, :one], logits[:, one + 1 :]], 1).amax(1)


def on_a_grid(net: nn.Sequential, image: Tensor, norm: str, n: int = 1001) -> tuple[float, float]:
    """The nearest adversarial of a fine grid over all 2-D images, and how coarse the grid is."""
    axis = torch.linspace(0, 1, n, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    label = int(net(image).argmax(1))
    own, others = beside(net.double()(points), label)
    net.float()
    wrong = points[own <= others]
    step = 1 / (n - 1)
    return float(distance(image.expand(len(wrong), -1), wrong, norm).min()), 2 * step


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(3))
def test_the_nearest_adversarial_is_that_of_a_fine_grid(seed: int, norm: str) -> None:
    # 1 to 3 s each: a child process with a solver
    net, image = dense(seed, 2, 4, 3, 3), seeded(seed, 1, 2)
    expected, coarse = on_a_grid(net, image, norm)
    row, found = closest_one(asked(net, image), norm, Method(), 30.0)
    assert row.exact
    assert row.verdict == "falsified"
    assert found is not None
    assert row.distance_upper == float(distance(image, found[None], norm))
    own, others = beside(net(found[None]), int(net(image).argmax(1)))
    assert own <= others  # a tie is adversarial
    assert row.distance_lower <= row.distance_lower_reals <= row.distance_upper
    assert row.distance_lower_reals <= expected
    assert row.distance_upper >= expected - coarse


def closest_by_patterns(net: nn.Sequential, image: Tensor, label: int) -> float:
    """The exact linf distance: bisection on the exact smallest margin of balls."""
    low, high = 0.0, 1.0
    if smallest_margin(net, image, label, high) > 0:
        return float("inf")
    for _ in range(14):
        middle = (low + high) / 2
        if smallest_margin(net, image, label, middle) > 0:
            low = middle
        else:
            high = middle
    return high


@pytest.mark.slow  # a linear program for each activation pattern, class and radius
@pytest.mark.parametrize("method", [BY_MILP, BY_BRANCHING], ids=["milp", "branching"])
def test_the_nearest_adversarial_is_that_of_all_activation_patterns(method: Method) -> None:
    net, image = dense(5, 3, 4, 3), seeded(5, 1, 3)
    label = int(net(image).argmax(1))
    expected = closest_by_patterns(net, image, label)
    row, _ = closest_one(asked(net, image), "linf", method, 30.0)
    assert row.exact
    assert row.distance_lower_reals <= expected + 1e-4
    assert row.distance_upper >= expected - 1e-4


@pytest.mark.parametrize("norm", NORMS)
def test_the_nearest_adversarial_of_a_linear_network_has_a_closed_form(norm: str) -> None:
    net = nn.Sequential(nn.Linear(4, 2)).requires_grad_(False)
    net[0].weight[:] = torch.tensor([[0.5, -0.25, 0.125, 0.25], [-0.5, 0.25, 0.0, -0.25]])
    net[0].bias[:] = torch.tensor([-0.1, 0.1])
    image = torch.tensor([[0.6, 0.4, 0.5, 0.5]])
    weight = (net[0].weight[0] - net[0].weight[1]).double()
    margin = float(image.double() @ weight + (net[0].bias[0] - net[0].bias[1]).double())
    dual = {"linf": 1, "l1": torch.inf, "l2": 2}[norm]
    expected = margin / float(torch.linalg.vector_norm(weight, ord=dual))
    row, _ = closest_one(asked(net, image), norm, Method(), 30.0)
    assert row.exact
    assert row.distance_lower <= expected + 1e-9
    assert row.distance_upper == pytest.approx(expected, rel=2e-3)


def test_where_all_images_get_the_label_nothing_is_near() -> None:
    net = nn.Sequential(nn.Linear(2, 2)).requires_grad_(False)
    net[0].weight[:], net[0].bias[:] = torch.eye(2), torch.tensor([2.0, 0.0])
    row, found = closest_one(asked(net, torch.rand(1, 2)), "linf", Method(), 10.0)
    assert (row.verdict, row.exact, found) == ("verified", True, None)
    assert row.distance_lower == row.distance_upper == float("inf")


def test_a_wrong_sample_is_at_distance_0_and_has_no_worst_margin() -> None:
    net, image = dense(0, 2, 4, 3), seeded(0, 1, 2)
    question = asked(net, image)
    question = question._replace(label=(question.label + 1) % 3)
    row, _ = closest_one(question, "linf", Method(), 10.0)
    assert (row.verdict, row.distance_lower, row.distance_upper) == ("misclassified", 0.0, 0.0)
    row, _ = worst_one(question._replace(asked=Robustness(0.1)), Method(), 10.0)
    assert (row.verdict, row.lower_bound, row.exact) == ("misclassified", None, True)


def test_without_time_both_sides_are_still_true() -> None:
    net, image = dense(1, 2, 4, 3, 3), seeded(1, 1, 2)
    expected, coarse = on_a_grid(net, image, "linf")
    row, _ = closest_one(asked(net, image), "linf", Method(), 1e-3)
    assert row.distance_lower <= expected
    assert row.distance_upper is None or row.distance_upper >= expected - coarse


@pytest.mark.parametrize("eps", [0.05, 0.2])
@pytest.mark.parametrize("seed", range(3))
def test_the_smallest_margin_is_that_of_all_activation_patterns(seed: int, eps: float) -> None:
    # 1 to 3 s each: a child process with a solver, and the brute force
    net, image = dense(seed, 2, 4, 3), seeded(seed, 1, 2)
    label = int(net(image).argmax(1))
    expected = smallest_margin(net, image, label, eps)
    for method in (BY_MILP, BY_BRANCHING):
        row, found = worst_one(asked(net, image, eps), method, 30.0)
        assert row.exact
        assert row.lower_bound <= expected + 1e-9
        assert row.upper_bound >= expected - 1e-6
        sign = "verified" if row.lower_bound > BOUNDARY else "falsified"
        assert row.verdict == sign
        assert (found is None) == (sign == "verified")


@pytest.mark.parametrize("seed", range(2))
def test_the_smallest_margin_of_a_conjunction_and_a_box(seed: int) -> None:
    """Targeted, where a class has to beat all others at once, over a box of its own."""
    net, image = dense(seed, 2, 4, 3), seeded(seed, 1, 2)
    axis = torch.linspace(0.1, 0.7, 301, dtype=torch.float64)
    own, others = beside(net.double()(torch.cartesian_prod(axis, axis)), 1)
    net.float()
    expected = float((others - own).min())
    low, high = torch.full((1, 2), 0.1).double(), torch.full((1, 2), 0.7).double()
    question = asked(net, image, None, targets=(1,), box=Bounds(low, high))
    assert question.label != 1
    row, _ = worst_one(question, Method(), 30.0)
    assert row.exact
    assert row.lower_bound <= expected + 1e-9
    assert row.upper_bound == pytest.approx(expected, abs=0.02)  # of the grid
