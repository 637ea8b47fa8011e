"""A published network whose exact distances are known (MIPVerify)."""

from pathlib import Path

import pytest
import torch

from robsweep.tasks.data.load import load
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.recheck.counterexamples import Subject
from robsweep.tasks.recheck.network import read
from robsweep.tasks.recheck.proofs import Shown, derive

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def subject(nets_dir: Path) -> Subject:
    file = nets_dir / "wk17a_linf0.1.safetensors"
    ref = ModelRef("wk17a", "wk17a", {}, (1, 28, 28), 10, weights=str(file))
    module = load_model(ref, None, torch.device("cpu")).model
    return Subject(module, read(module, (1, 28, 28)))


@pytest.mark.parametrize("sample", range(12))
def test_the_first_twelve_at_a_tenth(subject: Subject, data_dir: Path, sample: int) -> None:
    shown = derived(subject, data_dir, sample, 0.1)
    assert shown.outcome == ("wrong" if sample == 8 else "ok"), shown


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "outcome"), [(0.0930, "ok"), (0.0950, "wrong")])
def test_verdicts_flip_at_the_exact_distance(
    subject: Subject, data_dir: Path, eps: float, outcome: str
) -> None:
    shown = derived(subject, data_dir, 8, eps)
    assert shown.outcome == outcome, shown


def derived(subject: Subject, data_dir: Path, sample: int, eps: float) -> Shown:
    data = load("mnist", "test", str(data_dir))
    image, label = data.images[sample].numpy(), int(data.labels[sample])
    return derive(subject.layers, image, label, eps, 300.0, 0)
