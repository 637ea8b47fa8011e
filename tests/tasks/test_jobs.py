import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from safetensors.torch import load as read_tensors

from robsweep.tasks.catalogue import ATTACKS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.errors import InputError
from robsweep.tasks.groups import groups
from robsweep.tasks.job import Inputs, Job, Output, Setting
from robsweep.tasks.jobs import JOBS, run
from robsweep.tasks.rows import schema
from tests.tasks.digit_jobs import MLP, job_of

GROUP = 50


def attack_params(name: str, eps: list[float] | None, **parameters: Any) -> dict[str, Any]:
    return {
        "attack": name,
        "norm": ATTACKS[name].default_norm,
        "eps": eps,
        "restarts": 2,
        "seed": 7,
        "group_size": GROUP,
        "parameters": {**ATTACKS[name].parameters, **parameters},
    }


SLICED = {
    "pgd": ("attack", attack_params("LinfPGD", [0.05, 0.1], steps=5)),
    "deepfool": ("attack", attack_params("L2DeepFool", None, steps=5)),
    "salt": ("attack", attack_params("SaltAndPepperNoise", None, steps=10)),
    "boundary": ("attack", attack_params("L2Boundary", None, steps=5)),
    "hopskipjump": ("attack", attack_params("LinfHopSkipJump", None, steps=1)),
    "clean": ("predict", {"source": "clean", "group_size": GROUP, "seed": 0}),
    "noise": ("predict", {"source": "corruption:gaussian_noise:2", "group_size": GROUP, "seed": 0}),
    "fog": ("predict", {"source": "corruption:fog:2", "group_size": GROUP, "seed": 0}),
    "score": (
        "score",
        {"scorer": "energy", "ood_set": None, "group_size": GROUP, "seed": 0, "parameters": {}},
    ),
}


def tables(jobs: list[Job], inputs: Inputs) -> dict[str, pa.Table]:
    outputs = [run(job, inputs).tables for job in jobs]
    joined = {name: pa.concat_tables([o[name] for o in outputs]) for name in outputs[0]}
    return {
        name: t.drop_columns("seconds") if "seconds" in t.column_names else t
        for name, t in joined.items()
    }


@pytest.mark.parametrize("case", SLICED)
def test_rows_do_not_depend_on_how_a_measurement_is_cut(case: str, weights: Inputs) -> None:
    kind, params = SLICED[case]
    whole = tables([job_of(kind, params, 0, 4 * GROUP)], weights)
    for groups_per_job in (1, 2):
        step = groups_per_job * GROUP
        jobs = [job_of(kind, params, i, i + step) for i in range(0, 4 * GROUP, step)]
        sliced = tables(jobs[::-1], weights)
        for name, table in whole.items():
            assert sliced[name].sort_by("sample").equals(table.sort_by("sample"))


def test_groups_end_with_the_split_and_are_never_cut() -> None:
    assert groups(250, 500, 250, 500) == [range(250, 500)]
    assert groups(0, 500, 200, 500) == [range(200), range(200, 400), range(400, 500)]
    for start, stop in ((10, 200), (0, 100), (0, 600), (200, 200)):
        with pytest.raises(ValueError, match=r"cut a group|not inside"):
            groups(start, stop, 200, 500)


def test_attack_job(weights: Inputs) -> None:
    eps = [0.1, 0.05]
    output = run(job_of("attack", attack_params("LinfPGD", eps), 0, 100), weights)
    rows = output.tables["attacks"].to_pylist()
    assert [(row["sample"], row["eps"]) for row in rows] == [
        (i, e) for i in range(100) for e in (0.05, 0.1)
    ]
    data = load_data("digits", "test", "")
    tensors = read_tensors(output.artifacts["adversarials/attack-0-0-100.safetensors"])
    assert sorted(tensors) == ["0.05", "0.1"]
    predictions = output.tables["predictions"].to_pylist()
    for row, predicted in zip(rows, predictions, strict=True):
        i, e = row["sample"], row["eps"]
        assert predicted["source"] == f"attack:attack-0:{e!r}"
        assert predicted["sample"] == i
        assert predicted["label"] == data.labels[i]
        assert predicted["predicted"] == row["adversarial_predicted"]
        assert row["success"] == (row["adversarial_predicted"] != data.labels[i])
        moved = np.abs(tensors[repr(e)][i].double().numpy() - data.images[i].double().numpy())
        assert moved.max() <= e
        assert row["distance"] == (moved.max() if row["success"] else None)
    share = [np.mean([row["success"] for row in rows if row["eps"] == e]) for e in (0.05, 0.1)]
    assert 0 < share[0] < share[1]
    assert output.tables["attacks"].schema == schema("attacks")
    assert output.tables["predictions"].schema == schema("predictions", 10)


def test_adversarials_are_kept_only_on_request(weights: Inputs) -> None:
    job = job_of("attack", attack_params("L2DeepFool", None), 0, GROUP)
    kept = run(job, weights).artifacts["adversarials/attack-0-0-50.safetensors"]
    assert list(read_tensors(kept)) == ["min_norm"]
    setting = replace(job.setting, keep_adversarials=False)
    assert not run(replace(job, setting=setting), weights).artifacts


OWN = """
import torch

def invert(model, images, labels, eps, *, strength):
    return images + eps * strength * (1 - 2 * images).sign()

def invert_fully(model, images, labels):
    return 1 - images

def negative(images, severity, *, strength):
    return images + strength * (1 - 2 * images)
"""


