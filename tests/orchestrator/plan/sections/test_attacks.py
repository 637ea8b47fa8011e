"""The section `attacks` of a sweep file: what fits, what is planned, and a run of each way."""

import polars as pl
import pytest

from robsweep.orchestrator.errors import InputError, SpecError
from robsweep.orchestrator.results.results import Results
from tests.sweeps import plan_of, spec_of, sweep

PLAIN = """\
name: aimed
dataset: digits
samples: 40
seeds: [0, 1]
models:
  a: {arch: mlp, hidden: [16]}
  b: {arch: mlp, hidden: [8]}
trainings:
  standard: {epochs: 2}
  noise: {training: noise, epochs: 2, only: [a]}
attacks:
  pgd: {attack: LinfPGD, eps: 0.1, steps: 3, group_size: 20}
"""


def with_attack(line):
    return PLAIN.replace("{attack: LinfPGD, eps: 0.1, steps: 3, group_size: 20}", line)


def attacks_of(text, **where):
    measurements = plan_of(text, **where).measurements.values()
    return [one for one in measurements if one.measurement.kind == "attack"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{attack: GenAttack, eps: 0.1}", "needs a class to aim at"),
        ("{attack: LinfFastGradient, eps: 0.1, target: random}", "cannot aim at a class"),
        ("{attack: LinfPGD, eps: 0.1, target: first}", "'runner_up'"),
        ("{attack: square, eps: 0.1, gradients: nes, gradient_samples: 5}", "takes no gradients"),
        ("{attack: LinfPGD, eps: 0.1, gradients: nes}", "gradient_samples: 100"),
        ("{attack: LinfPGD, eps: 0.1, gradient_samples: 5}", "belongs to `gradients:`"),
        ("{attack: LinfPGD, eps: 8}", "8/255"),
        ("{attack: L2PGD, eps: 8.1}", "no two images are more than 8 apart"),
        ("{attack: autoattack, norm: l1, eps: 65}", "more than 64 apart"),
        ("{attack: autoattack, norm: l0, eps: 3}", "norm linf or l2 or l1, not 'l0'"),
        ("{attack: sigma_zero, eps: 10}", "takes no eps"),
        ("{attack: LinfPGD}", "needs eps"),
        ("{attack: latent_descent, norm: l2}", "needs analysis by synthesis, which a is not"),
        ("{attack: LinfPGD, eps: 0.1, source: c}", "no model is named 'c'"),
        ("{attack: LinfPGD, eps: 0.1, source: b/standrd}", "did you mean 'standard'"),
        ("{attack: LinfPGD, eps: 0.1, source: b, only: [b]}", "to itself is none"),
        ("{attack: evasion, eps: 0.1}", "evades a detector"),
        ("{attack: LinfPGD, eps: 0.1, detector: energy}", "use attack: evasion"),
        ("{attack: evasion, eps: 0.1, detector: enery}", "did you mean 'energy'"),
        ("{attack: evasion, eps: 0.1, detector: energy, source: b}", "works on the model itself"),
        ("{attack: autoattack, eps: 0.1, version: best}", "version"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(line, reason):
    with pytest.raises(SpecError, match=r"sweep.yaml:12") as caught:
        spec_of(with_attack(line))
    assert reason in str(caught.value)


def test_a_ball_may_hold_all_images_if_that_is_meant():
    (first, *_) = attacks_of(with_attack("{attack: LinfPGD, eps: [0.1, 10], beyond_pixels: true}"))
    assert first.measurement.params["eps"] == [0.1, 10.0]
    plain = attacks_of(with_attack("{attack: LinfPGD, eps: [0.1, 1], beyond_pixels: true}"))
    same = attacks_of(with_attack("{attack: LinfPGD, eps: [0.1, 1]}"))
    assert [one.measurement for one in plain] == [one.measurement for one in same]


def test_what_is_not_set_is_in_no_id():
    plain = {one.measurement.measurement_id for one in attacks_of(PLAIN)}
    line = "{attack: LinfPGD, eps: 0.1, steps: 3, group_size: 20, eot: 1, time_limit_seconds: 5}"
    assert {one.measurement.measurement_id for one in attacks_of(with_attack(line))} == plain
    for more in ("target: random", "gradients: finite_difference", "eot: 2", "source: b"):
        changed = attacks_of(with_attack(line.replace("eot: 1", more)))
        assert not plain & {one.measurement.measurement_id for one in changed}


def test_a_transfer_is_from_a_model_of_the_same_seed_and_training():
    planned = attacks_of(with_attack("{attack: LinfPGD, eps: 0.1, source: a}"))
    found = {(p.model, p.training, p.measurement.seed): p for p in planned}
    # none from a model to itself
    assert set(found) == {("b", "standard", 0), ("b", "standard", 1)}
    models = {
        (p.training, p.measurement.seed): p.measurement.measurement_id
        for p in plan_of(PLAIN).measurements.values()
        if p.measurement.kind == "train" and p.model == "a"
    }
    for (_, training, seed), one in found.items():
        source = models[training, seed]
        assert one.measurement.params["source"] == source
        assert source in one.needs
        (ref,) = one.setting.members
        assert ref.model_id == source
    named = attacks_of(with_attack("{attack: LinfPGD, eps: 0.1, source: a/noise, only: [b]}"))
    assert {p.measurement.params["source"] for p in named} == {
        models["noise", 0], models["noise", 1],
    }  # fmt: skip


def test_a_source_that_is_several_models_is_refused():
    text = with_attack("{attack: LinfPGD, eps: 0.1, source: a, only: [b]}")
    text = text.replace("standard: {epochs: 2}", "standard: {epochs: 2, only: [b]}")
    text = text.replace("only: [a]}", "only: [a], std: [0.1, 0.2]}")
    with pytest.raises(InputError, match="stands for 2 models"):
        plan_of(text)


def test_every_way_of_attacking_runs(robsweep, tmp_path):
    text = PLAIN.replace("seeds: [0, 1]", "seeds: [0]").replace(
        "noise: {training: noise, epochs: 2, only: [a]}", ""
    )
    more = """\
  aimed: {attack: LinfPGD, eps: [0.1, 0.3], steps: 3, target: runner_up, group_size: 20}
  moved: {attack: LinfPGD, eps: 0.2, steps: 3, source: a, group_size: 20}
  closest: {attack: DDN, steps: 5, source: a, group_size: 20}
  asked: {attack: LinfPGD, eps: 0.1, steps: 2, gradients: finite_difference, group_size: 20}
  mean: {attack: LinfPGD, eps: 0.1, steps: 2, eot: 3, group_size: 20}
  unseen: {attack: evasion, eps: 0.2, steps: 5, detector: energy, group_size: 20}
"""
    code, _, err = robsweep("run", sweep(text + more))
    assert code == 0, err
    store = tmp_path / "results"
    rows = Results.open(store).rows("attacks").collect()
    plan = Results.open(store).plan("aimed")
    names = dict(plan.select("measurement_id", "entry").rows())
    assert set(names.values()) >= {"aimed", "moved", "closest", "asked", "mean", "unseen"}
    rows = rows.with_columns(entry=pl.col("measurement_id").replace_strict(names, default=None))
    assert set(rows["check"]) <= {"ok", "wrong at the source"}
    assert set(rows.filter(pl.col("source_model_id").is_null())["check"]) == {"ok"}
    moved = rows.filter(pl.col("entry").is_in(["moved", "closest"]))
    assert moved["source_model_id"].n_unique() == 1
    assert moved["source_model_id"].null_count() == 0
    assert moved["model_id"].n_unique() == 1
    assert rows.filter(pl.col("entry") == "pgd")["source_model_id"].is_null().all()
    cost = {
        name: rows.filter(pl.col("entry") == name, pl.col("distance") != 0)["n_forward"].max()
        for name in ("asked", "mean", "pgd")
    }
    assert cost["asked"] > 2 * 64 * 2
    assert cost["mean"] >= 3 * 2
    assert cost["pgd"] < 10
    code, out, _ = robsweep("check")
    assert code == 0, out
