"""What is cut off a box and off its first units: only where nothing is unsafe, and about all."""

import math

import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor, nn

from robsweep.tasks.verification.bounds.alpha import Relaxed
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_crown
from robsweep.tasks.verification.reading.layers import Linear, Network, Relu, evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, margin, untargeted
from robsweep.tasks.verification.reading.torch.module import read, read_as_deployed
from robsweep.tasks.verification.reading.within import Simplex
from robsweep.tasks.verification.search.branching import Limit, Search
from robsweep.tasks.verification.search.cutting import Cut, First, by_margin, by_sign, first_of
from tests.tasks.verification.small_nets import ball, convolutional, dense

_COUNT, _INPUTS, _UNITS = 6, 5, 8


def _drawn(seed: int) -> tuple[First, Bounds, Bounds]:
    torch.manual_seed(seed)
    weight, bias = torch.randn(_UNITS, _INPUTS).double(), 0.2 * torch.randn(_UNITS).double()
    first = First(1, weight, bias, torch.zeros(_UNITS).double())
    ends = torch.rand(2, _COUNT, _INPUTS).double().sort(0).values * 2 - 1
    middle, radius = ends.mean(0), (ends[1] - ends[0]) / 2
    units = middle @ weight.T + bias, radius @ weight.abs().T
    return first, Bounds(*ends), Bounds(units[0] - units[1], units[0] + units[1])


def _held(cut: Cut, first: First, box: Bounds, units: Bounds, row: Tensor, most: Tensor) -> None:
    """Against linear programs, where `row @ x <= most` is what is left: (P, inputs), (P,)."""
    for p in range(_COUNT):
        limits = torch.stack([end[p] for end in box], 1).numpy()

        def least(form: Tensor, p: int = p, limits: object = limits) -> float | None:
            found = linprog(form, row[p][None].numpy(), [float(most[p])], bounds=limits)
            return None if found.status == 2 else float(found.fun)

        if least(row[p]) is None:
            assert cut.lower[p] > BOUNDARY
            continue
        assert cut.lower[p] <= BOUNDARY
        for i, one in enumerate(torch.eye(_INPUTS).double()):
            low, high = least(one), least(-one)
            assert low is not None
            assert high is not None
            assert cut.box.lower[p, i].item() == pytest.approx(low, abs=1e-6)
            assert cut.box.lower[p, i] <= low + 1e-9
            assert cut.box.upper[p, i].item() == pytest.approx(-high, abs=1e-6)
            assert cut.box.upper[p, i] >= -high - 1e-9
        for u in range(_UNITS):
            if not units.lower[p, u] < 0 < units.upper[p, u]:
                continue
            for sign, end, before in (
                (1, cut.units.lower, units.lower),
                (-1, cut.units.upper, units.upper),
            ):
                exact = least(sign * first.weight[u])
                assert exact is not None
                exact += sign * float(first.bias[u])
                given, was = sign * float(end[p, u]), sign * float(before[p, u])
                assert was <= given <= exact + 1e-9
                assert exact - given <= 0.1 * (exact - was) + 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_cuts_are_those_of_linear_programs(seed: int) -> None:
    first, box, units = _drawn(seed)
    form = torch.randn(_COUNT, _INPUTS).double()
    least = torch.where(form > 0, *box)
    reach = (form.abs() * (box.upper - box.lower)).sum(1)
    lower = -reach * torch.linspace(0.05, 0.9, _COUNT).double()
    most = (form * least).sum(1) + BOUNDARY - lower
    _held(by_margin(first, lower, form, box, units), first, box, units, form, most)


