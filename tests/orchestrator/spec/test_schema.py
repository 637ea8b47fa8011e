"""The JSON schema of sweep files: it takes what the program takes, and refuses what it refuses."""

import json
from pathlib import Path

import pytest

from robsweep.orchestrator.errors import SpecError
from robsweep.orchestrator.spec.datasets import dataset_named
from robsweep.orchestrator.spec.entries.base import EntrySpec
from robsweep.orchestrator.spec.schema.document import schema
from robsweep.orchestrator.spec.schema.words import OF_THE_FILE, WORDS
from robsweep.orchestrator.spec.spec import SECTIONS, ResourceSpec
from robsweep.orchestrator.spec.starter import starter
from robsweep.orchestrator.spec.yaml_file import parse, read
from robsweep.tasks.catalogue import ATTACKS, DATASETS, RECIPE
from tests.sweeps import SMALL, spec_of

jsonschema = pytest.importorskip("jsonschema")
ROOT = Path(__file__).parents[3]
FILES = [*(ROOT / "sweeps").glob("*.yaml"), *(ROOT / "tests" / "frozen").glob("*.yaml")]


# seconds: a large schema, held against the schema of schemas
@pytest.fixture(scope="module")
def validator():
    document = json.loads(json.dumps(schema()))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def problems(validator, text):
    return [error.message for error in validator.iter_errors(parse(text, "x").content)]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_sweep_file_is_valid(validator, file):
    assert not [*validator.iter_errors(read(file).content)]


@pytest.mark.parametrize("dataset", sorted(DATASETS))
def test_every_starter_is_valid(validator, dataset):
    text = starter("my", dataset, dataset_named(dataset, Path.cwd()))
    assert not problems(validator, text)


GOOD = [
    ("steps: 2", "steps: [10, 20]"),
    ("steps: 2", "rel_step_size: {random: [0.1, 0.5], n: 3}"),
    ("steps: 2", "rel_step_size: 1/40"),
    ("eps: [0.05, 0.1]", "eps: 8/255"),
    ("eps: [0.05, 0.1]", "eps: [1/255, 8/255]"),
    ("eps: [0.05, 0.1]", "eps: [[0.05], [0.1, 0.2]]"),
    ("attack: LinfPGD", "attack: [LinfPGD, LinfBasicIterative]"),
    ("hidden: [16]", "hidden: [[16], [32, 32]]"),
    ("epochs: 1", "epochs: 1, lr: {random: [0.001, 0.1], scale: log}"),
    ("standard: {epochs: 1}", "standard:"),
    ("samples: 100", "samples: [100, 200]"),
    ("  temperature:\n", "  t: {method: temperature, only: [mlp]}\n"),
    ("eps: 0.02", "eps: 0.02, stages: [attack, milp], solver_parameters: {a/b: 5}"),
    ("eps: 0.02", "eps: 0.02, property: targeted, targets: [[3], [5]]"),
    ("eps: 0.02", "eps: [0.5, 1.5], norm: l2"),
    ("eps: 0.02", "region: [cube, blur, {name: blur, kernel: 5}]"),
    ("eps: 0.02", "region: {name: brightness_contrast, brightness: 1/10}"),
    ("eps: 0.02", "region: {name: patch, size: 2, at: [3, 4]}"),
    ("models:", "resources: {train: {num_cpus: 2, memory: 2 GiB, workers: 2}, solve: }\nmodels:"),
    ("ood:", "shift:\n  rotation: {severity: [1, 3]}\nood:"),
    ("dataset: digits", "dataset: digits+contrast:3"),
    ("steps: 2", "steps: 2, dataset: [digits, digits+contrast:3]"),
    ("sets: [photo_patches]", "sets: [photo_patches, uniform_noise, digits+contrast:5]"),
    ("ood:", "ood_groups: {near: [photo_patches]}\nood:"),
    ("models:", "landscape:\n  basin_hopping: {eps: 0.1}\nmodels:"),
]

