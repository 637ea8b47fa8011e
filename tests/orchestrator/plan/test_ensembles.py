"""Ensembles in sweep files: their versions, ids and needs, mistakes, and a whole run."""

import numpy as np
import pytest

from robsweep.orchestrator.errors import InputError, SpecError
from tests.orchestrator.run.test_drive import drive_once
from tests.runners import WEIGHTS
from tests.stores import all_rows, same_rows
from tests.sweeps import plan_of, spec_of, sweep

VOTING = """\
name: voting
dataset: digits
seeds: [0, 1]
samples: 100
models:
  ens: {members: [small, large]}
  small: {arch: mlp, hidden: [12]}
  large: {arch: mlp, hidden: [20]}
trainings:
  standard: {epochs: 2, lr: 0.01}
  fgsm: {eps: 0.1, epochs: 2, lr: 0.01}
attacks:
  pgd: {attack: LinfPGD, eps: [0.05], steps: 2}
"""
WHOLE = VOTING.replace(
    "attacks:",
    "  adv: {training: fgsm, start: standard, eps: 0.1, epochs: 1, only: [ens]}\nattacks:",
)


def of_kind(plan, kind):
    return {key: p for key, p in plan.measurements.items() if p.measurement.kind == kind}


def names(plan):
    """Each model version that is measured, and the models that its ensemble is made of."""
    label = {}
    for p in plan.measurements.values():
        label[p.measurement.model.model_id] = (p.model, p.training, p.measurement.seed)
    made = {}
    for key, p in of_kind(plan, "ensemble").items():
        made[label[key]] = [label[member] for member in p.measurement.params["members"]]
    return made


def test_an_ensemble_is_there_for_each_training_and_seed_of_its_members():
    plan = plan_of(VOTING)
    assert names(plan) == {
        ("ens", t, s): [("small", t, s), ("large", t, s)]
        for t in ("standard", "fgsm")
        for s in (0, 1)
    }
    assert len(of_kind(plan, "train")) == 8
    for key, p in of_kind(plan, "ensemble").items():
        assert p.needs == tuple(p.measurement.params["members"])
        assert [ref.model_id for ref in p.setting.members] == list(p.needs)
        measured = [m for m in plan.measurements.values() if m.measurement.model.model_id == key]
        assert {m.needs for m in measured if m is not p} == {(key,)}
        assert {m.measurement.kind for m in measured} == {"ensemble", "predict", "attack"}


def test_what_identifies_an_ensemble():
    ids = set(of_kind(plan_of(VOTING), "ensemble"))

    def of(old, new):
        assert old in VOTING
        return set(of_kind(plan_of(VOTING.replace(old, new)), "ensemble"))

    assert of("name: voting", "name: other") == ids
    assert of("  ens:", "  other:") == ids
    assert of("samples: 100", "samples: 50") == ids
    assert of("[small, large]}", "[small, large], vote: mean_logits}") == ids
    assert not of("[small, large]}", "[small, large], vote: majority}") & ids
    assert not of("[small, large]", "[large, small]") & ids
    assert not of("hidden: [12]", "hidden: [13]") & ids
    assert not of("seeds: [0, 1]", "seeds: [2]") & ids
    assert of("seeds: [0, 1]", "seeds: [1]") < ids


def test_two_ensembles_share_their_members():
    text = VOTING.replace("  ens:", "  both: {members: [small, large], vote: majority}\n  ens:")
    assert set(of_kind(plan_of(text), "train")) == set(of_kind(plan_of(VOTING), "train"))
    assert len(of_kind(plan_of(text), "ensemble")) == 8
    with pytest.raises(InputError, match="ens and both are the same ensemble"):
        plan_of(text.replace(", vote: majority", ""))


def test_the_vote_and_the_members_are_axes():
    plan = plan_of(VOTING.replace("large]}", "large], vote: [mean_logits, majority]}"))
    assert {model for model, _, _ in names(plan)} == {"ens[vote=mean_logits]", "ens[vote=majority]"}
    plan = plan_of(VOTING.replace("[small, large]", "[[small, large], [large, small]]"))
    assert {m for m, _, _ in names(plan)} == {
        "ens[members=smallxlarge]",
        "ens[members=largexsmall]",
    }


