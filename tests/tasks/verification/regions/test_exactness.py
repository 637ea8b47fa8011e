"""Regions against the smallest margin by enumeration: what is proved and refuted meets there."""

from collections.abc import Callable
from fractions import Fraction
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification import mipverify
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.regions.asked import Regions, region
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one
from robsweep.tasks.verification.verdicts import Row
from tests.tasks.verification.regions.exact import Polytope, smallest_margin

pytest.importorskip("ortools")

SHAPE = (1, 4, 4)
PIXELS = 16


def net_of(seed: int, *, hidden: int = 4) -> nn.Sequential:
    """All classes tie at the grey image."""
    torch.manual_seed(seed)
    layers = [nn.Flatten(), nn.Linear(PIXELS, hidden), nn.ReLU(), nn.Linear(hidden, 3)]
    net = nn.Sequential(*layers).eval().requires_grad_(False)
    net[-1].bias -= net(torch.full((1, *SHAPE), 0.5))[0]
    return net


def shifted(image: Tensor, kernel: int) -> np.ndarray:
    """What each weight of a kernel is a factor of, by a loop: (pixels, kernel^2)."""
    x = image[0].double().numpy()
    first = (kernel + 1) // 2 - 1
    found = np.zeros((PIXELS, kernel * kernel))
    for i, j, a, b in product(range(4), range(4), range(kernel), range(kernel)):
        row, column = i + a - first, j + b - first
        if 0 <= row < 4 and 0 <= column < 4:
            found[4 * i + j, kernel * a + b] = x[row, column]
    return found


def blurred(kernel: int):
    def of(image: Tensor) -> list[Polytope]:
        matrix = shifted(image, kernel)
        n = kernel * kernel
        ones = np.ones((1, n)), np.ones(1)
        return [Polytope(matrix, np.zeros(PIXELS), np.zeros(n), np.ones(n), equal=ones)]

    return of


def l1_ball(eps: float):
    """As x + up - down, whose sum is at most eps."""

    def of(image: Tensor) -> list[Polytope]:
        x = image.double().numpy().ravel()
        matrix = np.hstack([np.eye(PIXELS), -np.eye(PIXELS)])
        most = np.ones((1, 2 * PIXELS)), np.array([eps])
        upper = np.concatenate([1 - x, x])
        return [Polytope(matrix, x, np.zeros(2 * PIXELS), upper, at_most=most)]

    return of


def l2_ball(eps: float):
    def of(image: Tensor) -> list[Polytope]:
        x = image.double().numpy().ravel()  # from .3 to .7
        return [Polytope(np.eye(PIXELS), np.zeros(PIXELS), x - eps, x + eps, ball=eps)]

    return of


def patches(size: int):
    def of(image: Tensor) -> list[Polytope]:
        x = image.double().numpy().ravel()
        found = []
        for row, column in product(range(5 - size), repeat=2):
            square = [4 * (row + a) + column + b for a, b in product(range(size), repeat=2)]
            offset = x.copy()
            offset[square] = 0
            matrix = np.eye(PIXELS)[:, square]
            found.append(Polytope(matrix, offset, np.zeros(len(square)), np.ones(len(square))))
        return found

    return of


BASIS = torch.rand((3, *SHAPE), generator=torch.Generator().manual_seed(5)) * 0.2 - 0.1


def mixed(image: Tensor) -> list[Polytope]:
    """Images from .3 to .7, which this basis does not take out of the pixels."""
    x = image.double().numpy().ravel()
    ends = np.array([1.0, 0.5, 1.0])
    return [Polytope(BASIS.double().flatten(1).numpy().T, x, -ends, ends)]