# what neither the schema nor the program takes
WRONG = [
    ("name: small", "title: small"),
    ("name: small", "name: a/b"),
    ("dataset: digits", "dataset: digit"),
    ("dataset: digits", "dataset: 3"),
    ("dataset: digits", "dataset: digits+contrast:6"),
    ("dataset: digits", "dataset: digits+contrast"),
    ("steps: 2", "steps: 2, dataset: digit"),
    ("ood:", "ood_groups: {near: []}\nood:"),
    ("seeds: [0, 1]", "seeds: 0"),
    ("seeds: [0, 1]", "seeds: [-1]"),
    ("seeds: [0, 1]", "seeds: [0, 0]"),
    ("seeds: [0, 1]", "seed: [0]"),
    ("  mlp: {hidden: [16]}", "  net: {hidden: [16]}"),
    ("  mlp: {hidden: [16]}", "  net: {arch: mpl}"),
    ("hidden: [16]", "hiden: [16]"),
    ("hidden: [16]", "hidden: [0]"),
    ("hidden: [16]", "activation: rulu"),
    ("hidden: [16]", "weights: a.pt, sha256: abc"),
    ("hidden: [16]", "net: wk17a_linf0.1, weights: a.pt"),
    ("hidden: [16]", "net: wk17"),
    ("epochs: 1", "epoch: 1"),
    ("epochs: 1", "epochs: 0"),
    ("epochs: 1", "epochs: many"),
    ("standard: {epochs: 1}", "fgsm: {epochs: 1}"),
    ("standard: {epochs: 1}", "fgsm:"),
    ("standard: {epochs: 1}", "mine: {epochs: 1}"),
    ("standard: {epochs: 1}", "standard: 3"),
    ("attack: LinfPGD", "attack: LinfPDG"),
    ("attack: LinfPGD", "attack: [LinfPGD, LinfPDG]"),
    ("attack: LinfPGD", "attack: LinfPGD, norm: l2"),
    ("attack: LinfPGD", "attack: LinfPGD, targets: 3"),
    ("attack: LinfPGD", "attack: LinfPGD, target: first"),
    ("attack: LinfPGD", 'attack: "mine:own"'),
    ("eps: [0.05, 0.1], ", ""),
    ("eps: [0.05, 0.1]", "eps: [-0.1]"),
    ("eps: [0.05, 0.1]", "eps: []"),
    ("eps: [0.05, 0.1]", "eps: 8:255"),
    ("attack: LinfPGD, eps: [0.05, 0.1], steps: 2", "attack: L2DeepFool, eps: 0.1"),
    ("attack: LinfPGD, eps: [0.05, 0.1], steps: 2", "attack: evasion, norm: linf, eps: 0.1"),
    ("steps: 2", "steps: two"),
    ("steps: 2", "rel_step_size: {random: [0.1, 0.5], m: 3}"),
    ("steps: 2", "steps: {random: [5, 50], n: 3}"),
    ("steps: 2", "steps: []"),
    ("{sets: [photo_patches]}", "{}"),
    ("energy:", "enery:"),
    ("  temperature:\n", "  temprature:\n"),
    ("verifier: milp", "verifier: mlip"),
    ("verifier: milp", 'verifier: "mine:own"'),
    ("verifier: milp, eps: 0.02", "verifier: milp"),
    ("eps: 0.02", "eps: 2"),
    ("eps: 0.02", "region: blurr"),
    ("eps: 0.02", "region: linf"),
    ("eps: 0.02", "region: affine"),
    ("eps: 0.02", "region: {name: blur, kernal: 3}"),
    ("eps: 0.02", "region: {name: blur, kernel: 0}"),
    ("eps: 0.02", "region: {name: brightness_contrast, contrast: 2}"),
    ("eps: 0.02", "region: {kernel: 3}"),
    ("eps: 0.02", "eps: 0.02, stages: [atack]"),
    ("eps: 0.02", "eps: 0.02, stages: []"),
    ("eps: 0.02", "eps: 0.02, solver_parameters: {limits/dual: 1}"),
    ("eps: 0.02", "eps: 0.02, rerun: sometimes"),
    ("samples: 100", "samples: [1, 2, 3]"),
    ("samples: 100", "samples: 0"),
    ("time_limit_seconds: 5", "time_limit_seconds: 0"),
    ("models:", "resources: {tran: {num_cpus: 2}}\nmodels:"),
    ("models:", "resources: {attack: {workers: 2}}\nmodels:"),
    ("models:", "resources: {train: {memory: 2 parsecs}}\nmodels:"),
    ("models:\n  mlp: {hidden: [16]}", "models: {}"),
    ("ood:", "shift:\n  rotation: {severity: 6}\nood:"),
]