def test_a_users_own_attack_and_corruption(tmp_path: Path, weights: Inputs) -> None:
    (tmp_path / "own_attacks.py").write_text(OWN)
    setting = Setting(data_dir="", import_paths=(str(tmp_path),))
    common = {"norm": "linf", "restarts": 1, "seed": 0, "group_size": 250}
    fixed = {"attack": "own_attacks:invert", "eps": [0.3], "parameters": {"strength": 2.0}}
    free = {"attack": "own_attacks:invert_fully", "eps": None, "parameters": {}}
    for params in (fixed, free):
        job = job_of("attack", {**common, **params}, 0, 250, setting=setting)
        rows = run(job, weights).tables["attacks"].to_pylist()
        assert {row["attack"] for row in rows} == {params["attack"]}
        assert {row["check"] for row in rows} == {"ok"}
        assert np.mean([row["success"] for row in rows]) > 0.3
    source = {"source": "corruption:own_attacks:negative:1", "parameters": {"strength": 0.0}}
    rows = run(job_of("predict", source, 0, 250, setting=setting), weights).tables["predictions"]
    assert rows["source"][0].as_py() == source["source"]
    assert rows["logits"].equals(predict("clean", weights)["logits"].slice(0, 250))


def predict(source: str, weights: Inputs, **where: Any) -> pa.Table:
    stop = {"validation": 200}.get(where.get("split", "test"), 500)
    return run(job_of("predict", {"source": source}, 0, stop, **where), weights).tables[
        "predictions"
    ]


def test_predictions(weights: Inputs, trained: Output) -> None:
    rows = predict("clean", weights)
    labels = load_data("digits", "test", "").labels.tolist()
    assert rows["label"].to_pylist() == labels
    accuracy = np.mean(rows["predicted"].to_numpy() == rows["label"].to_numpy())
    assert accuracy > 0.85
    logits = np.array(rows["logits"].to_pylist())
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        rows["confidence"].to_numpy(), (p / p.sum(axis=1, keepdims=True)).max(axis=1)
    )
    assert set(rows["weights_sha256"].to_pylist()) == {
        trained.tables["models"]["weights_sha256"][0].as_py()
    }
    noisy = predict("corruption:gaussian_noise:5", weights)
    assert np.mean(noisy["predicted"].to_numpy() == np.array(labels)) < accuracy - 0.1
    other = predict("ood:photo_patches", weights, dataset="photo_patches")
    assert other["label"].null_count == 500
    assert other["logits"].null_count == 0
    with pytest.raises(InputError, match="unknown source"):
        predict("elsewhere", weights)


def test_scores_tell_photographs_from_digits(weights: Inputs) -> None:
    def scores(scorer: str, ood_set: str | None) -> np.ndarray:
        params = {"scorer": scorer, "ood_set": ood_set, "parameters": {}}
        return (
            run(job_of("score", params, 0, 500, dataset=ood_set or "digits"), weights)
            .tables["ood_scores"]["score"]
            .to_numpy()
        )

    for scorer in ("max_softmax", "entropy"):
        digits, photos = scores(scorer, None), scores(scorer, "photo_patches")
        assert np.mean(photos[:, None] > digits[None]) > 0.7


def test_calibration_is_fitted_on_predictions(weights: Inputs) -> None:
    job = job_of("calibrate", {"method": "temperature", "parameters": {}}, split="validation")
    rows = predict("clean", weights, split="validation")
    (row,) = run(job, Inputs(rows=rows)).tables["calibration"].to_pylist()
    assert row["nll_after"] <= row["nll_before"]
    assert row["fitted_on"] == "validation"
    assert row["sample"] is None
    assert row["weights_sha256"] == rows["weights_sha256"][0].as_py()
    with pytest.raises(InputError, match="no predictions to fit"):
        run(job, Inputs())


def test_non_finite_logits_fail_the_job(tmp_path: Path) -> None:
    (tmp_path / "own_nan.py").write_text(
        "import torch\n"
        "class Nan(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1)[:, :10] / 0\n"
        "def net(shape, classes): return Nan()\n"
    )
    ref = replace(MLP, arch="own_nan:net", params={})
    setting = Setting(data_dir="", import_paths=(str(tmp_path),))
    job = job_of("predict", {"source": "clean"}, 0, 250, model=ref, setting=setting)
    with pytest.raises(FloatingPointError, match="not finite for 250 of 250"):
        run(job, Inputs())


def test_every_kind_has_a_job() -> None:
    from robsweep.tasks.catalogue import KINDS

    assert set(JOBS) == set(KINDS)


def test_members_are_fitted_each_on_its_own_predictions(weights: Inputs) -> None:
    rows = predict("clean", weights, split="validation")
    logits = np.array(rows["logits"].to_pylist(), dtype=np.float32)
    hot = pa.FixedSizeListArray.from_arrays(pa.array((logits * 3).ravel()), logits.shape[1])
    place = rows.schema.get_field_index("logits")
    other = rows.set_column(place, rows.schema.field(place), hot)
    named = rows.schema.get_field_index("measurement_id")
    other = other.set_column(named, "measurement_id", pa.array(["other"] * len(rows)))
    first = rows["measurement_id"][0].as_py()
    params = {
        "method": "temperature",
        "parameters": {},
        "members": "before",
        "vote": "mean_logits",
        "predictions": ["other", first],
    }
    job = job_of("calibrate", params, split="validation")
    both = Inputs(rows=pa.concat_tables([rows, other.cast(rows.schema)]))
    (row,) = run(job, both).tables["calibration"].to_pylist()
    found = json.loads(row["parameters_json"])
    hotter, plain = (fit["temperature"] for fit in found["fits"])
    assert hotter == pytest.approx(3 * plain, rel=1e-6)
    assert found["vote"] == "mean_logits"
    assert row["temperature"] is None
    assert row["nll_after"] <= row["nll_before"]
