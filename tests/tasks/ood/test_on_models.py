"""Scorers that are called on models: by attacks on a detector, and in the preflight."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robsweep.tasks.catalogue import ATTACKS, SCORERS
from robsweep.tasks.catalogue.scorers import Scorer
from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, ModelRef, Setting
from robsweep.tasks.jobs import run
from robsweep.tasks.models.ensemble import Ensemble
from robsweep.tasks.models.load import load
from robsweep.tasks.models.weights import to_bytes
from robsweep.tasks.ood import fits
from robsweep.tasks.ood.features import features_of
from robsweep.tasks.ood.fits import Given
from robsweep.tasks.ood.scoring import on_images
from robsweep.tasks.preflight.scorers import check_scorer
from tests.tasks.digit_jobs import MLP, job_of

SHAPE = (1, 8, 8)
DIFFERENTIABLE = [
    name
    for name, one in SCORERS.items()
    if isinstance(one, Scorer) and one.reads in {"features", "logits"} and one.fit
]


def fitted_to(model: nn.Module, scorer: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    images = torch.rand(200, *SHAPE)
    found = features_of(model, SHAPE)
    one = found(images)
    classes = one.logits.shape[1]
    labels = torch.arange(200) % classes
    logits = 20.0 * nn.functional.one_hot(labels, classes)  # each class has some that are right
    given = Given(one.features.double(), one.logits.double() + logits, labels, found.head)
    entry = SCORERS[scorer]
    assert isinstance(entry, Scorer)
    tensors: dict[str, torch.Tensor] = getattr(fits, entry.fit or "")(given)
    return tensors


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(64, 12), nn.Softplus(), nn.Linear(12, 3)
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_of_scores_are_those_of_differences(name: str) -> None:
    model = network()
    fit = fitted_to(model, name)
    model = model.double()
    scorer = on_images(name, SCORERS[name].parameters, SHAPE, fit)
    images = torch.rand(3, *SHAPE, dtype=torch.float64).requires_grad_(True)
    (found,) = torch.autograd.grad(scorer(model, images).sum(), images)
    direction = torch.randn_like(images)
    step = 1e-6 * direction
    with torch.no_grad():
        up, down = scorer(model, images + step), scorer(model, images - step)
    along = (found * direction).flatten(1).sum(dim=1)
    torch.testing.assert_close((up - down) / 2e-6, along, rtol=1e-4, atol=1e-6)


def test_an_attack_evades_a_detector_of_features(weights: Inputs) -> None:
    model = load(MLP, weights.weights, torch.device("cpu")).model
    kept = to_bytes(fitted_to(model, "mahalanobis"))
    entry = ATTACKS["evasion"]
    params: dict[str, Any] = {
        "attack": "evasion", "norm": "linf", "eps": [0.3], "restarts": 1, "seed": 0,
        "group_size": 20, "parameters": {**entry.parameters, "steps": 10},
        "detector": "mahalanobis", "detector_parameters": dict(SCORERS["mahalanobis"].parameters),
        "detector_fit": "fit-0",
    }  # fmt: skip
    output = run(job_of("attack", params, 0, 20), Inputs(weights.weights, fit=kept))
    rows = output.tables["attacks"]
    assert rows["check"].to_pylist() == ["ok"] * 20
    assert any(rows["success"].to_pylist())
    passes = rows["n_forward"].to_pylist()
    assert max(passes) > 2
    assert all(n % 2 == 0 for n in passes), "a step is two, of the model and of the score"


def test_the_preflight_says_what_is_missing() -> None:
    images = torch.rand(2, *SHAPE)
    ref = ModelRef("m", "mine", {}, SHAPE, 3, name="mine")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval()
    maps = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3)).eval()
    both = Ensemble([network(), network()], "majority").eval()
    for model, name, message in (
        (linear, "knn", "scorer 'knn' of model 'mine': its only linear layer reads the image"),
        (maps, "react", "whole maps of 2x6x6, which `pool: mean` averages: give `pool: none` (72"),
        (both, "react", "take `pool: none` and `vote: mean_logits`"),
        (linear, "mutual_information", "is no ensemble"),
        (linear, "abs_likelihood", "this model is a Sequential: leave it out"),
    ):
        parameters = SCORERS[name].parameters
        with pytest.raises(InputError, match=re.escape(message)):
            check_scorer(model, ref, images, name, parameters, by_member=False)
    for model, name in ((maps, "vim"), (both, "vim"), (both, "mutual_information")):
        check_scorer(model, ref, images, name, SCORERS[name].parameters, by_member=False)
    whole = {**SCORERS["react"].parameters, "pool": "none"}
    check_scorer(maps, ref, images, "react", whole, by_member=False)


def test_scores_that_are_constant_or_not_finite_are_told_by_number(
    weights: Inputs, tmp_path: Path
) -> None:
    (tmp_path / "odd_scores.py").write_text(
        "def flat(model, images): return 0 * images.flatten(1)[:, 0]\n"
        "def broken(model, images): return flat(model, images) / 0\n"
    )
    setting = Setting(data_dir="/nowhere", import_paths=(str(tmp_path),))
    params = {"ood_set": None, "seed": 0, "parameters": {}, "group_size": 50}
    flat = {**params, "scorer": "odd_scores:flat"}
    output = run(job_of("score", flat, 0, 100, setting=setting), weights)
    assert "gave the same score, 0, for all 100 samples 0:100 of digits" in output.warnings[0]
    broken = {**params, "scorer": "odd_scores:broken"}
    with pytest.raises(FloatingPointError, match="not finite for 100 of 100 samples"):
        run(job_of("score", broken, 0, 100, setting=setting), weights)
