"""A sweep given as a mapping that has run, and a small trained network."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import robsweep as rob
from robsweep.tasks.data.load import load

SWEEP = {
    "name": "small",
    "dataset": "digits",
    "samples": 100,
    "seeds": [0, 1],
    "models": {"mlp": {"hidden": [16]}},
    "trainings": {"standard": {"epochs": 10, "lr": 0.01}},
    "attacks": {
        "pgd": {"attack": "LinfPGD", "eps": ["8/255", 0.1], "steps": 5, "group_size": 50},
        "deepfool": {"attack": "L2DeepFool", "steps": 5},
        "silent": {"attack": "LinfFastGradient", "eps": 0.1, "keep_adversarials": False},
    },
    "verification": {
        "linf": {"verifier": "milp", "eps": [0.03, 0.06], "samples": 20, "time_limit_seconds": 20}
    },
}


@pytest.fixture(autouse=True)
def _places(monkeypatch, tmp_path):
    for name in ("STORE", "DATA_DIR", "NETS_DIR"):
        monkeypatch.delenv(f"ROBSWEEP_{name}", raising=False)
    monkeypatch.setenv("ROBSWEEP_ADDRESS", "inline")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def ran(tmp_path_factory) -> rob.Ran:
    """About 10 s: two trainings, three attacks each, 40 questions to the verifier each."""
    folder = tmp_path_factory.mktemp("ran")
    before = Path.cwd()
    os.chdir(folder)
    try:
        return rob.run(SWEEP, store=folder / "store", address="inline")
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def digits():
    return {split: load("digits", split, "nowhere") for split in ("train", "validation", "test")}


@pytest.fixture(scope="session")
def some(digits):
    """The first 100 test samples."""
    return tuple(part[:100] for part in digits["test"])


@pytest.fixture(scope="session")
def net(digits) -> nn.Module:
    """A perceptron with 16 hidden units, 60 full-batch steps."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(60):
        images, labels = digits["train"]
        loss = nn.functional.cross_entropy(model(images), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model