ENDS = torch.tensor([1.0, 0.5, 1.0])
REGIONS = {
    "blur 2": (region("blur", kernel=2), blurred(2)),
    "blur 3": (region("blur", kernel=3), blurred(3)),
    "l1": (region("l1", eps=0.6), l1_ball(0.6)),
    "l2": (region("l2", eps=0.25), l2_ball(0.25)),
    "patch 1": (region("patch", size=1), patches(1)),
    "patch 2": (region("patch", size=2), patches(2)),
    "affine": (region("affine", basis=BASIS, lower=-ENDS, upper=ENDS), mixed),
    "cube": (region("cube"), lambda image: [Polytope(
        np.eye(PIXELS), np.zeros(PIXELS), np.zeros(PIXELS), np.ones(PIXELS))]),
}  # fmt: skip
# a MILP takes a process of its own, which is what these tests take their seconds for
WAYS = [STAGES, ("crown", "branching"), ("crown", "milp")]


Decide = Callable[[Question, float], tuple[Row, Tensor | None]]


def ways(name: str) -> dict[str, Decide]:
    """Not a MILP where it would be one for each of many positions; splitting of parameters.

    MIPVerify's recipe has HiGHS alone, which takes no l2 ball.
    """
    halved = [("crown", "splitting")] if name.startswith("blur") else []
    stages = WAYS[: 2 if name == "patch 1" else 3] + halved
    found: dict[str, Decide] = {"+".join(one): partial(by_stages, frozenset(one)) for one in stages}
    if name not in ("l2", "patch 1"):
        found["mipverify"] = partial(mipverify.solve_one, mipverify.Recipe())
    return found


def by_stages(
    stages: frozenset[str], question: Question, limit: float
) -> tuple[Row, Tensor | None]:
    return solve_one(question, Method(stages), limit)


@pytest.mark.parametrize("name", REGIONS)
def test_verdicts_change_where_the_smallest_margin_is(name: str) -> None:
    """A margin below the exact one is proved and one above it refuted, by each way alone."""
    regions, polytopes = REGIONS[name]
    torch.manual_seed(len(name))
    image = 0.3 + 0.4 * torch.rand(1, *SHAPE)
    net = net_of(3)
    label = net(image).argmax(1)
    net[-1].bias[int(label)] += 1.0  # so that margins are above 0
    exact = min(smallest_margin(net, int(label), one) for one in polytopes(image[0]))
    subject = subject_of(net, SHAPE)
    assert 0 < exact < 2
    for way, decide in ways(name).items():
        for least, verdict in ((exact - 1e-3, "verified"), (exact + 1e-3, "falsified")):
            asked = Robustness(None, margin=least, regions=regions)
            question = Question(subject, image, label, asked)
            row, found = decide(question, 60.0)
            assert row.verdict == verdict, (way, exact, row)
            if row.lower_bound is not None:
                assert row.lower_bound <= exact - least + 1e-6
            if found is not None:
                assert float(margin_of(net, found[None], label)) <= least
                assert any(distance(one, found) < 1e-6 for one in polytopes(image[0]))
                if name == "l2":
                    assert (found - image[0]).double().norm() <= 0.25


def margin_of(net: nn.Module, images: Tensor, label: Tensor) -> Tensor:
    logits = net.double()(images.double())
    net.float()
    own = logits[:, int(label)].clone()
    logits[:, int(label)] = -torch.inf
    return own - logits.amax(1)


def distance(region: Polytope, image: Tensor) -> float:
    """How far an image is from a polytope's nearest one, in norm linf."""
    x, n = image.double().numpy().ravel(), region.matrix.shape[1]
    slack = np.ones((PIXELS, 1))
    rows = [np.hstack([region.matrix, -slack]), np.hstack([-region.matrix, -slack])]
    ends = [x - region.offset, region.offset - x]
    if region.at_most is not None:
        rows.append(np.hstack([region.at_most[0], [[0.0]]]))
        ends.append(region.at_most[1])
    equal = None if region.equal is None else np.hstack([region.equal[0], [[0.0]]])
    limits = [*zip(region.lower, region.upper, strict=True), (0, None)]
    cost = np.eye(n + 1)[-1]
    found = linprog(cost, np.vstack(rows), np.hstack(ends), equal,
                    None if region.equal is None else region.equal[1], limits)  # fmt: skip
    return float(found.fun) if found.status == 0 else np.inf


