"""`--set`: the sweep is the file as if it had been written so, and mistakes name the option."""

from pathlib import Path

import pytest

from robsweep.orchestrator.errors import SpecError
from robsweep.orchestrator.plan.plan import Places, plan
from robsweep.orchestrator.spec.overrides import override
from robsweep.orchestrator.spec.sweep_file import from_document
from robsweep.orchestrator.spec.yaml_file import parse
from tests.sweeps import SMALL, plan_of, spec_of

DOTTED = SMALL.replace("attacks:\n", "attacks:\n  pgd.9: {attack: LinfPGD, eps: 0.2}\n")


def overridden(*sets, text=SMALL):
    return from_document(override(parse(text, "sweep.yaml"), sets), Path.cwd())


def written(old, new):
    assert old in SMALL
    return spec_of(SMALL.replace(old, new)).model_copy(update={"text": ""})


@pytest.mark.parametrize(
    ("sets", "old", "new"),
    [
        (["attacks.pgd.steps=[10, 20]"], "steps: 2", "steps: [10, 20]"),
        (["attacks.pgd.eps=8/255"], "eps: [0.05, 0.1]", "eps: 8/255"),
        (["trainings.standard.lr=1e-5"], "{epochs: 1}", "{epochs: 1, lr: 0.00001}"),
        (["name=other", "seeds=[3]"], "name: small\ndataset: digits\nseeds: [0, 1]",
         "name: other\ndataset: digits\nseeds: [3]"),
        (["resources.train.num_cpus=2"], "models:", "resources: {train: {num_cpus: 2}}\nmodels:"),
        (["ood="], "ood:\n  energy: {sets: [photo_patches]}\n", ""),
        (["calibration.temperature.only=mlp"], "  temperature:\n", "  temperature: {only: mlp}\n"),
        (["attacks.l2={attack: L2PGD, eps: 1}"], "ood:", "  l2: {attack: L2PGD, eps: 1}\nood:"),
        (["attacks.pgd.steps=3", "attacks.pgd.steps=4"], "steps: 2", "steps: 4"),
    ],
)  # fmt: skip
def test_it_is_as_if_the_file_said_so(sets, old, new):
    assert overridden(*sets).model_copy(update={"text": ""}) == written(old, new)


def test_names_may_have_dots():
    spec = overridden("attacks.pgd.9.steps=7", "attacks.pgd.steps=8", text=DOTTED)
    assert [a.parameters["steps"] for a in spec.attacks.values()] == [7, 8]


def test_the_text_that_is_recorded_is_the_sweep_that_ran():
    spec = overridden(
        "attacks.pgd.eps=[1/255, 1e-4]", "name=other", "models.mlp.hidden=[[8], [16]]"
    )
    again = spec_of(spec.text)
    assert again == spec
    ids = plan(spec, Places(Path("data"))).measurements.keys()
    assert plan_of(spec.text).measurements.keys() == ids
    assert spec.text.startswith("# sweep.yaml\n# --set attacks.pgd.eps=[1/255, 1e-4]\n")


def test_a_value_of_several_lines_stays_out_of_the_head():
    spec = overridden("attacks.l2={attack: L2PGD,\n  eps: 1}")
    assert spec_of(spec.text) == spec
    assert "l2" in spec.attacks


def test_without_any_the_file_is_recorded_as_written():
    text = "# mine\n" + SMALL
    assert override(parse(text, "sweep.yaml"), ()).text == text


def test_anchors_are_not_shared_with_what_is_set():
    text = SMALL.replace("standard: {epochs: 1}", "standard: &a {epochs: 1}\n  other: *a")
    text = text.replace("other: *a", "other:\n    <<: *a\n    training: fgsm\n    eps: 0.1")
    spec = overridden("trainings.standard.epochs=3", text=text)
    assert [t.parameters["epochs"] for t in spec.trainings.values()] == [3, 1]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("attcks.pgd.eps=1", "the file has no 'attcks'; did you mean 'attacks'?"),
        ("attacks.pdg.eps=1", "attacks has no 'pdg'; did you mean 'pgd'?"),
        ("attacks.pgd.stps=1", "attacks.pgd.stps: unknown key 'stps'; did you mean 'steps'?"),
        ("sedes=[1]", "sedes: unknown key 'sedes'; did you mean 'seeds'?"),
        ("attacks.pgd.steps=many", "attacks.pgd.steps: expected a number"),
        ("attacks.pgd.eps.low=1", "attacks.pgd.eps has no keys"),
        ("resources.tran.num_cpus=1", "did you mean 'train'?"),
        ("attacks.pgd.steps", "expected KEY=VALUE"),
        ("=3", "expected KEY=VALUE"),
        ("seeds=[0", "expected ',' or ']'"),
        ("attacks.l2={attack: L2PGD}", "L2PGD needs eps"),
    ],
)
def test_mistakes_name_the_option(assignment, message):
    with pytest.raises(SpecError) as caught:
        overridden(assignment)
    assert str(caught.value).startswith(f"--set {assignment}")
    assert message in str(caught.value)


def test_a_mistake_of_the_whole_entry_names_file_and_option():
    with pytest.raises(SpecError, match=r"^sweep\.yaml:9: .*\(with --set attacks\.pgd\.eps=\)$"):
        overridden("attacks.pgd.eps=")


def test_a_mistake_elsewhere_keeps_its_line():
    with pytest.raises(SpecError, match=r"^sweep\.yaml:7: trainings\.standard\.epoch: [^(]*$"):
        overridden("attacks.pgd.steps=3", text=SMALL.replace("epochs: 1", "epoch: 1"))
