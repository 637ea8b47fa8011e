"""Lower sides are proved of what they are said of, whatever becomes of a solver."""

import pytest
import torch
from torch import nn

from robsweep.tasks.verification.optimise import minimum
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.questions.closest import closest_one
from robsweep.tasks.verification.questions.worst import worst_one
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question


def asked(net, image, eps):
    image = torch.tensor([image])
    return Question(subject_of(net, image.shape[1:]), image, torch.tensor([0]), Robustness(eps))


def layers(*parts):
    found = []
    for weight, bias in parts:
        layer = nn.Linear(len(weight[0]), len(weight))
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
        found += [layer, nn.ReLU()]
    return nn.Sequential(*found[:-1])


@pytest.fixture
def tied():
    """Wins by 2e-5 over the reals at the ball's end, and ties there in float32."""
    return layers(
        ([[16.0], [0.0]], [1020.0, 1024.0]), ([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0])
    ), 0.5 - 2.0**-19 + 2.0**-21  # fmt: skip


@pytest.mark.parametrize("child", ["as it is", "dead"])
@pytest.mark.parametrize("stages", [{"crown", "milp"}, {"attack", "crown", "alpha", "milp"}])
def test_what_holds_over_the_reals_alone_is_not_verified(tied, stages, child, monkeypatch):
    if child == "dead":
        monkeypatch.setattr(minimum, "COMMAND", ("-c", "raise SystemExit(3)"))
    net, eps = tied
    low = torch.tensor([[0.75 - eps]])
    assert net(low)[0, 0] == net(low)[0, 1]
    row, _ = worst_one(asked(net, [0.75], eps), Method(frozenset(stages)), 20.0)
    assert row.verdict != "verified"
    assert row.lower_bound <= 0
    assert row.lower_bound + row.rounding_error <= row.upper_bound


def test_a_solver_that_dies_proves_no_distance(monkeypatch):
    monkeypatch.setattr(minimum, "COMMAND", ("-c", "raise SystemExit(3)"))
    net = layers(
        ([[1.0, 1.0], [0.0, 0.0], [100.0, 100.0]], [1000.0, 1000.5, -120.0]),
        ([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], [0.0, 0.0]),
    )
    image = [0.7503, 0.7503]
    row, _ = closest_one(asked(net, image, None), "l1", Method(frozenset({"crown", "milp"})), 20.0)
    alone = Method(frozenset({"crown"}))
    without, _ = closest_one(asked(net, image, None), "l1", alone, 20.0)
    assert row.distance_lower == without.distance_lower


@pytest.mark.parametrize("seed", [0, 1])
def test_disjuncts_that_are_left_out_of_the_milp_are_below_nothing_that_is_claimed(seed):
    """One class ties with what is known of the other but for a little, and is the lower one."""
    n = 10
    first = torch.zeros(4, n + 2)
    first[0, 0], first[1, 1 : n + 1], first[2, n + 1], first[3, n + 1] = 1.0, 1.0, 1.0, 2.0
    last = torch.zeros(3, 4)
    last[1, :2] = torch.tensor([-3.4, 9e-4 / 0.5])
    last[2] = torch.tensor([-3.4, 0.0, -2.0, 1.0])
    net = layers(
        (first.tolist(), [-0.6, -(n - 0.5), -0.5, -1.0]), (last.tolist(), [0.0, -6e-4, -5e-4])
    )
    corner = torch.ones(1, n + 2)
    corner[0, 0], corner[0, -1] = 0.15, 0.5
    logits = net(corner)[0].detach()
    margin = float(logits[0] - logits[1:].max())
    assert margin < 0
    torch.manual_seed(seed)
    image = [0.9, *[0.5] * (n + 1)]
    row, _ = worst_one(asked(net, image, 0.8), Method(frozenset({"attack", "crown", "milp"})), 20.0)
    assert row.verdict != "verified"
    assert row.lower_bound <= margin + 1e-6