def test_blur_on_a_fine_grid_of_kernels() -> None:
    """All 2 x 2 kernels in steps of 1/24, of several images at once."""
    steps = 24
    grid = [w for w in product(range(steps + 1), repeat=4) if sum(w) == steps]
    weights = torch.tensor(grid, dtype=torch.float64) / steps
    net = net_of(7)
    images = torch.rand(8, *SHAPE)
    labels = net(images).argmax(1)
    subject = subject_of(net, SHAPE)
    asked = Robustness(None, regions=region("blur", kernel=2))
    screened = screen_group(subject, images, labels, asked, Attack(20, 2))
    verdicts = set()
    for i in range(len(images)):
        blurs = weights @ torch.from_numpy(shifted(images[i], 2)).T
        least = float(margin_of(net, blurs.reshape(-1, *SHAPE), labels[i]).min())
        question = Question(subject, images[i : i + 1], labels[i : i + 1], asked)
        row, found = solve_one(question, Method(), 60.0)
        verdicts.add(row.verdict)
        assert row.verdict in ("verified", "falsified")
        assert screened.rows[i].verdict in (row.verdict, "unknown")
        assert least > 0 or row.verdict == "falsified"
        for one in (screened.rows[i], row):
            assert one.lower_bound is None or one.lower_bound <= least
        for image in (found, screened.counterexamples.get(i)):
            assert image is None or distance(blurred(2)(images[i])[0], image) < 1e-6
    assert verdicts == {"verified", "falsified"}


@pytest.mark.parametrize(("brightness", "contrast"), [(0.05, 0.1), (0.4, 0.6), (1.0, 0.0)])
def test_brightness_and_contrast_on_a_grid(brightness: float, contrast: float) -> None:
    """Images with 0s and 1s, so that most of them are clipped somewhere."""
    net = net_of(11, hidden=6)
    images = (1.5 * torch.rand(6, *SHAPE) - 0.25).clamp(0, 1)
    labels = net(images).argmax(1)
    asked = Robustness(
        None, regions=region("brightness_contrast", brightness=brightness, contrast=contrast)
    )
    subject = subject_of(net, SHAPE)
    axes = [torch.linspace(-r, r, 101).double() for r in (contrast, brightness)]
    grid = torch.cartesian_prod(*axes)[:, :, None, None, None]
    verdicts = set()
    for i in range(len(images)):
        x = images[i].double()
        points = ((1 + grid[:, 0]) * x + grid[:, 1]).clamp(0, 1)
        least = float(margin_of(net, points, labels[i]).min())
        question = Question(subject, images[i : i + 1], labels[i : i + 1], asked)
        row, found = solve_one(question, Method(), 60.0)
        verdicts.add(row.verdict)
        assert row.verdict in ("verified", "falsified")
        assert least > 0 or row.verdict == "falsified"
        assert row.lower_bound is None or row.lower_bound <= least
        if found is not None:
            nearest = (points.float() - found).abs().flatten(1).amax(1).min()
            assert nearest < max(brightness, contrast) * 0.02 + 1e-6
            assert float(margin_of(net, found[None], labels[i])) <= 0
    assert "falsified" in verdicts


def linear_net() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 2)).eval().requires_grad_(False)


@pytest.mark.parametrize(("norm", "dual"), [("l1", torch.inf), ("l2", 2)])
def test_balls_of_a_linear_network_in_closed_form(norm: str, dual: float) -> None:
    """Its image moves in its ball without meeting 0 or 1, and the margin is known."""
    net, image = linear_net(), torch.full((1, *SHAPE), 0.5)
    label = net(image).argmax(1)
    weight = net[1].weight.double()
    size = torch.linalg.vector_norm(weight[0] - weight[1], ord=dual)
    net[1].bias[int(label)] -= float(margin_of(net, image, label)) - 0.3 * float(size)
    radius = float(margin_of(net, image, label) / size)
    assert abs(radius - 0.3) < 1e-6
    for factor, verdict in ((1 - 1e-4, "verified"), (1 + 1e-4, "falsified")):
        eps = radius * factor
        asked = Robustness(eps, regions=region(norm, eps=eps))
        question = Question(subject_of(net, SHAPE), image, label, asked)
        row, found = solve_one(question, Method(), 30.0)
        assert row.verdict == verdict
        if found is not None:
            order = 1 if norm == "l1" else 2
            moved = found.double().flatten() - image.double().flatten()
            assert torch.linalg.vector_norm(moved, ord=order) <= eps


