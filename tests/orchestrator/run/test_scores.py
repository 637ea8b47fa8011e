"""Scores of a sweep on the digits: from rows, from fits, from images, and no model loaded twice."""

import json
from datetime import timedelta

import pytest
import torch

from robsweep.orchestrator.results.check import check
from robsweep.orchestrator.store import free
from robsweep.orchestrator.store.compact import compact
from robsweep.orchestrator.store.store import Store
from robsweep.tasks.catalogue import SCORERS
from robsweep.tasks.data.load import load as load_data
from robsweep.tasks.job import ModelRef
from robsweep.tasks.models import load as loading
from robsweep.tasks.ood.odin import odin
from robsweep.tasks.ood.scoring import on_images
from robsweep.tasks.ood.stored import fitted
from tests.stores import all_rows
from tests.sweeps import sweep

TEXT = """\
name: scores
dataset: digits
samples: 250
seeds: [0]
models:
  mlp: {hidden: [24]}
  other: {arch: mlp, hidden: [16]}
  ens: {members: [mlp, other]}
trainings:
  standard: {epochs: 15, batch_size: 32, lr: 0.01}
ood:
"""
HOW = "sets: [photo_patches], ood_samples: 250, exclude: [other]"
AT_FIRST = f"  energy: {{{HOW}}}\n"
OF_LOGITS = ("max_softmax", "max_logit", "entropy", "cross_entropy_uniform", "gen", "kl_matching")
OF_FEATURES = sorted(name for name, one in SCORERS.items() if one.reads == "features")
OTHERS = """\
  mutual_information: {sets: [photo_patches], ood_samples: 250, only: [ens]}
  mean: {scorer: max_logit, members: mean, sets: [photo_patches], ood_samples: 250, only: [ens]}
"""
PUSHED = """\
  odin: {sets: [photo_patches], ood_samples: 50, group_size: 50, samples: 50,
         tune: {set: tuned, samples: 100, temperatures: [1, 10], eps: [0, 0.01]}, only: [mlp]}
  vim: {sets: [photo_patches], ood_samples: 250, exclude: [other],
        evasion: {eps: 0.1, steps: 4, restarts: 2}}
"""


def entries(names):
    return "".join(f"  {name}: {{{HOW}}}\n" for name in names)


def measured(store, kind):
    """Rows of the last plan."""
    from robsweep.orchestrator.store.parts import decode

    rows = decode(store.files.read("sweeps/scores/plan.parquet")).to_pylist()
    return [row for row in rows if row["kind"] == kind]


def scores_of(store):
    found = {}
    for row in all_rows(store.root, "ood_scores").to_pylist():
        found.setdefault(row["measurement_id"], []).append(row["score"])
    return found


def model_of(store, row):
    params = {"mlp": {"hidden": [24]}, "other": {"hidden": [16]}}
    members = [{"arch": "mlp", "params": params[n]} for n in ("mlp", "other")]
    arch, chosen = ("mlp", params.get(row["model"]))
    if row["model"] == "ens":
        arch, chosen = "ensemble", {"vote": "mean_logits", "members": members}
    ref = ModelRef(row["model_id"], arch, chosen, (1, 8, 8), 10)
    return loading.load(ref, store.weights(row["model_id"]), torch.device("cpu")).model


