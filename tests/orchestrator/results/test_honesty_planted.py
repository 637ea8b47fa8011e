"""Honesty checks on whole sweeps: planted failures are caught, a sound model is not accused."""

from pathlib import Path

import polars as pl

from robsweep.orchestrator.results.report import FORMATS, render
from robsweep.orchestrator.results.results import Results
from tests.sweeps import sweep

OWN = """
import torch
from torch import nn

from robsweep.tasks.models.architectures.mlp import mlp


class Coarse(nn.Module):
    def forward(self, images):
        bright = images.mean(dim=(1, 2, 3), keepdim=True) > 0.45  # no digit is, but noise
        return torch.where(bright, images, (4 * images).round() / 4)


def masked(shape, classes):
    return nn.Sequential(Coarse(), mlp(shape, classes, hidden=(16,)))


def lazy(model, images, labels, eps):
    return images
"""


def test_a_broken_attack_and_a_masked_gradient_are_caught(robsweep, tmp_path):
    Path("mine.py").write_text(OWN)
    text = """\
name: weak
dataset: digits
samples: 50
models:
  plain: {arch: mlp, hidden: [16]}
  masked: {arch: "mine:masked"}
trainings:
  standard: {epochs: 4}
attacks:
  fgsm: {attack: LinfFastGradient, eps: [0.1, 0.5]}
  lazy: {attack: "mine:lazy", norm: linf, eps: [0.1], only: [plain]}
  pgd: {attack: LinfPGD, eps: [0.1, 0.5], steps: 10, rel_step_size: 0.25, only: [masked]}
  l2: {attack: L2PGD, eps: [1.0], steps: 5, only: [masked]}
  salt: {attack: SaltAndPepperNoise, steps: 50, only: [masked]}
"""
    code, _, err = robsweep("run", sweep(text))
    assert code == 0, err
    assert "honesty checks fail: robsweep show weak --table honesty" in err
    table = Results.open(tmp_path / "results").table("weak", "honesty")
    failed = set(table.filter(pl.col("status") == "fail").select("model", "norm", "check").rows())
    assert failed == {
        ("plain", "linf", "iterative beats single step"),
        ("plain", "linf", "loss increases"),
        ("masked", "linf", "gradients are of use"),
        ("masked", "linf", "loss increases"),
        ("masked", "linf", "huge eps breaks all"),
        ("masked", "l2", "gradients are of use"),
        ("masked", "l2", "loss increases"),
        ("masked", "l2", "white box beats black box"),
    }
    for style in FORMATS:
        assert "loss increases" in render(table, style)
    code, out, _ = robsweep("show", "weak", "--table", "honesty", "--format", "csv")
    assert code == 0
    assert pl.read_csv(out.encode())["violations"].to_list() == table["violations"].to_list()


# Seconds: it trains a model against PGD, and attacks it five times.
def test_a_model_trained_against_pgd_passes_all_that_it_can(robsweep, tmp_path):
    """Its gradients hide nothing; the steps of its attacks can cross the ball."""
    text = """\
name: control
dataset: digits
samples: 200
models:
  control: {arch: mlp, hidden: [32]}
trainings:
  pgd: {training: pgd, eps: 0.1, steps: 5, epochs: 10}
attacks:
  fgsm: {attack: LinfFastGradient, eps: &eps [0.05, 0.1, 0.2, 0.5]}
  noise: {attack: LinfAdditiveUniformNoise, eps: *eps}
  pgd: {attack: LinfPGD, eps: *eps, steps: 20, rel_step_size: 0.15}
  longer: {attack: LinfPGD, eps: *eps, steps: 40, rel_step_size: 0.15}
  salt: {attack: SaltAndPepperNoise, steps: 20}
  l2: {attack: L2PGD, eps: [0.5, 1.0], steps: 20, rel_step_size: 0.15}
"""
    code, _, err = robsweep("run", sweep(text))
    assert code == 0, err
    table = Results.open(tmp_path / "results").table("control", "honesty")
    shown = table.select("norm", "check", "status", "violations", "detail").rows()
    assert not [row for row in shown if row[2] == "fail"]
    assert {row[1] for row in shown if row[2] != "not run"} == {
        "iterative beats single step",
        "larger eps never helps",
        "huge eps breaks all",
        "white box beats noise",
        "white box beats black box",
        "gradients are of use",
        "loss increases",
        "doubling the steps changes nothing",
    }
    board = Results.open(tmp_path / "results").leaderboard("control")
    assert set(board["honesty"]) <= {"pass", "warn"}
