"""Input splitting by itself: what it proves, what it finds, and that its parts cover the box."""

import math

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.verification.bounds.boxes import Boxes
from robsweep.tasks.verification.bounds.chains import Chain, chain_of
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.layers import Network, evaluate
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property, margin, untargeted
from robsweep.tasks.verification.reading.torch.module import read, read_as_deployed
from robsweep.tasks.verification.search.clipping import Asked, clipped
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.search.splitting import Splitting
from robsweep.tasks.verification.solve import Question, solve_one
from tests.tasks.verification.small_nets import ball, convolutional, dense, smallest_margin


def _chain(network: Network) -> Chain:
    chain = chain_of(network)
    assert chain is not None
    return chain


def _search(network: Network, box: Bounds, unsafe: Property) -> Splitting:
    known = {d: -math.inf for d in range(unsafe.bias.shape[1]) if unsafe.bias[0, d].max() < 1e30}
    return Splitting(_chain(network), box, unsafe, known)


def _sampled(box: Bounds, count: int) -> Tensor:
    """Points of B boxes, (B, count, inputs), half of them corners."""
    lower, upper = box.lower[:, None], box.upper[:, None]
    share = torch.rand(len(lower), count, lower.shape[2], dtype=torch.float64)
    share[:, ::2] = share[:, ::2].round()
    return torch.minimum(lower + share * (upper - lower), upper)


def _parts(box: Bounds, count: int) -> Bounds:
    """Random boxes inside of one."""
    lower, upper = (end.flatten(1) for end in box)
    ends = torch.rand(2, count, lower.shape[1], dtype=torch.float64).sort(0).values
    return Bounds(lower + ends[0] * (upper - lower), lower + ends[1] * (upper - lower))


@pytest.mark.parametrize("seed", range(3))  # 512 linear programs each
def test_it_proves_what_holds_and_finds_what_does_not(seed: int) -> None:
    net = dense(seed, 3, 5, 3, 3)
    x, eps = torch.rand(1, 3), 0.1 + 0.1 * (seed % 3)
    label = net(x).argmax(1)
    exact = smallest_margin(net, x[0], int(label), eps)
    search = _search(read_as_deployed(net, (3,)), ball(x, eps), untargeted(label, 3))
    found: list[Tensor] = []
    search.run(math.inf, 20_000, lambda point: found.append(point) is None)
    if abs(exact) > 1e-4:
        assert bool(found) == (exact < 0)
    if found:
        assert exact <= 0
        assert margin(untargeted(label, 3), net(found[0].float())).item() <= 1e-6
        return
    least = min(search.lower().values())
    assert least <= max(exact, BOUNDARY * 1.01)
    assert (least > BOUNDARY) <= (exact > 0)


def test_parts_cover_the_box() -> None:
    net = dense(3, 4, 16, 12, 3)
    x = torch.full((1, 4), 0.45)
    search = _search(read(net, (4,)), ball(x, 0.3), untargeted(net(x).argmax(1), 3))
    for most in (1, 50, 300, 1000):
        search.run(math.inf, most, lambda _: False)
        assert search.closed + search.open_share() == pytest.approx(1, abs=1e-9)
    assert search.boxes >= 1000
    assert 0 < search.closed < 1


@pytest.mark.parametrize("seed", range(4))
def test_nothing_unsafe_lies_outside_of_the_open_parts(seed: int) -> None:
    net = dense(seed, 3, 10, 8, 3)
    x = torch.full((1, 3), 0.5)
    unsafe, box = untargeted(torch.tensor([seed % 3]), 3), ball(x, 0.4)
    search = _search(read_as_deployed(net, (3,)), box, unsafe)
    search.run(math.inf, 400, lambda _: False)
    points = _sampled(Bounds(*(end.flatten(1) for end in box)), 20_000)[0]
    margins = margin(unsafe.rows([0] * 20_000), evaluate(search.chain.network, points)[-1])
    inside = torch.zeros(len(points), dtype=torch.bool)
    for _, _, group in search.heap:
        lower, upper = (end[:, None] for end in group.box)
        inside |= ((points >= lower) & (points <= upper)).all(2).any(0)
    assert (margins <= 0).any()
    assert inside[margins <= 0].all()
    assert not inside.all()


