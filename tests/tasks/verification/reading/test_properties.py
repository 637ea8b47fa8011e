import pytest
import torch

from robsweep.tasks.logits import margin as class_margin
from robsweep.tasks.verification.bounds.intervals import interval
from robsweep.tasks.verification.bounds.margins import best_margins, crown
from robsweep.tasks.verification.optimise.milp import encode
from robsweep.tasks.verification.optimise.solver import Deadline, Race, answers, meaning
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.properties import Property, margin, targeted, untargeted
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.verification.small_nets import ball, dense, points_in


def test_untargeted_is_the_margin_of_the_label_and_a_tie_is_unsafe() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 5).double(), torch.randint(5, (50,))
    logits[0] = 1.0
    found = margin(untargeted(labels, 5), logits)
    torch.testing.assert_close(found, class_margin(logits, labels))
    assert found[0] == 0
    torch.testing.assert_close(margin(untargeted(labels, 5, 0.25), logits), found - 0.25)


def test_targeted_is_negative_where_a_target_is_predicted() -> None:
    torch.manual_seed(0)
    logits = torch.randn(200, 4).double()
    unsafe = targeted([1, 3], 4).rows([0] * 200)
    found = margin(unsafe, logits)
    assert ((found <= 0) == torch.isin(logits.argmax(1), torch.tensor([1, 3]))).all()
    others = torch.tensor([0, 2])
    expected = logits[:, others].amax(1) - logits[:, [1, 3]].amax(1)
    torch.testing.assert_close(found.clamp(min=0), expected.clamp(min=0))
    assert margin(targeted([2], 4), torch.zeros(1, 4))[0] == 0


def test_conjunctions_in_bounds_and_solver_agree_with_sampling() -> None:
    pytest.importorskip("ortools")
    seen = set()
    for seed in range(8):
        network = read(dense(seed, 2, 5, 4, 4), (2,))
        box = ball(torch.rand(1, 2), 0.3)
        weight = torch.randn(1, 3, 2, 4).double()
        unsafe = Property(weight, torch.rand(1, 3, 2).double() * 0.3)
        points = torch.cat(points_in((box.lower + box.upper).float() / 2, 0.2, 400))
        points = torch.minimum(torch.maximum(points, box.lower), box.upper)
        logits = evaluate(network, points)[-1]
        each = torch.einsum("dck,nk->ndc", weight[0], logits) + unsafe.bias[0]
        sampled = each.amax(2).amin(0)
        for how in (interval, crown):
            lower = best_margins(network, how(network, box), unsafe).lower[0]
            assert (lower <= sampled).all()
        race = Race("gscip", unsafe, (0, 1, 2), Deadline(0.0, None))
        for answer in answers(encode(network, crown(network, box)), race):
            found = meaning(answer)
            seen.add(found)
            if found == "proof":
                assert sampled[answer.disjunct] > 0
            else:
                assert found == "candidate"
                point = torch.tensor(answer.pixels).double()[None]
                value = weight[0, answer.disjunct] @ evaluate(network, point)[-1][0]
                assert (value + unsafe.bias[0, answer.disjunct]).max() <= 1e-5
    assert seen == {"proof", "candidate"}
