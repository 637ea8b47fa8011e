"""Weights whose sizes overflow float32, or cancel: bounds may get loose there, never wrong."""

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from robsweep.tasks.catalogue.values import STAGES
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import by_crown
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.graph import Graph
from robsweep.tasks.verification.reading.layers import Linear, Relu
from robsweep.tasks.verification.reading.properties import Property
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question, solve_one

pytest.importorskip("ortools")


def _scaled(seed: int) -> nn.Sequential:
    """Its logits are of the order of 1, but what is carried back from them overflows float32."""
    torch.manual_seed(seed)
    layers = [nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)]
    weights, biases = (3e-18, 3e-18, 3e20, 3e20), (1e-18, 1e-36, 1e-16, 1e4)
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        layer.weight.data *= weight
        layer.bias.data *= bias
    relus = [nn.ReLU() for _ in range(3)]
    parts = [part for pair in zip(layers, [*relus, nn.Identity()], strict=True) for part in pair]
    return nn.Sequential(nn.Flatten(), *parts).eval().requires_grad_(False)


@pytest.mark.parametrize("seed", range(12))
def test_what_overflows_proves_nothing(seed: int) -> None:
    net, x = _scaled(seed), torch.rand(1, 1, 2, 2)
    points = (x + (torch.rand(5000, 1, 2, 2) - 0.5) * 0.9).clamp(0, 1)
    label = net(x).argmax(1)
    broken = bool((net(points).argmax(1) != label).any())
    question = Question(subject_of(net, (1, 2, 2)), x, label, Robustness(0.45))
    for stages in (
        ("crown", "splitting"),
        ("crown", "branching"),
        ("crown", "alpha", "milp"),
        STAGES[1:],
    ):
        row, found = solve_one(question, Method(frozenset(stages)), 3.0)
        assert not (broken and row.verdict == "verified"), (stages, row)
        assert found is None or net(found[None]).argmax(1) != label


@pytest.mark.parametrize("size", [1e6, 1e9, 1e12])
def test_weights_that_cancel_are_counted_in_the_rounding(size: float) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        first, bias = torch.rand(64, 1).double(), torch.rand(64).double()
        bias[0] = -0.5  # one undecided ReLU
        huge = torch.randn(1, 64).double() * size
        basis, _ = torch.linalg.qr(torch.stack([first[1:, 0], bias[1:]], 1))
        huge[:, 0] = 0.5
        for _ in range(3):
            huge[:, 1:] -= (huge[:, 1:] @ basis) @ basis.T
        graph, none = Graph((1,), torch.device("cpu")), torch.zeros(1).double()
        value = graph.add(Relu(), graph.add(Linear(first, bias), 0))
        value = graph.add(Relu(), graph.add(Linear(huge, none), value))
        ends = torch.tensor([[1.0], [-1.0]]).double()
        network = graph.network(graph.add(Linear(ends, torch.zeros(2).double()), value))
        box = Bounds(none[None], none[None] + 1)
        kink = -_exact(bias)[0] / _exact(first)[0]
        places = [Fraction(0), Fraction(1), *([kink] if kink < 1 else [])]
        values = [_output(place, first, bias, huge) for place in places]
        for sign, least in ((1.0, min(values)), (-1.0, -max(values))):
            weight = torch.tensor([[[[sign, -sign]]]]).double()
            unsafe = Property(weight, torch.zeros(1, 1, 1).double())
            assert Fraction(by_crown(network, box, unsafe).margins.lower.item()) <= least


def _exact(numbers: Tensor) -> list[Fraction]:
    return [Fraction(number) for number in numbers.flatten().tolist()]


def _output(x: Fraction, first: Tensor, bias: Tensor, huge: Tensor) -> Fraction:
    pairs = zip(_exact(first), _exact(bias), strict=True)
    hidden = [max(Fraction(0), w * x + b) for w, b in pairs]
    total = sum((a * h for a, h in zip(_exact(huge), hidden, strict=True)), Fraction(0))
    return 2 * max(Fraction(0), total)
