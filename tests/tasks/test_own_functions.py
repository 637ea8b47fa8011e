"""A user's own code changes nothing that others see: not in its job, not in later ones."""

import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.job import Inputs, Setting
from robsweep.tasks.jobs import run
from robsweep.tasks.own_functions import State, _global_hooks, _Modes, _Settings
from tests.tasks.digit_jobs import MLP, job_of, train_job

GROUP = 50
FIXED = {"norm": "linf", "eps": [0.05, 0.1], "restarts": 2, "seed": 0, "group_size": GROUP}
MINE = replace(MLP, arch="hostile:normalised", params={})


def attack_params(name, **more):
    return {**FIXED, "attack": name, "parameters": {}, **more}


OURS = attack_params("apgd_ce", parameters={"steps": 5})
HOSTILE = {
    "attack": ("attack", attack_params("hostile:attack")),
    "raising": ("attack", attack_params("hostile:raising")),
    "min-norm": ("attack", attack_params("hostile:nearest", eps=None)),
    "detector": ("attack", OURS | {"detector": "hostile:score", "detector_parameters": {}}),
    "score": ("score", {"scorer": "hostile:score", "ood_set": None, "group_size": GROUP,
                        "seed": 0, "parameters": {}}),
    "corruption": ("predict", {"source": "corruption:hostile:darken:3", "group_size": GROUP,
                               "seed": 0, "parameters": {}}),
    "calibrate": ("calibrate", {"method": "hostile:fit", "parameters": {}}),
    "training": ("train", {"training": "hostile:training", "parameters": {"epochs": 1}}),
    "landscape": ("landscape", {
        "landscape": "hostile:explore", "parameters": {}, "train_samples": 0, "l2": 0.01,
        "gradient_tolerance": 1e9, "samples": (0, 50), "eps": 0.05, "method": "interval",
        "measure": "mean_width", "attack_steps": 2, "seed": 0}),
    "model": ("predict", {"source": "clean", "group_size": GROUP, "seed": 0}),
    "model, trained": ("train", {"training": "standard", "parameters": {"epochs": 1}}),
    "model, attacked": ("attack", OURS),
}  # fmt: skip
INNOCENT = {
    "clean": ("predict", {"source": "clean", "group_size": GROUP, "seed": 0}),
    "noise": ("predict", {"source": "corruption:gaussian_noise:3", "group_size": GROUP, "seed": 0}),
    "apgd": ("attack", OURS),
    "score": ("score", {"scorer": "energy", "ood_set": None, "group_size": GROUP, "seed": 0,
                        "parameters": {}}),
}  # fmt: skip


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    shutil.copy(Path(__file__).with_name("hostile.py"), folder)
    return Setting(data_dir="", import_paths=(str(folder),))


def hostile_job(case, setting, stop=3 * GROUP):
    kind, params = HOSTILE[case]
    whole = kind in {"train", "calibrate", "landscape"}
    model = MINE if case.startswith("model") else MLP
    return job_of(kind, params, 0, 1 if whole else stop, model=model, setting=setting)


def inputs_of(case, weights, setting):
    if case.startswith("model") or HOSTILE[case][0] == "train":
        return Inputs()
    if case == "calibrate":
        clean = job_of("predict", {"source": "clean"}, 0, 200, split="validation")
        return Inputs(rows=run(clean, weights).tables["predictions"])
    return weights


def without_times(output):
    return {
        name: table.drop_columns([c for c in ("seconds", "loss_terms") if c in table.column_names])
        for name, table in output.tables.items()
    }


def innocents(weights):
    found = {}
    for name, (kind, params) in INNOCENT.items():
        found |= {
            (name, table): rows
            for table, rows in without_times(
                run(job_of(kind, params, 0, 3 * GROUP), weights)
            ).items()
        }
    trained = run(train_job(epochs=1), Inputs())
    return found, trained.artifacts["models/train-0.safetensors"]


@pytest.fixture(scope="module")
def alone(weights):
    return innocents(weights)


def world():
    """What a process shares: modes, generators, data."""
    data = [t for split in ("train", "validation", "test") for t in load_data("digits", split, "")]
    return (
        (_Modes.now(), _Settings.now()),
        (torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()),
        [tensor.numpy().tobytes() for tensor in data],
        {name: [*hooks] for name, hooks in _global_hooks().items()},
    )


