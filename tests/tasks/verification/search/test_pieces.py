"""Branching on curves: what it proves holds at every sampled point, and is more than CROWN does."""

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.bounds.smooth import lines, ranges
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.curves import JUMPS, Curve, value_of
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one

WIDTH = 6


def _net(curve: type[nn.Module], seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(2, WIDTH), curve(), nn.Linear(WIDTH, WIDTH), curve(), nn.Linear(WIDTH, 3)]
    net = nn.Sequential(*layers).eval().requires_grad_(False)
    for one in net.parameters():
        one.data *= 2
    return net


def _distance(net: nn.Module, x: Tensor, label: int) -> float:
    """To the nearest point of another class, found on a fine grid of the square."""
    side = torch.linspace(0, 1, 801)
    points = torch.cartesian_prod(side, side)
    wrong = points[net(points).argmax(1) != label]
    return float((wrong - x).abs().amax(1).min()) if len(wrong) else 1.0


# Some seconds each: a ball just inside the distance, which bounds alone leave open.
@pytest.mark.parametrize(
    ("curve", "seed"),
    [(nn.GELU, 2), (nn.Tanh, 2), *(pytest.param(nn.Sigmoid, s, marks=pytest.mark.slow) for s in
                                  (3, 4))],
)  # fmt: skip
def test_balls_near_the_distance(curve: type[nn.Module], seed: int) -> None:
    net = _net(curve, seed)
    x = torch.rand(1, 2)
    label = int(net(x).argmax())
    distance = _distance(net, x, label)
    verdicts = {}
    for share, stages in ((0.95, STAGES), (1.05, STAGES), (1.05, ("crown", "branching"))):
        question = Question(
            subject_of(net, (2,)), x, torch.tensor([label]), Robustness(share * distance)
        )
        row, _ = solve_one(question, Method(frozenset(stages)), 60.0)
        verdicts[share, len(stages)] = row.verdict
    assert verdicts[0.95, len(STAGES)] == "verified"
    if distance < 0.9:
        assert verdicts[1.05, len(STAGES)] == "falsified"
        assert verdicts[1.05, 2] in ("falsified", "unknown", "timeout")


@pytest.mark.parametrize("curve", [*JUMPS])
def test_jumps_stay_in_their_ranges_and_beside_their_lines(curve: Curve) -> None:
    torch.manual_seed(0)
    ends = torch.rand(200, 2, dtype=torch.float64).sort(1).values * 6 - 3
    ends[:20] = ends[:20].round()
    ends[20:30, 1] = ends[20:30, 0]
    ends[30] = torch.tensor([0.0, 0.0])
    low, high = ranges(curve, *ends.T)
    slope, below, above = lines(curve, *ends.T)
    for part in torch.linspace(0, 1, 101, dtype=torch.float64):
        for x in (ends[:, 0] + part * (ends[:, 1] - ends[:, 0]), ends.mean(1).round()):
            inside = (x >= ends[:, 0]) & (x <= ends[:, 1])
            value = value_of(curve, x)
            assert ((low <= value) & (value <= high))[inside].all()
            assert ((slope * x + below <= value) & (value <= slope * x + above))[inside].all()
    sure = (ends[:, 0] > 0.01) & (ends[:, 1] < 0.99)
    assert (low == high)[sure].float().mean() > (0.3 if curve == "round" else 0.99)


def test_numbers_that_may_be_taken_for_0_and_integers_that_are_none() -> None:
    tiny = torch.tensor([1e-40, -1e-40, 0.0], dtype=torch.float64)
    for curve, low, high in (
        ("sign", [0, -1, 0], [1, 0, 0]),
        ("nonzero", [0, 0, 0], [1, 1, 0]),
        ("ceil", [0, 0, 0], [1, 0, 0]),
        ("floor", [0, -1, 0], [0, 0, 0]),
    ):
        found = ranges(curve, tiny, tiny)
        assert found[0].tolist() == low, curve
        assert found[1].tolist() == high, curve
    far = torch.tensor([3e9], dtype=torch.float64)
    assert ranges("int32", far, far)[0].tolist() == [-torch.inf]
    assert ranges("int64", far, far)[0].tolist() == [3e9]


class _Signs(nn.Module):
    """Three binary units: x0 > 0.3, x1 > 0.6, x0 + x1 > 1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 3), nn.Linear(3, 2)
        self.first.weight.data = torch.tensor([[1.0, 0], [0, 1], [1, 1]])
        self.first.bias.data = torch.tensor([-0.3, -0.6, -1.0])
        self.last.weight.data = torch.tensor([[1.0, 1, 1], [0, 0, 0]])
        self.last.bias.data = torch.tensor([0.5, 0.0])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.sign(self.first(x)))
        return out


def test_binary_units_are_proved_and_refuted_as_by_enumeration() -> None:
    """Class 0 wins where two of the units are on."""
    net = _Signs().eval().requires_grad_(False)
    x = torch.tensor([[0.6, 0.7]])
    assert net(x).argmax() == 0
    subject = subject_of(net, (2,))
    points, verdicts, wins = torch.rand(200_000, 2), [], []
    for eps in (0.05, 0.12, 0.2):
        inside = points[((points - x).abs() < eps).all(1)]
        wins.append(bool((net(inside).argmax(1) == 0).all()))
        question = Question(subject, x, torch.tensor([0]), Robustness(eps))
        row, _ = solve_one(question, Method(), 20.0)
        verdicts.append(row.verdict)
    assert wins == [True, True, False]
    assert verdicts[:2] == ["verified", "verified"]
    assert verdicts[2] != "verified"  # a descent has no slope to follow there
    values = interval(subject.network, Bounds(*(x.double() + e for e in (-0.05, 0.05))))
    assert torch.equal(values[2].lower, values[2].upper)