@pytest.mark.parametrize("name", ["dense", "averaged"])
@pytest.mark.parametrize("deployed", [False, True])
def test_bounds_of_boxes_hold(name: str, *, deployed: bool) -> None:
    torch.manual_seed(5)
    net: nn.Module
    net, shape = (dense(1, 4, 20, 15, 10, 3), (4,)) if name == "dense" else convolutional(name)
    network = (read_as_deployed if deployed else read)(net, shape)
    chain, image = _chain(network), torch.rand(1, *shape)
    whole = ball(image, 0.3)
    free = torch.arange(whole.lower.numel())
    rows = torch.randn(4, 3, dtype=torch.float64)
    outer = Boxes(chain, Bounds(*(end.flatten(1) for end in whole)), free)
    parts = _parts(whole, 50)
    within = [Bounds(*(end.expand(50, -1) for end in b)) for b in outer.bounds]
    owner, points = torch.arange(50).repeat_interleave(4), _sampled(parts, 40)
    inputs = points.reshape(-1, *shape)
    values = [evaluate(network, inputs)[-1]]
    if deployed:
        values.append(net(inputs.float()).double())  # whose inputs may lie outside by as much
    before = None
    for given, steps in ((None, 0), (within, 0), (within, 4)):
        boxes = Boxes(chain, parts, free, given)
        found = boxes.forms(rows.repeat(50, 1), owner, steps)
        lower, slopes = found.lower.reshape(50, 4), found.slopes.reshape(50, 4, -1)
        for value, off in zip(values, (0.0, 1e-5), strict=False):
            exact = value.reshape(50, 40, -1) @ rows.T
            assert (lower[:, None] <= exact.amin(1, keepdim=True) + off).all()
            # the forms lie below everywhere in the box
            corner = torch.where(slopes > 0, *(end[:, None] for end in parts))
            way = points[:, :, None] - corner[:, None]
            below = lower[:, None] + (slopes[:, None] * way).sum(3)
            assert (below <= exact + off + 1e-9).all()
        if before is not None:
            assert (lower >= before - 1e-12).all()
        before = lower if steps or given is not None else None
    if name == "dense":  # of the other one, these parts leave next to nothing undecided
        plain = boxes.forms(rows.repeat(50, 1), owner).lower.reshape(50, 4)
        assert (lower > plain).any()


def test_rounding_in_float32_is_taken_off() -> None:
    """A network whose sums cancel: what is left of them in float32 may be anything."""
    net = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2)).requires_grad_(False)
    with torch.no_grad():
        net[0].weight[:], net[0].bias[:] = torch.tensor([[1.0], [1.0]]), 2.0**25
        net[2].weight[:] = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
        net[2].bias[:] = torch.tensor([0.25, 0.0])
    unsafe = untargeted(torch.tensor([0]), 2)
    box, low = ball(torch.rand(1, 1), 0.1), []
    for reading in (read, read_as_deployed):
        search = _search(reading(net, (1,)), box, unsafe)
        search.run(math.inf, 200, lambda _: False)
        low.append(min(search.lower().values()))
    assert low[0] > BOUNDARY
    assert low[1] < 0


def test_what_clipping_cuts_off_is_safe() -> None:
    torch.manual_seed(2)
    net = dense(4, 3, 12, 8, 4)
    network = read(net, (3,))
    # two disjuncts: both of outputs 1 and 2 above 0's, or output 3's above 0's
    weight = torch.tensor([[[1.0, -1, 0, 0], [1, 0, -1, 0]], [[1, 0, 0, -1], [1, 0, 0, -1]]])
    box = ball(torch.full((1, 3), 0.5), 0.4)
    outputs = evaluate(network, _sampled(box, 2000)[0])[-1]
    values = torch.einsum("dck,pk->pdc", weight.double(), outputs).amax(2)
    bias = -values.quantile(0.3, 0)  # each is reached by 3 in 10
    unsafe = Property(weight.double()[None], bias[None, :, None].repeat(1, 1, 2))
    asked = Asked.of(unsafe, [0, 1])
    assert asked.slots.tolist()[0] == [0, 1]
    parts = _parts(box, 300)
    boxes = Boxes(_chain(network), parts, torch.arange(3))
    found = boxes.forms(asked.weight.repeat(300, 1), torch.arange(300).repeat_interleave(3))
    least = found.lower.reshape(300, 3) + asked.bias
    slopes = found.slopes.reshape(300, 3, 3)
    rows = [(least[:, column], slopes[:, column]) for column in asked.slots.T]
    lower, cut = clipped(parts, torch.full((300, 2), -torch.inf).double(), rows)
    points = _sampled(parts, 200)
    outputs = evaluate(network, points.reshape(-1, 3))[-1].reshape(300, 200, 4)
    values = torch.einsum("dck,bpk->bpdc", unsafe.weight[0], outputs) + unsafe.bias[0]
    reached = (values.amax(3) <= 0).any(2)
    kept = ((points >= cut.lower[:, None]) & (points <= cut.upper[:, None])).all(2)
    assert (lower.clamp(max=BOUNDARY) <= values.amax(3).amin(1)).all()
    assert kept[reached].all()
    assert reached.any()
    assert (lower > BOUNDARY).all(1).any()
    assert (~kept[(lower <= BOUNDARY).any(1)]).any()