def test_members_with_a_training_of_their_own():
    mixed = names(plan_of(VOTING.replace("[small, large]", "[small/fgsm, large]")))
    assert mixed == {
        ("ens", t, s): [("small", "fgsm", s), ("large", t, s)]
        for t in ("standard", "fgsm")
        for s in (0, 1)
    }
    fixed = names(plan_of(VOTING.replace("[small, large]", "[small/fgsm, large/standard]")))
    assert fixed == {
        ("ens", None, s): [("small", "fgsm", s), ("large", "standard", s)] for s in (0, 1)
    }
    same = names(plan_of(VOTING.replace("[small, large]", "[small/fgsm, large/fgsm]")))
    assert set(same) == {("ens", "fgsm", 0), ("ens", "fgsm", 1)}
    # once as the version that is open, once as the one that is named
    twice = names(plan_of(VOTING.replace("[small, large]", "[small/fgsm, small/standard]")))
    assert set(twice) == {("ens", None, 0), ("ens", None, 1)}


def test_a_name_without_axes_means_all_variants():
    text = VOTING.replace("[small, large]", "[small]").replace("[12]", "[[12], [13]]")
    members = names(plan_of(text))["ens", "fgsm", 1]
    assert members == [("small[hidden=12]", "fgsm", 1), ("small[hidden=13]", "fgsm", 1)]


def test_only_and_exclude_know_ensembles():
    attacked = {
        (p.model, p.training)
        for p in plan_of(
            VOTING.replace("steps: 2", "steps: 2, only: [ens/fgsm, large]")
        ).measurements.values()
        if p.measurement.kind == "attack"
    }
    assert attacked == {("ens", "fgsm"), ("large", "fgsm"), ("large", "standard")}
    some = VOTING.replace("{eps: 0.1,", "{eps: 0.1, exclude: [small],")
    assert {training for _, training, _ in names(plan_of(some))} == {"standard"}
    none = VOTING.replace("{eps: 0.1,", "{eps: 0.1, exclude: [ens],")
    assert {training for _, training, _ in names(plan_of(none))} == {"standard"}
    members = VOTING.replace("{eps: 0.1,", "{eps: 0.1, only: [small, large],")
    assert names(plan_of(members)) == names(plan_of(VOTING))


def test_an_ensemble_of_imports_has_neither_training_nor_seed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    text = VOTING.replace("[12]", "[12], weights: a.safetensors")
    alone = text.replace("[20]", "[20], weights: b.safetensors")
    alone = alone[: alone.index("trainings:")] + alone[alone.index("attacks:") :]
    plan = plan_of(alone, folder=tmp_path)
    assert names(plan) == {("ens", None, None): [("small", None, None), ("large", None, None)]}
    (ensemble,) = of_kind(plan, "ensemble").values()
    assert ensemble.needs == ()
    assert {p.measurement.split for p in plan.preflights} == {"test"}
    first = set(of_kind(plan, "ensemble"))
    assert names(plan_of(text, folder=tmp_path)) == {
        ("ens", t, s): [("small", None, None), ("large", t, s)]
        for t in ("standard", "fgsm")
        for s in (0, 1)
    }
    (tmp_path / "a.safetensors").write_bytes(b"c")
    assert not first & set(of_kind(plan_of(alone, folder=tmp_path), "ensemble"))


def test_a_training_that_starts_from_another():
    plan = plan_of(WHOLE)
    assert names(plan) == names(plan_of(VOTING))
    more = of_kind(plan, "train").keys() - of_kind(plan_of(VOTING), "train").keys()
    started = {
        (p.model, p.training, p.measurement.seed): p
        for key, p in of_kind(plan, "train").items()
        if key in more
    }
    assert set(started) == {("ens", "adv", 0), ("ens", "adv", 1)}
    for (_, _, seed), p in started.items():
        (start,) = p.needs
        assert p.measurement.params["start"] == start
        first = plan.measurements[start]
        assert (first.model, first.training, first.measurement.seed) == ("ens", "standard", seed)
        assert p.measurement.model.params == first.measurement.model.params
    everyone = plan_of(WHOLE.replace(", only: [ens]", ""))
    chained = [p for p in everyone.measurements.values() if p.training == "adv"]
    assert {p.model for p in chained} == {"ens", "small", "large"}
    assert {p.model for p in chained if p.measurement.kind == "ensemble"} == set()
    other = plan_of(WHOLE.replace("start: standard", "start: fgsm"))
    assert not {p.measurement.measurement_id for p in started.values()} & set(other.measurements)


