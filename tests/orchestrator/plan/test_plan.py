"""Measurement ids are final: stores hold them. Change these tests only with a kind's version."""

import re

import pytest

from robsweep.orchestrator.errors import InputError
from robsweep.orchestrator.identity import canonical_json, measurement_id
from robsweep.orchestrator.plan.plan import of_kinds
from tests.sweeps import SMALL, plan_of


def ids(text, **where):
    return list(plan_of(text, **where).measurements)


def test_the_id_rule_is_pinned():
    params = {"eps": [0.1, 8 / 255], "steps": 40, "restarts": 1, "note": None, "b": True}
    assert canonical_json(params) == (
        '{"b":true,"eps":[0.1,0.03137254901960784],"note":null,"restarts":1,"steps":40}'
    )
    assert (
        measurement_id("attack", params, "train-0", "mnist:test", 3, 1, {})
        == "attack-f9019aee1acc0b67"
    ), "stores out there hold the old ids"


def test_ids_of_a_sweep_are_pinned():
    found = {key.split("-")[0]: key for key in reversed(ids(SMALL))}
    assert found == PINNED, "stores out there hold the old ids"


PINNED = {
    "attack": "attack-21b87272231371f5",
    "calibrate": "calibrate-111628013c184428",
    "predict": "predict-599fd17d124781c4",
    "score": "score-0815f586e7e4e326",
    "screen": "screen-1eb6f6a0b6059c6c",
    "solve": "solve-633f46adad3effab",
    "train": "train-779ce94aa4062639",
}


def test_ids_look_like_kind_and_hash():
    assert all(re.fullmatch(r"[a-z]+-[0-9a-f]{16}", key) for key in ids(SMALL))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: small", "name: other"),
        ("samples: 100", "samples: 50"),
        ("time_limit_seconds: 5", "time_limit_seconds: 50"),
        ("eps: [0.05, 0.1]", "eps: [1/10, 0.05]"),
        ("eps: 0.02,", "eps: 2/100,"),
        ("steps: 2", "steps: 2, rel_step_size: 0.1, random_start: true"),
        ("steps: 2", "steps: 2.0, restarts: 1"),
        ("eps: 0.02,", "eps: 0.02, tightening: none, solver_parameters: {},"),
        ("  mlp: {hidden: [16]}", "  other_name: {arch: mlp, hidden: [16]}"),
        ("  pgd:", "  another:"),
        ("seeds:", "resources: {attack: {num_cpus: 2, threads: 2, samples_per_job: 500}}\nseeds:"),
        ("steps: 2", "steps: 2, keep_adversarials: false"),
        ("hidden: [16]", "hidden: [16], activation: relu"),
        ("eps: 0.02,", "eps: 0.02, property: untargeted, margin: 0, rerun: always,"),
    ],
)
def test_what_is_not_in_the_id(old, new):
    assert old in SMALL
    assert sorted(ids(SMALL.replace(old, new, 1))) == sorted(ids(SMALL))


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("steps: 2", "steps: 3", {"attack"}),
        ("steps: 2", "steps: 2, seed: 1", {"attack"}),
        ("steps: 2", "steps: 2, group_size: 50", {"attack"}),
        ("eps: [0.05, 0.1]", "eps: [0.05]", {"attack"}),
        ("eps: 0.02,", "eps: 0.03,", {"screen", "solve"}),
        ("sets: [photo_patches]", "sets: [photo_patches], temperature: 2", {"score"}),
        ("eps: 0.02,", "eps: 0.02, margin: 0.1,", {"screen", "solve"}),
        ("eps: 0.02,", "eps: 0.02, property: targeted, targets: 3,", {"screen", "solve"}),
        ("eps: 0.02,", "eps: 0.02, solver: highs,", {"solve"}),
        ("eps: 0.02,", "eps: 0.02, tightening: lp,", {"solve"}),
        (
            "eps: 0.02,",
            "eps: 0.02, solver_parameters: {randomization/permuteconss: true},",
            {"solve"},
        ),
        ("eps: 0.02,", "eps: 0.02, attack_steps: 9,", {"screen"}),
        ("epochs: 1", "epochs: 2", None),
        ("hidden: [16]", "hidden: [17]", None),
        ("hidden: [16]", "hidden: [16], activation: gelu", None),
        ("seeds: [0, 1]", "seeds: [2, 3]", None),
    ],
)
def test_what_is_in_the_id(old, new, changed):
    assert old in SMALL
    before, after = set(ids(SMALL)), set(ids(SMALL.replace(old, new, 1)))
    kinds = {key.split("-")[0] for key in before - after}
    assert kinds == (changed or {key.split("-")[0] for key in before})