def test_stopping_and_going_on_is_one_search() -> None:
    net = dense(3, 4, 16, 12, 3)
    x = torch.full((1, 4), 0.45)
    network, unsafe = read(net, (4,)), untargeted(net(x).argmax(1), 3)
    ends = []
    for stops in ((600,), (1, 100, 300, 600)):
        search = _search(network, ball(x, 0.3), unsafe)
        for most in stops:
            search.run(math.inf, most, lambda _: False)
        ends.append((search.lower(), search.boxes, search.closed))
    assert ends[0] == ends[1]


def test_what_is_proved_otherwise_is_forgotten() -> None:
    net = dense(3, 4, 16, 12, 4)
    x = torch.full((1, 4), 0.45)
    search = _search(read(net, (4,)), ball(x, 0.4), untargeted(net(x).argmax(1), 4))
    search.run(math.inf, 50, lambda _: False)
    one = next(d for d, low in search.lower().items() if low <= BOUNDARY)
    search.forget({one})
    assert search.lower()[one] > BOUNDARY
    numbers = search.numbers
    search.forget(set(search.known))
    assert min(search.lower().values()) > BOUNDARY
    assert (search.heap, numbers > 0, search.numbers) == ([], True, 0)


def test_inputs_that_are_fixed_are_not_halved_and_a_point_is_decided() -> None:
    net = dense(3, 4, 16, 12, 3)
    x = torch.full((1, 4), 0.45, dtype=torch.float64)
    unsafe = untargeted(net(x.float()).argmax(1), 3)
    radius = torch.tensor([[0.2, 0.0, 0.1, 0.0]], dtype=torch.float64)
    search = _search(read(net, (4,)), Bounds(x - radius, x + radius), unsafe)
    search.run(math.inf, 100, lambda _: False)
    splits = [group.split for _, _, group in search.heap]
    assert {*torch.cat([*splits, torch.zeros(0)]).tolist()} <= {0, 2}
    search = _search(read(net, (4,)), Bounds(x, x), unsafe)
    search.run(math.inf, 100, lambda _: False)
    assert search.boxes == 1
    assert min(search.lower().values()) > BOUNDARY


def test_what_cannot_be_halved_stays_open() -> None:
    """Only one end of an interval is unsafe, and all but next to nothing of the rest is cut off."""
    net = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Linear(1, 2)).requires_grad_(False)
    with torch.no_grad():
        net[0].weight[:], net[0].bias[:] = -1.0, 1.0
        net[2].weight[:], net[2].bias[:] = torch.tensor([[1000.0], [0.0]]), 0.0
    box = Bounds(torch.zeros(1, 1).double(), torch.ones(1, 1).double())
    search = _search(read(net, (1,)), box, untargeted(torch.tensor([0]), 2))
    search.run(math.inf, 100, lambda _: False)
    assert (search.heap, len(search.stuck)) == ([], 1)
    assert max(search.lower().values()) <= BOUNDARY


def test_networks_that_are_no_chain_are_left_to_others() -> None:
    for name in ("residual", "pooled", "curved"):
        net, shape = convolutional(name)
        assert chain_of(read(net, shape)) is None


@pytest.mark.parametrize("seed", range(3))
def test_with_and_without_the_stage_a_sample_gets_one_verdict(seed: int) -> None:
    net = dense(seed, 3, 40, 30, 3)
    x = torch.rand(1, 3)
    label = net(x).argmax(1)
    for eps in (0.1, 0.5):
        question = Question(subject_of(net, (3,)), x, label, Robustness(eps))
        rows = {}
        for stage in ("splitting", "branching"):
            method = Method(frozenset({"crown", stage}))
            rows[stage], _ = solve_one(question, method, 60.0)
            assert (rows[stage].boxes is not None) == (
                stage == "splitting" and rows[stage].decided_by != "crown"
            )
        verdicts = {row.verdict for row in rows.values()}
        assert verdicts in ({"verified"}, {"falsified"}), rows
