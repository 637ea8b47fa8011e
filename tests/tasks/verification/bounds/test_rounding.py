"""What rounding in float32 may add: more than it ever does, in any order, and not absurdly more."""

import copy
from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.bounds.margins import by_crown, by_intervals, crown
from robsweep.tasks.verification.bounds.rounding import TINY, UNIT, added, gamma
from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import Linear, Network, evaluate
from robsweep.tasks.verification.reading.properties import untargeted
from robsweep.tasks.verification.reading.torch.module import read, read_as_deployed
from tests.tasks.verification.small_nets import ball, convolutional, dense, points_in

Single = NDArray[np.float32]
NAMES = ["dense", "functional", "pooled", "averaged", "residual", "rearranged", "curved"]


def _net(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    return (dense(0, 6, 40, 30, 3), (6,)) if name == "dense" else convolutional(name)


def _at(network: Network, x: Tensor) -> list[Tensor]:
    """The error that each layer may add at points (N, *shape), as bounds of single points."""
    sizes = [value.abs() for value in evaluate(network, x)]
    none = torch.zeros(())
    found = (added(network, k, [sizes[v] for v in read]) for k, read in enumerate(network.inputs))
    return [none if one is None else one for one in found]


def _one_by_one(terms: Single) -> Single:
    total = np.zeros(terms.shape[:-1], dtype=np.float32)
    for i in range(terms.shape[-1]):
        total = total + terms[..., i]
    return total


def _pairwise(terms: Single) -> Single:
    while terms.shape[-1] > 1:
        half = terms.shape[-1] // 2
        rest = terms[..., 2 * half :]
        terms = np.concatenate([terms[..., :half] + terms[..., half : 2 * half], rest], -1)
    return terms[..., 0]


def _sums(weight: Single, bias: Single, x: Single) -> Iterator[Single]:
    """A layer of x (N, in), in float32 and several orders."""
    terms = np.concatenate([weight * x[:, None], np.tile(bias[:, None], (len(x), 1, 1))], -1)
    order = np.random.default_rng(0).permutation(terms.shape[-1])
    for some in (terms, terms[..., ::-1], terms[..., order], np.sort(terms, -1)):
        yield _one_by_one(some)
        yield _pairwise(some)
    fused = np.tile(bias, (len(x), 1)).astype(np.float32)
    for i in range(weight.shape[1]):  # one rounding for product and sum: float64 holds the product
        fused = (fused.astype(np.float64) + weight[:, i].astype(np.float64) * x[:, i, None]).astype(
            np.float32
        )
    yield fused
    yield x @ weight.T + bias


def _exact(weight: Single, bias: Single, x: Single) -> NDArray[np.object_]:
    as_fractions: Callable[[float], Fraction] = Fraction
    parts = [
        np.vectorize(as_fractions, otypes=[object])(a.astype(float)) for a in (weight, bias, x)
    ]
    return np.asarray(parts[2] @ parts[0].T + parts[1])


def _linear(weight: Single, bias: Single) -> Network:
    graph = Graph((weight.shape[1],), torch.device("cpu"))
    layer = Linear(*(torch.from_numpy(part.astype(float)) for part in (weight, bias)))
    return graph.network(graph.add(layer, 0))


@pytest.mark.parametrize("scale", [2.0**-20, 1.0, 2.0**20, 2.0**-130])
@pytest.mark.parametrize("terms", [1, 7, 60])
def test_a_sum_is_within_its_bound_in_every_order(terms: int, scale: float) -> None:
    random = np.random.default_rng(terms)
    weight, x = random.standard_normal((4, terms)), random.random((3, terms))
    bias = random.standard_normal(4)
    bias[:2] = -(weight[:2] @ x[0])  # two that cancel
    weight, bias, x = (
        (part * s).astype(np.float32) for part, s in ((weight, scale), (bias, scale), (x, 1))
    )
    exact = _exact(weight, bias, x)
    (limit,) = _at(_linear(weight, bias), torch.from_numpy(x.astype(float)))
    worst = 0.0
    for found in _sums(weight, bias, x):
        error = abs(np.vectorize(Fraction, otypes=[object])(found.astype(float)) - exact)
        assert (error <= limit.numpy()).all()
        worst = max(worst, float(error.max()))
    if terms > 1 and scale > 2**-100:
        assert limit.max().item() < 1e3 * worst


def test_the_worst_order_of_equal_terms_comes_near_the_bound() -> None:
    """Each of n additions to 1 is lost, so the sum is off by nearly n u."""
    terms = 4000
    weight, bias = np.full((1, terms), 0.999 * UNIT, np.float32), np.ones(1, np.float32)
    lost = float(terms * 0.999 * UNIT)
    total = np.float32(1)
    for one in weight[0]:
        total = total + one
    assert total == 1
    (limit,) = _at(_linear(weight, bias), torch.ones(1, terms).double())
    assert lost <= limit.item() < 1.02 * lost


def test_gamma_and_what_vanishes() -> None:
    assert gamma(1) == pytest.approx(UNIT, rel=1e-6)
    assert gamma(2**24) == float("inf")
    weight = np.array([[2.0**-100]], np.float32)
    (limit,) = _at(_linear(weight, np.zeros(1, np.float32)), torch.full((1, 1), 2.0**-60).double())
    assert limit.item() >= max(2.0**-160, TINY)
    (limit,) = _at(
        _linear(1 / weight, np.zeros(1, np.float32)), torch.full((1, 1), 2.0**60).double()
    )
    assert limit.item() == torch.inf


@pytest.mark.parametrize("name", NAMES)
def test_float32_stays_within_the_bounds_of_every_value(name: str) -> None:
    """Of the module as torch runs it: alone, in batches, in channels-last."""
    module, shape = _net(name)
    network = read_as_deployed(module, shape)
    assert network.steps is not None
    x = torch.rand(4, *shape)
    for eps in (0.0, 0.1):
        plain, tight = interval(network, ball(x, eps)), crown(network, ball(x, eps))
        for points in points_in(x, 0.99 * eps, 10):  # so that they are inside, rounded
            single = points.float() if eps else x
            runs = [module(single), torch.cat([module(one[None]) for one in single])]
            if single.dim() == 4 and name != "rearranged":  # whose views need their layout
                runs.append(module(single.to(memory_format=torch.channels_last)))
            for logits in runs:
                for b in (plain[-1], tight[-1]):
                    assert (b.lower <= logits.double()).all()
                    assert (logits.double() <= b.upper).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_bound_of_a_point_is_no_more_than_a_thousand_times_the_error(name: str) -> None:
    module, shape = _net(name)
    network, exact = read_as_deployed(module, shape), copy.deepcopy(module).double()
    x = torch.rand(200, *shape)
    seen = (module(x).double() - exact(x.double())).abs().amax(0)
    single = Bounds(x[:1].double(), x[:1].double())
    found = crown(network, single)[-1]
    width = (found.upper - found.lower)[0] / 2
    assert (width < 1e3 * seen).all()


@pytest.mark.parametrize("name", NAMES)
def test_no_margin_in_float32_is_below_the_bound_and_reals_are_between(name: str) -> None:
    module, shape = _net(name)
    as_deployed, reals = read_as_deployed(module, shape), read(module, shape)
    classes = reals.shapes[-1][0]
    x, y = torch.rand(3, *shape), torch.arange(3) % classes
    unsafe, box = untargeted(y, classes), ball(x, 0.02)
    for how in (by_intervals, by_crown):
        ours, theirs = how(as_deployed, box, unsafe).margins, how(reals, box, unsafe).margins
        assert torch.equal(theirs.lower, theirs.reals)
        others = torch.arange(classes)[None] != y[:, None]
        assert (ours.lower < ours.reals)[others].all()
        assert (ours.reals <= theirs.reals + 1e-12)[others].all()
        for points in points_in(x, 0.0199, 20):
            logits = module(points.float()).double()
            margins = logits.gather(1, y[:, None]) - logits
            assert (ours.lower <= margins)[others].all()


@pytest.mark.parametrize("factor", [2.0**20, 2.0**-20])
def test_a_power_of_two_scales_the_bound(factor: float) -> None:
    module, scaled = dense(1, 5, 20, 3), dense(1, 5, 20, 3)
    with torch.no_grad():
        scaled[2].weight *= factor
        scaled[2].bias *= factor
    x = torch.rand(1, 5)
    ends = [crown(read_as_deployed(net, (5,)), ball(x, 0.1))[-1] for net in (module, scaled)]
    widths = [(b.upper - b.lower) for b in ends]
    torch.testing.assert_close(widths[1], factor * widths[0])


class _Constants(nn.Module):
    """Numbers that float32 does not hold, and a weight that is computed: it cancels."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 2)
        self.register_buffer("shift", torch.tensor([16777216.0, 3.0, 5.0]))

    def forward(self, x: Tensor) -> Tensor:
        kept = (self.shift + 1.0) - self.shift
        out: Tensor = self.out((x - 0.1307) / 0.3081 * kept)
        return out


def test_constants_are_those_of_float32() -> None:
    module = _Constants().requires_grad_(False)
    network, x = read_as_deployed(module, (3,)), torch.rand(50, 3)
    bounds = interval(network, Bounds(x.double(), x.double()))[-1]
    real = evaluate(network, x.double())[-1]
    logits = module(x).double()
    assert (logits - real).abs().max() > 0.1  # 2^24 + 1 is 2^24 there
    assert (bounds.lower <= logits).all()
    assert (logits <= bounds.upper).all()


def test_half_precision_is_not_covered() -> None:
    module = dense(0, 3, 4, 2)
    assert read_as_deployed(copy.deepcopy(module).half(), (3,)).steps is None
    assert read_as_deployed(module, (3,)).steps is not None
    assert read(module, (3,)).steps is None


def test_a_batch_norm_far_from_zero_counts_its_mean() -> None:
    """Its factor and constant, or its difference first: both cancel, neither is exact."""
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(4)
    norm.running_mean[:] = 1000 + torch.rand(4)
    module = nn.Sequential(nn.Linear(4, 4), norm, nn.Linear(4, 2)).eval().requires_grad_(False)
    module[0].bias += norm.running_mean
    network, x = read_as_deployed(module, (4,)), torch.rand(40, 4)
    bounds = interval(network, Bounds(x.double(), x.double()))[-1]
    z = module[0](x)
    inverse = 1 / (norm.running_var + norm.eps).sqrt()
    folded = z * inverse - norm.running_mean * inverse
    weight = module[0].weight * inverse[:, None]
    fused = x @ weight.T + (module[0].bias - norm.running_mean) * inverse
    for y in (norm(z), (z - norm.running_mean) * inverse, folded, fused):
        logits = module[2](y).double()
        assert (bounds.lower <= logits).all()
        assert (logits <= bounds.upper).all()
