"""Verdicts at many radii from few solves: what is carried, and that it is true."""

import pytest
import torch

from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.questions.curve import Ladder, curve_one
from robsweep.tasks.verification.search.counterexamples import subject_of
from robsweep.tasks.verification.solve import Question
from robsweep.tasks.verification.verdicts import Row
from tests.tasks.verification.small_nets import dense, smallest_margin

RADII = tuple(k / 100 for k in range(1, 31))


def climbed(true: float, distances: float | None = None) -> tuple[Ladder, int]:
    """A ladder of a sample whose nearest adversarial is at `true`; what its solves were."""
    ladder, solves = Ladder(RADII), 0
    while (rung := ladder.next()) is not None:
        solves += 1
        if RADII[rung] < true:
            ladder.tell(rung, Row("verified", "crown", arithmetic="float32"), None)
        else:
            point = (torch.zeros(1), distances or RADII[rung])
            ladder.tell(rung, Row("falsified", "attack", counterexample_check="ok"), point)
    return ladder, solves


@pytest.mark.parametrize("true", [0.001, 0.015, 0.145, 0.155, 0.295, 0.5])
def test_bisection_needs_few_solves_and_carries_the_rest(true: float) -> None:
    ladder, solves = climbed(true)
    assert solves <= 5  # of 30 radii
    rows = ladder.all_rows()
    assert [row.verdict for row in rows] == [
        "verified" if eps < true else "falsified" for eps in RADII
    ]
    own = [row for row in rows if row.carried_from_eps is None]
    assert len(own) == solves
    for eps, row in zip(RADII, rows, strict=True):
        if row.carried_from_eps is not None and row.verdict == "verified":
            assert row.carried_from_eps > eps
            assert row.seconds == 0.0


def test_an_adversarial_breaks_every_radius_from_its_distance_on() -> None:
    ladder, _ = climbed(0.12, distances=0.121)
    rows = dict(zip(RADII, ladder.all_rows(), strict=True))
    assert rows[0.13].verdict == "falsified"
    assert rows[0.13].distance_upper == 0.121
    assert rows[0.12].verdict == "falsified"  # asked for itself
    assert rows[0.11].verdict == "verified"


def test_open_radii_stay_open_and_the_others_are_still_sought() -> None:
    ladder = Ladder(RADII)
    while (rung := ladder.next()) is not None:
        eps = RADII[rung]
        verdict = "verified" if eps < 0.1 else "falsified" if eps > 0.2 else "timeout"
        ladder.tell(rung, Row(verdict), None)  # type: ignore[arg-type]
    for eps, row in zip(RADII, ladder.all_rows(), strict=True):
        wanted = "verified" if eps < 0.1 else "falsified" if eps > 0.2 else "timeout"
        assert row.verdict == wanted


def test_a_misclassified_sample_is_wrong_at_every_radius() -> None:
    ladder = Ladder(RADII)
    ladder.tell(ladder.next() or 0, Row("misclassified", "clean"), None)
    assert ladder.next() is None
    assert {row.verdict for row in ladder.all_rows()} == {"misclassified"}


@pytest.mark.parametrize("seed", range(3))
def test_a_curve_is_what_brute_force_says_at_each_radius(seed: int) -> None:
    net = dense(seed, 2, 3, 3)
    image = torch.rand((1, 2), generator=torch.Generator().manual_seed(seed))
    label = net(image).argmax(1)
    radii = (0.02, 0.06, 0.1, 0.2, 0.3)
    question = Question(subject_of(net, (2,)), image, label, Robustness(None))
    method = Method(frozenset({"attack", "interval", "crown", "alpha", "branching"}))
    rows, nearest = curve_one(radii, question, method, 20.0)
    for eps, row in zip(radii, rows, strict=True):
        margin = smallest_margin(net, image, int(label), eps)
        if abs(margin) > 1e-5:  # nearer to 0, the precisions may disagree
            assert row.verdict == ("verified" if margin > 0 else "falsified")
        assert row.verdict != ("falsified" if margin > 1e-6 else "verified")
    assert (nearest is None) == all(row.verdict != "falsified" for row in rows)