def test_a_users_function_is_identified_by_its_source(tmp_path):
    source = tmp_path / "mine.py"
    text = SMALL.replace("mlp: {hidden: [16]}", 'net: {arch: "mine:net", width: 3}')
    source.write_text("def net(shape, classes, *, width): ...\n")
    first = ids(text, folder=tmp_path)
    source.write_text("def net(shape, classes, *, width): return 1\n")
    second = ids(text, folder=tmp_path)
    assert not set(first) & set(second)
    source.unlink()
    with pytest.raises(InputError, match="mine"):
        ids(text, folder=tmp_path)


def test_imported_weights_are_identified_by_their_content(tmp_path):
    text = SMALL.replace("hidden: [16]", "hidden: [16], weights: net.safetensors")
    with pytest.raises(InputError, match=r"net\.safetensors"):
        ids(text, folder=tmp_path)
    (tmp_path / "net.safetensors").write_bytes(b"one")
    first = plan_of(text, folder=tmp_path).measurements
    assert {p.measurement.seed for p in first.values()} == {None}
    assert len({p.measurement.model.model_id for p in first.values()}) == 1
    (tmp_path / "net.safetensors").write_bytes(b"two")
    assert not set(first) & set(ids(text, folder=tmp_path))
    nets = tmp_path / "nets"
    nets.mkdir()
    (tmp_path / "net.safetensors").rename(nets / "net.safetensors")
    assert ids(text, folder=tmp_path, nets_dir=nets)


def test_needs_lead_from_calibration_over_predictions_to_training():
    measurements = plan_of(SMALL).measurements
    for planned in measurements.values():
        kinds = [measurements[need].measurement.kind for need in planned.needs]
        expected = {
            "train": [],
            "calibrate": ["train", "predict"],
            "solve": ["screen"],
            "score": ["predict"],  # a score of logits is made of rows
        }
        assert kinds == expected.get(planned.measurement.kind, ["train"])


def test_the_preflight_tries_the_solvers_of_a_model():
    text = SMALL.replace("milp,", "milp, solver_parameters: [{}, {a: 1}],")
    first, *others = [p.measurement.params for p in plan_of(text).preflights]
    engine = {"solver": "scip", "tightening": "none", "solver_parameters": {}}
    engines = [engine, {**engine, "solver_parameters": {"a": 1}}]
    assert first == {"functions": [], "engines": engines, "gradients": True}
    assert all(one == {} for one in others)


def test_the_same_model_twice_is_refused():
    with pytest.raises(InputError, match="same model"):
        plan_of(SMALL.replace("  mlp: {", "  copy: {arch: mlp, hidden: [16]}\n  mlp: {"))


def test_an_id_set_scored_for_two_entries_is_one_measurement():
    text = SMALL.replace(
        "  energy: {sets: [photo_patches]}",
        "  a: {scorer: energy, sets: [photo_patches], samples: 100}\n"
        "  b: {scorer: energy, sets: [photo_patches], samples: [200, 300]}",
    )
    scores = [p for p in plan_of(text).measurements.values() if p.measurement.kind == "score"]
    own = [p for p in scores if p.measurement.dataset == "digits"]
    assert {p.wanted for p in own} == {((0, 100), (200, 300))}


def test_only_some_kinds_are_those_and_what_they_need():
    whole = plan_of(SMALL)
    found = of_kinds(whole, frozenset({"calibrate", "solve"})).measurements
    assert {key.split("-")[0] for key in found} == {
        "train", "predict", "calibrate", "screen", "solve",
    }  # fmt: skip
    assert [*found] == [key for key in whole.measurements if key in found]
    assert all({*planned.needs} <= {*found} for planned in found.values())
    predicts = [p for key, p in found.items() if key.startswith("predict")]
    assert {p.measurement.split for p in predicts} == {"validation"}
    assert of_kinds(whole, frozenset()) is whole
    with pytest.raises(InputError, match="the sweep has attack, calibrate"):
        of_kinds(whole, frozenset({"landscape"}))
