"""A published network whose exact distances are known (MIPVerify)."""

from pathlib import Path

import pytest
import torch

from robsweep.tasks.data.load import Labelled, load
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.verification.problem import Method
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.questions.closest import closest_one
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import Subject, subject_of
from robsweep.tasks.verification.solve import Question, solve_one

pytest.importorskip("ortools")
pytestmark = pytest.mark.data

SHAPE = (1, 28, 28)


@pytest.fixture(scope="module")
def images(data_dir: Path) -> Labelled:
    return load("mnist", "test", str(data_dir))


@pytest.fixture(scope="module")
def subject(nets_dir: Path) -> Subject:
    file = nets_dir / "wk17a_linf0.1.safetensors"
    ref = ModelRef("wk17a", "wk17a", {}, SHAPE, 10, weights=str(file))
    return subject_of(load_model(ref, None, torch.device("cpu")).model, SHAPE)


def _verdict(subject: Subject, data: Labelled, sample: int, eps: float) -> str:
    one = slice(sample, sample + 1)
    return solve_one(
        Question(subject, data.images[one], data.labels[one], Robustness(eps)), Method(), 60.0
    )[0].verdict


def test_the_first_thirty_at_a_tenth(subject: Subject, images: Labelled) -> None:
    torch.manual_seed(0)
    found = screen_group(
        subject, images.images[:30], images.labels[:30], Robustness(0.1), Attack(20, 2)
    )
    verdicts = [row.verdict for row in found.rows]
    left = [i for i, verdict in enumerate(verdicts) if verdict == "unknown"]
    assert len(left) <= 2
    for i in left:
        verdicts[i] = _verdict(subject, images, i, 0.1)
    assert [i for i, verdict in enumerate(verdicts) if verdict != "verified"] == [8]
    assert verdicts[8] == "falsified"


@pytest.mark.parametrize(("sample", "distance"), [(8, 0.09400), (92, 0.036517), (149, 0.04426)])
def test_verdicts_flip_at_the_exact_distance(
    subject: Subject, images: Labelled, sample: int, distance: float
) -> None:
    # nearer, the smallest margin is below the 0.03 that rounding in float32 may add
    assert _verdict(subject, images, sample, distance * 0.95) == "verified"
    assert _verdict(subject, images, sample, distance * 1.005) == "falsified"


@pytest.mark.parametrize("sample", [247, 259])
def test_misclassified_ones_are_not_falsified(
    subject: Subject, images: Labelled, sample: int
) -> None:
    assert _verdict(subject, images, sample, 0.1) == "misclassified"


DISTANCES = {
    8: 0.09400, 92: 0.036517, 115: 0.09373, 149: 0.04426, 359: 0.047797, 448: 0.07622,
    247: 0.0, 259: 0.0,
}  # fmt: skip


@pytest.mark.slow  # a MILP, or thousands of subproblems, for each
@pytest.mark.parametrize("sample", DISTANCES)
def test_published_minimal_distances(subject: Subject, images: Labelled, sample: int) -> None:
    """Tjeng et al.'s own, by another solver: both sides within 1e-4, if time suffices."""
    one = slice(sample, sample + 1)
    question = Question(subject, images.images[one], images.labels[one], Robustness(None))
    row, _ = closest_one(question, "linf", Method(), 600.0)
    assert row.distance_lower <= row.distance_lower_reals <= DISTANCES[sample] + 1e-4
    assert row.distance_upper >= DISTANCES[sample] - 1e-4
    if row.exact:
        assert row.distance_lower_reals >= DISTANCES[sample] - 1e-4
        assert row.distance_upper <= DISTANCES[sample] + 1e-4
    else:
        assert row.verdict == "falsified"
        assert row.seconds >= 600.0