@pytest.mark.parametrize(("old", "new"), GOOD, ids=[new for _, new in GOOD])
def test_what_the_program_takes_is_valid(validator, old, new):
    assert old in SMALL
    text = SMALL.replace(old, new)
    assert not problems(validator, text)
    spec_of(text)


@pytest.mark.parametrize(("old", "new"), WRONG, ids=[f"{old} -> {new}" for old, new in WRONG])
def test_what_is_wrong_is_not_valid(validator, old, new):
    assert old in SMALL
    text = SMALL.replace(old, new)
    with pytest.raises(SpecError):
        spec_of(text)
    assert problems(validator, text)


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_every_default_of_the_catalogue_may_be_written_out(validator, section):
    kind = SECTIONS[section]
    for name, entry in kind.catalogue.items():
        if section in {"models", "verification"} or "eps" in kind.model_fields:
            continue  # they need more than their parameters
        values = {k: v for k, v in entry.parameters.items() if not isinstance(v, type)}
        values |= {k: 0.1 for k, v in entry.parameters.items() if v is float}
        values |= {k: "fashion_mnist" for k, v in entry.parameters.items() if v is str}
        values |= {"sets": ["notmnist"]} if section == "ood" else {}
        body = {"name": "x", "dataset": "mnist", "models": {"mlp": {}}, section: {name: values}}
        found = [*validator.iter_errors(json.loads(json.dumps(body)))]
        assert not found, (name, found[0].message)


def test_every_attack_is_named_with_its_norms(validator):
    for name, attack in ATTACKS.items():
        body = {"attack": name} | ({"eps": 0.1} if attack.gives == "fixed_eps" else {})
        body |= {"target": "runner_up"} if attack.targets == "required" else {}
        body |= {"detector": "energy"} if attack.detects else {}
        body |= {key: 3 for key, value in attack.parameters.items() if isinstance(value, type)}
        for norm in ("linf", "l2", "l1", "l0"):
            whole = {"name": "x", "dataset": "mnist", "models": {"mlp": {}}}
            whole["attacks"] = {"a": {**body, "norm": norm}}
            assert validator.is_valid(whole) == (norm in attack.norms), (name, norm)


def test_an_ensemble_a_net_and_an_onnx_file_need_no_arch(validator):
    lines = ["both: {members: [a, b], vote: majority}", "abs: {net: abs_authors, steps: 3}"]
    lines += ["mine: {weights: net.onnx}", "wk17a_linf0.1: {net: wk17a_linf0.1}"]
    for line in lines:
        assert not problems(validator, SMALL.replace("mlp: {hidden: [16]}", line)), line
    for line in ("both: {members: [a, b], hidden: 3}", "abs: {net: abs_authors, hidden: 3}"):
        assert problems(validator, SMALL.replace("mlp: {hidden: [16]}", line)), line


def test_every_key_says_what_it_means():
    kinds: list[type[EntrySpec] | type[ResourceSpec]] = [*SECTIONS.values(), ResourceSpec]
    fields = {name for kind in kinds for name in kind.model_fields} - {"name", "parameters"}
    assert fields | {*RECIPE} <= {*WORDS}
    assert {*SECTIONS} <= {*OF_THE_FILE}
