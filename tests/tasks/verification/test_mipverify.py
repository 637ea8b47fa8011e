"""MIPVerify's recipe: its verdicts by brute force, its counters by what is published of it."""

import json
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.mipverify import Recipe, solve_one
from robsweep.tasks.verification.optimise.child import SolverDiedError, kept
from robsweep.tasks.verification.optimise.progressive import LP_COMMAND, wins_of
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.reading.properties import Property, targeted, untargeted
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question
from robsweep.tasks.verification.verdicts import Row
from tests.tasks.verification.deciding import lower_bound_of, margin_at
from tests.tasks.verification.small_nets import (
    convolutional,
    dense,
    points_in,
    smallest_margin,
)

pytest.importorskip("ortools")


def _asked(net: torch.nn.Module, image: torch.Tensor, label: int, asked: Robustness) -> Row:
    subject = subject_of(net, tuple(image.shape))
    question = Question(subject, image[None], torch.tensor([label]), asked)
    row, found = solve_one(Recipe(), question, 60.0)
    assert (found is None) == (row.verdict != "falsified")
    if found is not None and not asked.targets:
        assert margin_at(net, found[None], label)[0] <= asked.margin
        assert (found - image).abs().max() <= (asked.eps or 0) + 1e-7
    return row


@pytest.mark.parametrize("seed", [0, 7, 11])  # robust nearby, and not in the whole cube
def test_verdicts_are_those_of_enumeration(seed: int) -> None:
    net, image = dense(seed, 3, 5, 3), torch.rand(3)
    label = int(net(image[None]).argmax())
    reach = float((image - 0.5).abs().max())  # at the grey image all classes tie
    for eps in (0.3 * reach, 1.0):
        exact = smallest_margin(net, image, label, eps)
        assert (exact > 1e-3) == (eps < reach)
        row = _asked(net, image, label, Robustness(eps))
        assert row.verdict == ("verified" if exact > 0 else "falsified"), (exact, row)
        # by how much the label wins, from both sides
        for margin in (exact - 1e-3, exact + 1e-3) if exact > 0 else ():
            row = _asked(net, image, label, Robustness(eps, margin))
            assert row.verdict == ("verified" if margin < exact else "falsified")


@pytest.mark.parametrize("name", ["functional", "pooled", "residual", "rearranged"])
def test_other_layers(name: str) -> None:
    """A margin that bounds by CROWN prove, and one that a point in the ball falls short of."""
    net, shape = convolutional(name)
    image, eps = torch.rand(shape), 0.02
    label = int(net(image[None]).argmax())
    proved = lower_bound_of(net, image, label, eps)
    points = torch.cat(points_in(image[None], eps, 300)).float()
    inside = (points - image).abs().flatten(1).amax(1) <= eps
    reached = float(margin_at(net, points[inside], label).min())
    assert 0 < proved < reached
    for margin, verdict in ((proved - 1e-3, "verified"), (reached + 1e-3, "falsified")):
        row = _asked(net, image, label, Robustness(eps, margin))
        assert row.verdict == verdict, (proved, reached, row)


def test_targets_are_asked_about_together() -> None:
    net, image = dense(9, 3, 6, 4), torch.rand(3)
    eps = 0.9 * float((image - 0.5).abs().max())  # short of the image at which all classes tie
    label = int(net(image[None]).argmax())
    points = (image + eps * (2 * torch.rand(20_000, 3) - 1)).clamp(0, 1)
    winners = set(net(points).argmax(1).tolist()) - {label}
    losers = set(range(4)) - {label} - winners
    assert winners
    assert losers
    for targets in (winners, losers, winners | losers):
        row = _asked(net, image, label, Robustness(eps, targets=tuple(targets)))
        assert row.verdict == ("falsified" if targets & winners else "verified")


def test_a_question_is_one_of_which_class_wins() -> None:
    wins = wins_of(untargeted(torch.tensor([1]), 3, 0.5))
    assert (wins.targets.tolist(), wins.others.tolist(), wins.least) == ([0, 2], [1], -0.5)
    wins = wins_of(targeted([0, 2], 4))
    assert (wins.targets.tolist(), wins.others.tolist()) == ([0, 2], [1, 3])
    with pytest.raises(InputError, match="which class wins"):
        wins_of(Property(torch.full((1, 1, 1, 3), 2.0).double(), torch.zeros(1, 1, 1).double()))


def test_curves_are_left_open() -> None:
    net, shape = convolutional("curved")
    image = torch.rand(shape)
    row = _asked(net, image, int(net(image[None]).argmax()), Robustness(1e-3))
    assert (row.verdict, row.solver_status) == ("unknown", "bounds only")


def test_the_second_program_is_solved_where_the_first_leaves_a_sign_open() -> None:
    """x + y <= 1 on the unit square: x + y - 3 is below 0, and x + y - 0.5 is not."""
    program = {
        "lower": np.zeros(2), "upper": np.ones(2),
        "row": [0, 0], "column": [0, 1], "value": np.ones(2),
        "row_lower": [-np.inf], "row_upper": [1.0],
        "forms": 2, "form_row": [0, 0, 1, 1], "form_column": [0, 1, 0, 1],
        "form_value": np.ones(4), "enough": [3.0, 0.5], "deadline": np.inf,
    }  # fmt: skip
    child = kept(LP_COMMAND)
    for _ in range(2):  # the same process
        with closing(child.ask(program, 4, time.monotonic() + 60)) as found:
            ends = list(found)
        assert ends[2] is None
        assert [ends[0], ends[1], ends[3]] == pytest.approx([1.0, 1.0, 0.0], abs=1e-9)
        assert ends[0] >= 1
    with pytest.raises(SolverDiedError), closing(child.ask({"lower": 0}, 1, np.inf)) as found:
        list(found)
    with closing(child.ask(program, 4, time.monotonic() + 60)) as found:
        assert json.loads(json.dumps(list(found)))[2] is None  # by another process


@pytest.mark.data
def test_counters_are_those_that_are_published(data_dir: Path, nets_dir: Path) -> None:
    """Of sample 0 intervals leave 131 ReLUs undecided, and linear programs 115."""
    from robsweep.tasks.data.load import load
    from robsweep.tasks.job import ModelRef
    from robsweep.tasks.models.load import load as load_model

    images, labels = load("mnist", "test", str(data_dir))
    file = nets_dir / "wk17a_linf0.1.safetensors"
    ref = ModelRef("wk17a", "wk17a", {}, (1, 28, 28), 10, weights=str(file))
    subject = subject_of(load_model(ref, None, torch.device("cpu")).model, (1, 28, 28))
    one = Question(subject, images[:1], labels[:1], Robustness(0.1))
    row, _ = solve_one(Recipe(), one, 120.0)
    assert row.verdict == "verified"
    assert (row.unstable_relus, row.interval_unstable_relus) == (115, 130)
    assert row.lp_calls is not None
    # the first layer takes none; two for each of the nine other logits
    assert 18 < row.lp_calls < 18 + 2 * 130
    by_intervals, _ = solve_one(Recipe(bounds="interval"), one, 0.01)
    assert (by_intervals.unstable_relus, by_intervals.lp_calls) == (131, 0)
