"""A published network of 500 ReLUs, most of them unstable (Raghunathan et al. 2018)."""

from collections import Counter
from pathlib import Path

import pytest
import torch

from robsweep.tasks.data.load import load
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models.load import load as load_model
from robsweep.tasks.verification.question import Robustness
from robsweep.tasks.verification.screen import Attack, screen_group
from robsweep.tasks.verification.search.counterexamples import subject_of

pytestmark = pytest.mark.data

SHAPE = (1, 28, 28)


def test_the_screen_of_the_first_500_at_a_tenth(data_dir: Path, nets_dir: Path) -> None:
    file = nets_dir / "rsl18a_linf0.1.safetensors"
    ref = ModelRef("rsl18a", "rsl18a", {}, SHAPE, 10, weights=str(file))
    subject = subject_of(load_model(ref, None, torch.device("cpu")).model, SHAPE)
    data = load("mnist", "test", str(data_dir))
    torch.manual_seed(0)
    rows = screen_group(
        subject, data.images[:500], data.labels[:500], Robustness(0.1), Attack()
    ).rows
    verdicts = Counter(row.verdict for row in rows)
    assert verdicts["misclassified"] == 20
    assert verdicts["falsified"] >= 70
    assert verdicts["verified"] >= 152  # by plain CROWN