@pytest.mark.parametrize("case", HOSTILE)
def test_it_changes_nothing_for_others(case, beside, weights, alone):
    job, inputs = hostile_job(case, beside), inputs_of(case, weights, beside)
    before = world()
    run(job, inputs)
    assert world() == before
    found, trained = innocents(weights)
    for name, rows in alone[0].items():
        assert found[name].equals(rows), name
    assert trained == alone[1]


@pytest.mark.parametrize("case", [c for c in HOSTILE if HOSTILE[c][0] in {"attack", "score"}])
def test_nor_for_its_own_later_groups(case, beside, weights):
    """Rows are the same, however a measurement is cut: what happens in a group ends with it."""
    whole = without_times(run(hostile_job(case, beside), inputs_of(case, weights, beside)))
    for group in range(3):
        job = replace(hostile_job(case, beside), start=group * GROUP, stop=(group + 1) * GROUP)
        for name, rows in without_times(run(job, inputs_of(case, weights, beside))).items():
            size = len(rows) // GROUP
            assert rows.equals(whole[name].slice(group * GROUP * size, GROUP * size)), (case, name)


def test_what_an_attack_is_judged_by_is_not_what_it_was_given(beside, weights):
    data = load_data("digits", "test", "")
    output = run(hostile_job("attack", beside), weights)
    rows = output.tables["attacks"].to_pylist()
    predictions = output.tables["predictions"].to_pylist()
    assert {row["check"] for row in rows} == {"ok"}
    assert [p["label"] for p in predictions] == data.labels[: 3 * GROUP].repeat_interleave(
        2
    ).tolist()
    for row, predicted in zip(rows, predictions, strict=True):
        assert row["success"] == (predicted["predicted"] != predicted["label"])
        assert row["distance"] is None or row["distance"] <= row["eps"]
    assert 0 < np.mean([row["success"] for row in rows]) < 1


def test_a_model_that_normalises_in_place_is_the_one_that_does_not(beside):
    """Also where it is called on the same images again and again, and through gradients."""
    for kind, params in (HOSTILE["model, attacked"], HOSTILE["model"]):
        tables = [
            without_times(
                run(
                    job_of(
                        kind,
                        params,
                        0,
                        2 * GROUP,
                        model=replace(MLP, arch=f"hostile:{name}", params={}),
                        setting=beside,
                    ),
                    Inputs(),
                )
            )
            for name in ("normalised", "honest")
        ]
        for name, rows in tables[0].items():
            assert rows.equals(tables[1][name]), (kind, name)
    weights = [
        run(
            job_of(
                "train",
                {"training": "pgd", "parameters": {"epochs": 1, "eps": 0.1, "steps": 2}},
                model=replace(MLP, arch=f"hostile:{name}", params={}),
                setting=beside,
            ),
            Inputs(),
        ).artifacts["models/train-0.safetensors"]
        for name in ("normalised", "honest")
    ]
    assert weights[0] == weights[1]


def test_parameters_are_its_own(beside, weights):
    """A list that a function was given for its job is not the one of the next job."""
    sizes = [1]
    params = attack_params("hostile:attack", parameters={"sizes": sizes})
    run(job_of("attack", params, 0, GROUP, setting=beside), weights)
    steps = [1]
    ref = replace(MINE, params={"steps": steps})
    run(job_of("predict", {"source": "clean"}, 0, 250, model=ref, setting=beside), Inputs())
    assert (sizes, steps) == ([1], [1])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p.data.zero_(),
        lambda p: p.data.untyped_storage().resize_(0),
        lambda p: p.data.set_(torch.ones(3)),
        lambda p: setattr(p, "data", p.data.double()[:1]),
        lambda p: p.data.t_(),
        lambda p: p.requires_grad_(requires_grad=False).resize_(1),
    ],
)
def test_a_models_memory_is_restored_where_it_lies(spoil):
    """Others may share it: the caller's model, a view of its weights."""
    model = torch.nn.Linear(4, 3)
    views = [p.data for p in model.parameters()]
    before = [view.clone() for view in views]
    state = State.of(model)
    spoil(model.weight)
    state.restore()
    for parameter, view, content in zip(model.parameters(), views, before, strict=True):
        assert torch.equal(view, content)
        assert torch.equal(parameter, content)
        assert parameter.data_ptr() == view.data_ptr()
        assert parameter.requires_grad