def test_starts_make_chains_in_any_order():
    text = WHOLE.replace(
        "trainings:\n", "trainings:\n  last: {training: standard, start: adv, only: [ens]}\n"
    )
    plan = plan_of(text)
    keys = list(plan.measurements)
    for key, p in plan.measurements.items():
        assert all(keys.index(need) < keys.index(key) for need in p.needs)
    last = next(p for p in plan.measurements.values() if p.training == "last")
    assert plan.measurements[last.needs[0]].training == "adv"


# fmt: off
MISTAKES = {
    "a missing member": ("large]", "larg]", 6, "no model is named 'larg'; did you mean 'large'"),
    "a missing training": ("large]", "large/fgm]", 6, "no training is named 'fgm'; did you mean"),
    "one member": ("[small, large]", "[small]", 6, "one member is no ensemble"),
    "the same member twice": ("large]", "small]", 6, "the same member twice: small/standard"),
    "twice by another name": ("large]", "small/fgsm]", 6, "the same member twice: small/fgsm"),
    "an ensemble of ensembles": (
        "large]}", "large]}\n  more: {members: [ens, small]}", 7, "ens is an ensemble: name its",
    ),
    "itself": ("large]", "ens]", 6, "ens is an ensemble"),
    "another vote": ("large]}", "large], vote: mean_logit}", 6, "did you mean 'mean_logits'"),
    "an architecture": ("large]}", "large], arch: mlp}", 6, "leave `arch:` out"),
    "weights of its own": ("large]}", "large], weights: a.pt}", 6, "leave `net:`, `weights:`"),
    "no members": ("{members: [small, large]}", "{arch: ensemble}", 6, "needs `members:`"),
    "no training in common": (
        "{epochs: 2, lr: 0.01}\n  fgsm: {", "{only: small}\n  fgsm: {only: large, ", 6,
        "no training is there for all of its members: small, large",
    ),
    "a training that a member has not": (
        "large]}", "large/adv]}", 6, "large is not trained by 'adv'",
    ),
    "an imported member's training": (
        "large]}\n  small: {", "small/fgsm]}\n  small: {train: false, ", 6, "small is imported",
    ),
    "an ONNX file": (
        "{arch: mlp, hidden: [12]}", "{weights: net.onnx}", 6, "small is an ONNX file",
    ),
    "training what is put together": (
        "{eps: 0.1,", "{eps: 0.1, only: [ens],", 11, "give `start: NAME`",
    ),
    "an unknown start": (
        "{eps: 0.1,", "{eps: 0.1, start: standart,", 11, "did you mean 'standard'",
    ),
    "a start that is several": (
        "{epochs: 2, lr: 0.01}", "{epochs: [1, 2]}\n  b: {training: standard, start: standard}", 11,
        "name one of standard[epochs=1], standard[epochs=2]",
    ),
    "a start from itself": ("{eps: 0.1,", "{eps: 0.1, start: fgsm,", 11, "fgsm from fgsm"),
    "a start that is not there": (
        "{epochs: 2, lr: 0.01}", "{only: small}", 12, "there is no ens/standard to start from",
    ),
}


# fmt: on
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_their_line(mistake):
    old, new, line, message = MISTAKES[mistake]
    assert old in WHOLE
    with pytest.raises(SpecError) as caught:
        spec_of(WHOLE.replace(old, new, 1))
    assert f"sweep.yaml:{line}:" in str(caught.value)
    assert message in str(caught.value)


def test_starts_that_go_round():
    text = WHOLE.replace("  standard: {epochs: 2,", "  standard: {epochs: 2, start: adv,")
    with pytest.raises(SpecError, match="standard from adv from standard"):
        spec_of(text)