@pytest.mark.parametrize("seed", range(3))
def test_signs_cut_as_linear_programs_do(seed: int) -> None:
    first, box, units = _drawn(seed)
    unit = torch.arange(_COUNT) % _UNITS
    sign = torch.tensor([1.0, -1.0] * (_COUNT // 2)).double()
    row = -sign[:, None] * first.weight[unit]
    most = sign * first.bias[unit]
    _held(by_sign(first, unit, sign, box, units), first, box, units, row, most)


def test_units_that_rounding_moves_keep_their_room() -> None:
    first, box, units = _drawn(0)
    wide = first._replace(slack=torch.full((_UNITS,), 0.1).double())
    unit, sign = torch.zeros(_COUNT, dtype=torch.int64), torch.ones(_COUNT).double()
    narrow, found = (by_sign(one, unit, sign, box, units) for one in (first, wide))
    assert (found.units.lower <= narrow.units.lower).all()
    assert (found.units.upper >= narrow.units.upper).all()
    assert (found.box.lower <= narrow.box.lower).all()


@pytest.mark.parametrize("seed", range(4))
def test_nothing_unsafe_lies_outside_of_the_open_subproblems(seed: int) -> None:
    """Points of the box that are unsafe, each in a subproblem that is left, and in its bounds."""
    torch.manual_seed(seed)
    net = dense(seed, 4, 12, 3)
    x = torch.rand(1, 4)
    label = net(x).argmax(1)
    network, box, unsafe = read_as_deployed(net, (4,)), ball(x, 0.5), untargeted(label, 3)
    bounds, margins = by_crown(network, box, unsafe)
    known = {d: low for d, low in enumerate(margins.lower[0].tolist()) if low <= BOUNDARY}
    search = Search(Relaxed.of(network, bounds), unsafe, known)
    assert search.first is not None
    search.run(Limit(math.inf, 60, math.inf), lambda _: False)
    points = box.lower + torch.rand(4000, 4, dtype=torch.float64) * (box.upper - box.lower)
    values = evaluate(search.relaxed.exact, points)
    each = torch.einsum("dck,nk->ndc", unsafe.weight[0], values[-1]) + unsafe.bias[0]
    point, disjunct = (each.amax(2) <= 0).nonzero().unbind(1)
    assert len(point)
    entering = values[search.relaxed.exact.inputs[search.first.layer][0]][point]
    covered = torch.zeros(len(point), dtype=torch.bool)
    stuck = {d for d, _ in search.stuck}
    for place in search.pool:
        low, high = place.alone.first
        inside = (
            (points[point] >= place.alone.box[0]) & (points[point] <= place.alone.box[1])
        ).all(1)
        inside &= ((entering >= low - 1e-12) & (entering <= high + 1e-12)).all(1)
        covered |= inside & (disjunct == place.disjunct())
    assert all(bool(ok) or int(d) in stuck for ok, d in zip(covered, disjunct, strict=True))


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 12))]
)
def test_planted_counterexamples_are_never_cut_off(seed: int) -> None:
    """The region just holds the margin's smallest value at one random point of the box."""
    net = dense(seed, 6, 24, 2)
    network = read(net, (6,))
    torch.manual_seed(seed)
    x = torch.rand(1, 6)
    box = ball(x, 0.4)
    label = net(x).argmax(1)
    unsafe = untargeted(label, 2)
    points = box.lower + torch.rand(20_000, 6, dtype=torch.float64) * (box.upper - box.lower)
    least = margin(unsafe.rows([0] * len(points)), evaluate(network, points)[-1]).min()
    unsafe = unsafe._replace(
        bias=torch.where(unsafe.bias.isfinite(), unsafe.bias - least - 1e-9, unsafe.bias)
    )
    bounds, margins = by_crown(network, box, unsafe)
    known = {d: low for d, low in enumerate(margins.lower[0].tolist()) if low <= BOUNDARY}
    search = Search(Relaxed.of(network, bounds), unsafe, known)
    search.run(Limit(math.inf, 3000, math.inf), lambda _: False)
    assert min(search.lower().values()) <= BOUNDARY


def test_only_small_chains_are_cut() -> None:
    torch.manual_seed(0)
    wide = nn.Sequential(nn.Linear(80, 4), nn.ReLU(), nn.Linear(4, 2)).requires_grad_(False)
    skip, shape = convolutional("residual")
    for net, of, expected in (
        (wide, (80,), False),
        (skip, shape, False),
        (dense(0, 4, 6, 3), (4,), True),
    ):
        network = read(net, of)
        bounds, _ = by_crown(
            network,
            ball(torch.rand(1, *of), 0.3),
            untargeted(torch.tensor([0]), 2 if net is wide else 3),
        )
        assert (first_of(Relaxed.of(network, bounds)) is not None) == expected


def test_nothing_is_cut_where_more_than_a_box_is_known() -> None:
    """Weights of sum 1: a bound over these lies above the form's least value in their box, so a cut
    that takes the one for the other would lose an unsafe kernel, here the one that is even."""
    weight = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    layers = (Linear(weight.double(), torch.zeros(2).double()), Relu(),
              Linear(torch.eye(2).double(), torch.zeros(2).double()))  # fmt: skip
    shapes, inputs = ((2,), (2,), (2,), (2,)), ((0,), (1,), (2,))
    network = Network(layers, shapes, inputs)
    box = Bounds(torch.zeros(1, 2).double(), torch.ones(1, 2).double())
    for within, cuts in ((None, True), (Simplex(), False)):
        here = network._replace(within=within)
        bounds = by_crown(here, box, untargeted(torch.tensor([0]), 2)).bounds
        first = first_of(Relaxed.of(here, bounds))
        assert (first is not None) == cuts
    # what would be lost: a margin of w0 + w1 - 1.3, which is -0.3 at all kernels
    form, even = torch.ones(1, 2).double(), torch.full((2,), 0.5).double()
    least = torch.tensor([-0.3]).double()
    units = Bounds(torch.zeros(1, 2).double() - 1, torch.ones(1, 2).double() * 2)
    plain = First(1, weight.double(), torch.zeros(2).double(), torch.zeros(2).double())
    cut = by_margin(plain, least, form, box, units)
    assert bool((even > cut.box.upper[0]).any())