# trains two models and scores them in all ways: seconds
@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """What a first run makes, and then one that only adds scores."""
    from robsweep.orchestrator.run.session import run
    from robsweep.orchestrator.settings import Settings
    from tests.sweeps import spec_of

    folder = tmp_path_factory.mktemp("scores")
    settings = Settings.read(str(folder / "results"), address="inline")
    whole = TEXT + AT_FIRST
    assert not run(spec_of(whole), settings).failures
    loads = []

    def counted(*args, **kwargs):
        loads.append(args[0].model_id)
        return loading.load(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for module in ("robsweep.tasks.load.load_model", "robsweep.tasks.models.assemble.load"):
            patch.setattr(module, counted)
        whole += entries(OF_LOGITS[:-1])
        summary = run(spec_of(whole), settings)
        assert (summary.failures, summary.left) == ([], 0)
        assert not loads, "scores of logits load no model"
        whole += entries(["kl_matching", *OF_FEATURES]) + OTHERS
        summary = run(spec_of(whole), settings)
        assert (summary.failures, summary.left) == ([], 0)
        found = Store.open(settings.store)
        before = all_rows(found.root, "features").num_rows
        whole += f"  knn_3: {{scorer: knn, k: 3, {HOW}}}\n"
        loads.clear()
        assert not run(spec_of(whole), settings).failures
        assert not loads, "another score of features loads none either"
        assert all_rows(found.root, "features").num_rows == before
    return found


def test_rows_are_what_a_pass_through_the_model_gives(store):
    photos, by_id = load_data("photo_patches", "test", "", {}).images[:250], scores_of(store)
    for row in measured(store, "score"):
        params = json.loads(row["params_json"])
        if params["ood_set"] is None:
            continue
        fit = None
        if "fit" in params:
            fit = fitted(store.files.read(f"artifacts/fits/{params['fit']}.safetensors"))
        scorer = on_images(
            params["scorer"], params["parameters"], (1, 8, 8), fit,
            by_member="members" in params,
        )  # fmt: skip
        wanted = scorer(model_of(store, row), photos)
        found = by_id[row["measurement_id"]]
        torch.testing.assert_close(
            torch.tensor(found, dtype=torch.float64), wanted.double(), rtol=1e-6, atol=1e-6,
            msg=lambda text, row=row: f"{row['model']} {row['entry']}: {text}",
        )  # fmt: skip
        if params["scorer"] in OF_LOGITS[:4] and "members" not in params:
            assert found == wanted.double().tolist(), "to the last bit"


def test_fits_are_shared_and_checked(store):
    rows = all_rows(store.root, "fits").to_pylist()
    kinds = [(row["model_id"], row["fit"]) for row in rows if row["fit"] in {"bank", "gaussian"}]
    assert len(kinds) == len({*kinds}) == 4  # of two models, whichever scores read them
    assert {row["samples"] for row in rows if row["fit"] == "bank"} == {1097}
    assert {row["fitted_on"] for row in rows if row["fit"] == "posteriors"} == {"validation"}
    assert not check(store).problems
    file = f"artifacts/fits/{rows[0]['measurement_id']}.safetensors"
    content = store.files.read(file)
    store.files.write(file, content[:-1] + bytes([content[-1] ^ 1]))
    assert check(store).problems == (f"{file} is not what was fitted: restore it",)
    store.files.remove(file)
    assert check(store).problems == (f"{file} is gone: restore it",)
    store.files.write(file, content)


def test_features_and_fits_are_merged_and_given_up_like_all_rows(store, tmp_path):
    import shutil

    shutil.copytree(store.root, tmp_path / "copy")
    copy = Store.open(tmp_path / "copy")
    now = timedelta(0)
    before = all_rows(copy.root, "features").sort_by([("measurement_id", "ascending"),
                                                      ("sample", "ascending")])  # fmt: skip
    compact(copy, now)
    after = all_rows(copy.root, "features").sort_by([("measurement_id", "ascending"),
                                                     ("sample", "ascending")])  # fmt: skip
    assert after.equals(before)
    assert not free.surplus(copy, copy.snapshot(), free.recorded(copy)).files
    free.forget(copy, "scores")
    ids = free.surplus(copy, copy.snapshot(), free.recorded(copy)).ids
    free.free(copy, ids, now)
    assert not [*copy.files.list("artifacts/fits")]
    assert not copy.snapshot().parts("features")


# trains a model, searches, and follows gradients: seconds
def test_a_search_and_an_evasion(robsweep, tmp_path, monkeypatch):
    import numpy as np

    torch.manual_seed(0)
    images = torch.rand(120, 8, 8).numpy()
    np.savez(
        tmp_path / "tuned.npz",
        validation_images=images, validation_labels=np.zeros(120, int),
        test_images=images[:5], test_labels=np.zeros(5, int),
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    text = TEXT + PUSHED.replace("set: tuned", 'set: "npz:tuned.npz"')
    code, _, err = robsweep("run", sweep(text, "scores.yaml"))
    assert code == 0, err
    found = Store.open(tmp_path / "results")
    (search,) = [r for r in all_rows(found.root, "fits").to_pylist() if r["fit"] == "odin"]
    facts = json.loads(search["facts_json"])
    assert facts["tried"] == 4
    assert facts["temperature"] in {1.0, 10.0}
    by_id = scores_of(found)
    seen = 0
    for row in measured(found, "score"):
        params = json.loads(row["params_json"])
        if params["scorer"] == "odin" and params["ood_set"]:
            assert params["tune"]["split"] == "validation"
            photos = load_data("photo_patches", "test", "", {}).images[:50]
            wanted = odin(
                model_of(found, row), photos, temperature=facts["temperature"], eps=facts["eps"]
            )
            torch.testing.assert_close(torch.tensor(by_id[row["measurement_id"]]).double(), wanted)
            seen += 1
        if "evasion" in params:
            plain = {k: v for k, v in params.items() if k != "evasion"}
            (other,) = [
                o for o in measured(found, "score")
                if json.loads(o["params_json"]) == plain and o["model_id"] == row["model_id"]
            ]  # fmt: skip
            pushed = np.array(by_id[row["measurement_id"]])
            before = np.array(by_id[other["measurement_id"]])
            assert (pushed <= before + 1e-6).all()
            assert (pushed < before - 1e-3).mean() > 0.9
            seen += 1
    assert seen == 3  # odin's, and an evasion for each model
    pushed_ids = {
        r["measurement_id"] for r in measured(found, "score") if '"evasion"' in r["params_json"]
    }
    for one in all_rows(found.root, "ood_scores").to_pylist():
        ball = ("linf", 0.1) if one["measurement_id"] in pushed_ids else (None, None)
        assert (one["norm"], one["eps"]) == ball