def test_any_cut_and_resume_gives_the_same_rows(tmp_path):
    plan = plan_of(WHOLE.replace("seeds: [0, 1]", "seeds: [0]"))
    drive_once(plan, tmp_path / "whole")
    while drive_once(plan, tmp_path / "cut", limit=3).jobs:
        pass
    same_rows(tmp_path / "whole", tmp_path / "cut", ("models", "training", "predictions"))
    rows = all_rows(tmp_path / "whole", "models").to_pylist()
    kinds = sorted(row["measurement_id"].split("-")[0] for row in rows)
    assert kinds == ["ensemble"] * 2 + ["train"] * 5


def test_imported_members_come_from_their_files(tmp_path):
    (tmp_path / "a.pt").write_bytes(WEIGHTS)
    text = VOTING.replace("[12]", "[12], weights: a.pt")
    text = text.replace("[small, large]", "[small, large, other]")
    text = text.replace("  large:", "  other: {arch: cnn_small, train: false}\n  large:")
    summary = drive_once(plan_of(text, folder=tmp_path), tmp_path / "s")
    assert not summary.failures
    rows = all_rows(tmp_path / "s", "models").to_pylist()
    assert sum(row["arch"] == "ensemble" for row in rows) == 4


def test_another_sweep_trains_no_member_again(tmp_path):
    drive_once(plan_of(VOTING), tmp_path / "s")
    before = all_rows(tmp_path / "s", "jobs").num_rows
    other = VOTING.replace("name: voting", "name: other").replace(
        "[small, large]", "[large, small]"
    )
    drive_once(plan_of(other), tmp_path / "s")
    jobs = all_rows(tmp_path / "s", "jobs").to_pylist()
    kinds = [job["kind"] for job in jobs if job["sweep"] == "other"]
    assert len(kinds) == len(jobs) - before
    assert kinds.count("ensemble") == 4
    assert kinds.count("train") == 0


def test_lost_members_fail_their_ensembles_and_no_others(tmp_path):
    plan = plan_of(VOTING)
    drive_once(plan, tmp_path / "s", limit=8)  # the trainings
    (lost,) = (
        key
        for key, p in of_kind(plan, "train").items()
        if (p.model, p.training, p.measurement.seed) == ("small", "fgsm", 1)
    )
    (tmp_path / "s" / "artifacts" / "models" / f"{lost}.safetensors").unlink()
    failed = [job.measurement for job, _ in drive_once(plan, tmp_path / "s").failures]
    assert {m.kind for m in failed if m.model.name == "ens"} == {"ensemble"}
    assert {m.seed for m in failed} == {1}
    assert {m.model.name for m in failed} == {"ens", "small"}


def test_a_sweep_from_members_to_attacks(robsweep, tmp_path):
    text = WHOLE.replace("seeds: [0, 1]", "seeds: [0]\nsamples: 250").replace("samples: 100\n", "")
    text += (
        "verification:\n  linf: {verifier: milp, eps: 0.01, samples: 10, only: [ens/standard]}\n"
    )
    code, out, err = robsweep("run", sweep(text))
    assert code == 0, err
    rows = all_rows("results", "predictions").to_pylist()
    logits = {}
    for row in rows:
        if row["source"] == "clean":
            logits.setdefault(row["model_id"], []).append(np.array(row["logits"], np.float32))
    plan = plan_of(text)
    for key, p in of_kind(plan, "ensemble").items():
        one, two = (np.array(logits[member]) for member in p.measurement.params["members"])
        assert np.array_equal(np.array(logits[key]), (one + two) / np.float32(2))
    (adversarial,) = (key for key, p in of_kind(plan, "train").items() if p.training == "adv")
    assert len(logits[adversarial]) == 250
    others = [rows for key, rows in logits.items() if key != adversarial]
    assert not any(np.array_equal(logits[adversarial], rows) for rows in others)
    jobs = all_rows("results", "jobs").num_rows
    assert robsweep("run", "sweep.yaml")[:2] == (0, out)
    assert all_rows("results", "jobs").num_rows == jobs
    assert robsweep("check")[0] == 0
