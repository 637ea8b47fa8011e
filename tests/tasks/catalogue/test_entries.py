"""The catalogue against the functions behind it."""

import inspect
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from robsweep.tasks.catalogue import (
    CALIBRATIONS,
    CORRUPTIONS,
    DATASETS,
    FITS,
    LANDSCAPES,
    MODELS,
    SCORERS,
    SENSITIVITIES,
    TRAININGS,
)
from robsweep.tasks.catalogue.attacks import OWN
from robsweep.tasks.catalogue.code.resolve import resolve
from robsweep.tasks.catalogue.entries import Entry, Parameters, Scorer
from robsweep.tasks.catalogue.scorers import own_parameters
from robsweep.tasks.data import checksums
from robsweep.tasks.data.fetch import MIRRORS
from robsweep.tasks.data.load import Labelled
from robsweep.tasks.models.architectures.abs import ABS, Inference
from robsweep.tasks.training.recipe import COMMON, Recipe, split
from tests.tasks.trainings import setup_of, trained_with

SEAMS = {
    "MODELS": (MODELS, ["shape", "classes"]),
    "TRAININGS": (TRAININGS, ["setup"]),
    "CORRUPTIONS": (CORRUPTIONS, ["images", "severity"]),
    "CALIBRATIONS": (CALIBRATIONS, ["logits", "labels"]),
    "SENSITIVITIES": (SENSITIVITIES, ["model", "images", "eps", "method"]),
    "LANDSCAPES": (LANDSCAPES, ["objective", "start"]),
}
# what a scorer's function is given, by what it reads and whether it has a fit
SCORED = {
    ("logits", False): ["model", "images"],
    ("logits", True): ["logits", "fit"],
    ("features", True): ["features", "logits", "fit"],
    ("members", False): ["members"],
    ("model", False): ["model", "images"],
}
ENTRIES = [
    pytest.param(entry, seam, id=f"{family}-{name}")
    for family, (entries, seam) in SEAMS.items()
    for name, entry in entries.items()
] + [
    pytest.param(
        replace(entry, parameters=own_parameters(name, entry.parameters)),
        SCORED[entry.reads, entry.fit is not None],
        id=f"SCORERS-{name}",
    )
    for name, entry in SCORERS.items()
    if isinstance(entry, Scorer)
]


@pytest.mark.parametrize(("entry", "seam"), ENTRIES)
def test_parameters_and_defaults_are_the_functions(entry: Entry, seam: list[str]) -> None:
    parameters = inspect.signature(resolve(entry.path, "entry")).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    given = ["randoms"] if "per_sample" in entry.traits else []
    assert positional == [*seam, *given]
    keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    expected = {
        name: inspect.Parameter.empty if isinstance(default, type) else default
        for name, default in entry.parameters.items()
        if seam != ["setup"] or name not in COMMON
    }
    assert keywords == expected


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_takes_the_whole_recipe(name: str) -> None:
    given = {k: v for k, v in TRAININGS[name].parameters.items() if k in COMMON}
    assert given.keys() == COMMON
    assert vars(split(given)[0]) == {**vars(Recipe()), "epochs": given["epochs"]}


# what the job gives an attack, and what only other attacks set
_GIVEN = {"norm", "detector", "starting_points", "targets", "eot"}


@pytest.mark.parametrize("name", OWN)
def test_parameters_of_our_attacks_are_the_functions(name: str) -> None:
    attack = OWN[name]
    parameters = inspect.signature(resolve(attack.path, "attack")).parameters
    positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    radius = ["eps"] if attack.gives == "fixed_eps" else []
    assert positional == ["model", "images", "labels", *radius]
    keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert ("norm" in keywords) == (len(attack.norms) > 1)
    assert ("detector" in keywords) == attack.detects
    assert {k: v for k, v in keywords.items() if k not in _GIVEN} == attack.parameters


def test_data_files_have_checksums() -> None:
    files = {file for entry in DATASETS.values() for file in entry.files}
    known = {*checksums.CONTENT, *checksums.FILE}
    assert known <= files
    assert {Path(file).parent.name for file in files - known} == {"emnist"}
    assert all(len(archive.sha256) == 64 for archive in checksums.ARCHIVES.values())


def test_every_file_can_be_fetched() -> None:
    folders = {Path(file).parent.name for entry in DATASETS.values() for file in entry.files}
    assert folders == {*MIRRORS, *checksums.ARCHIVES}


def filled(parameters: Parameters) -> dict[str, Any]:
    required = {float: 0.1, str: "named"}
    return {k: required.get(v, v) if isinstance(v, type) else v for k, v in parameters.items()}


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_runs(name: str) -> None:
    torch.manual_seed(0)
    data = Labelled(torch.rand(30, 1, 4, 4), torch.randint(3, (30,)))
    model: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    if name == "vae":
        data = Labelled(torch.rand(8, 1, 28, 28), torch.arange(8) % 2)
        model = ABS(2, Inference(samples=2, steps=1, lr=0.1, beta=1.0, alpha=440.0, eta=1e-5))
    weight = next(model.parameters())
    before = weight.detach().clone()
    _, own = split(filled(TRAININGS[name].parameters))
    loss = resolve(TRAININGS[name].path, "training")(setup_of(model, data), **own)
    history = trained_with(model, data, loss, validation=data, epochs=2)
    assert [epoch.epoch for epoch in history] == [1, 2]
    assert weight.isfinite().all()
    assert not torch.equal(weight, before)


@pytest.mark.parametrize("name", FITS)
def test_parameters_of_fits_are_the_functions(name: str) -> None:
    parameters = inspect.signature(resolve(FITS[name].path, "fit")).parameters
    keywords = {p.name: p.default for p in parameters.values() if p.kind is p.KEYWORD_ONLY}
    if FITS[name].reads != "search":  # whose grid is the sweep's
        assert keywords == FITS[name].parameters
        assert [p for p in parameters if p not in keywords] == ["given"]


def test_jobs_load_no_library_that_only_some_need() -> None:
    optional = ("foolbox", "ortools", "sklearn", "pooch", "ray", "streamlit", "orchestrator")
    code = f"import sys, robsweep.tasks.jobs; print([m for m in {optional} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert loaded.stdout.strip() == b"[]"
