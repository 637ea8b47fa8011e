"""A small model trained on the digits, once per test session."""

import pytest
import torch

from robsweep.tasks.job import Inputs, Output
from robsweep.tasks.jobs import run
from tests.tasks.digit_jobs import train_job


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained() -> Output:
    """An MLP of 32 hidden units, ten epochs on the digits."""
    return run(train_job(lr=1e-2, batch_size=32), Inputs())


@pytest.fixture(scope="session")
def weights(trained: Output) -> Inputs:
    return Inputs(weights=trained.artifacts["models/train-0.safetensors"])