@pytest.mark.parametrize("eps", [0.1, 0.4, 1.5])
def test_l2_against_sampling(eps: float) -> None:
    net = net_of(13, hidden=6)
    images = torch.rand(6, *SHAPE)
    labels = net(images).argmax(1)
    subject, asked = subject_of(net, SHAPE), Robustness(eps, regions=region("l2", eps=eps))
    for i in range(len(images)):
        noise = torch.randn(5_000, PIXELS).double()
        noise *= eps / noise.norm(dim=1, keepdim=True) * torch.rand(5_000, 1) ** 0.2
        points = images[i].double().flatten() + noise
        points = points[((points >= 0) & (points <= 1)).all(1)]
        question = Question(subject, images[i : i + 1], labels[i : i + 1], asked)
        row, found = solve_one(question, Method(), 30.0)
        if len(points):
            least = float(margin_of(net, points.reshape(-1, *SHAPE), labels[i]).min())
            assert least > 0 or row.verdict == "falsified"
            assert row.lower_bound is None or row.lower_bound <= least
        if found is not None:
            assert (found - images[i]).double().norm() <= eps
            assert float(margin_of(net, found[None], labels[i])) <= 0
        else:
            assert row.verdict in ("verified", "unknown")


def test_what_is_no_image_of_the_parameters_is_not_in_the_region() -> None:
    image = torch.rand(SHAPE)
    area = region("blur", kernel=3).of(image, 0)
    weights = torch.rand(9)
    blurred_image = area.images(weights[None])[0]
    assert area.contains(weights, blurred_image)
    total = sum(Fraction(w) for w in weights.tolist())
    rows = shifted(image, 3)
    for value, pixel in zip(rows, blurred_image.flatten().tolist(), strict=True):
        exact = sum(Fraction(v) * Fraction(w) for v, w in zip(value, weights.tolist(), strict=True))
        assert abs(Fraction(pixel) - exact / total) <= Fraction(2) ** -24
    for change in (1e-6, -1e-6):
        other = blurred_image.clone()
        other[0, 1, 2] += change
        assert not area.contains(weights, other)
    assert not area.contains(-weights, blurred_image)
    assert not area.contains(torch.zeros(9), area.images(torch.zeros(1, 9))[0])
    own = area.own
    assert own is not None
    assert torch.equal(area.images(own[None])[0], image)


def test_regions_of_a_file_may_be_one_for_each_sample() -> None:
    net, images = net_of(3), torch.rand(3, *SHAPE)
    labels = net(images).argmax(1)
    zeros, ones = torch.zeros(1), torch.ones(1)
    basis = (images - images.roll(1, 0))[:, None] * -1  # to the image before
    regions = Regions(region("affine").function, {"lower": zeros, "upper": ones}, {"basis": basis})
    asked = Robustness(None, regions=regions)
    for i in range(3):
        area = asked.part(i, i + 1).regions.of(images[i], 0)
        end = area.images(ones[None].double())[0]
        assert torch.allclose(end, images[i - 1], atol=1e-6)
    subject = subject_of(net, SHAPE)
    rows = screen_group(subject, images, labels, asked, Attack()).rows
    for i, row in enumerate(rows):
        between = torch.linspace(0, 1, 201).double()[:, None, None, None]
        line = images[i].double() + between * (images[i - 1] - images[i]).double()
        least = float(margin_of(net, line, labels[i]).min())
        assert (row.verdict == "falsified") == (least <= 0)
