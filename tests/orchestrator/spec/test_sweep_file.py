"""Every mistake in a sweep file: one message with file, line, what and how to fix it."""

import numpy as np
import pytest

from robsweep.orchestrator.errors import InputError, SpecError
from robsweep.orchestrator.spec.npz import describe
from robsweep.orchestrator.spec.parameters import number
from robsweep.tasks.data.npz import npz
from tests.sweeps import SMALL, plan_of, spec_of

# fmt: off
MISTAKES = {
    "unknown top key": ("seeds: [0, 1]", "seed: [0]", 3, "did you mean 'seeds'"),
    "unknown entry key": ("epochs: 1", "epoch: 1", 7, "did you mean 'epochs'"),
    "unknown attack": ("LinfPGD", "LinfPDG", 9, "did you mean 'LinfPGD'"),
    "unknown scorer": ("energy: {", "energi: {", 11, "did you mean 'energy'"),
    "unknown data set": ("dataset: digits", "dataset: digit", 2, "did you mean 'digits'"),
    "unknown model": ("mlp: {", "mpl: {", 5, "did you mean 'mlp'"),
    "unknown set": ("[photo_patches]", "[photos]", 11, "unknown data set 'photos'"),
    "wrong norm": ("verifier: milp,", "verifier: milp, norm: linff,", 15, "'linf', 'l2'"),
    "norm it cannot verify": ("verifier: milp,", "verifier: milp, norm: l0,", 15, "verifies linf"),
    "negative eps": ("[0.05, 0.1]", "[-0.05]", 9, "negative"),
    "eps as text": ("[0.05, 0.1]", "[big]", 9, "expected a number, got 'big'"),
    "eps not finite": ("[0.05, 0.1]", ".nan", 9, "finite"),
    "no eps": ("eps: [0.05, 0.1], ", "", 9, "needs eps"),
    "no eps in a verification": ("eps: 0.02, ", "", 15, "needs 'eps'"),
    "fraction by zero": ("[0.05, 0.1]", "8/0", 9, "divides by zero"),
    "text for a number": ("epochs: 1", "epochs: many", 7, "expected a number, got 'many'"),
    "fraction for a count": ("epochs: 1", "epochs: 1.5", 7, "whole number"),
    "too many samples": ("samples: 100", "samples: 501", 15, "test split has 500"),
    "backward samples": ("samples: 100", "samples: [9, 3]", 15, "start < stop"),
    "seeds as a number": ("seeds: [0, 1]", "seeds: 3", 3, "list"),
    "negative seed": ("seeds: [0, 1]", "seeds: [-1]", 3, "greater than or equal to 0"),
    "zero time": ("time_limit_seconds: 5", "time_limit_seconds: 0", 15, "greater than 0"),
    "section as a list": ("  mlp: {hidden: [16]}", "  - mlp", 4, "named entries"),
    "only nobody": ("steps: 2", "only: [cnn]", 9, "no model or training is named 'cnn'"),
    "only an empty list": ("steps: 2", "steps: 2, only: []", 9, "an empty list: name models"),
    "all excluded": ("steps: 2", "steps: 2, exclude: mlp", 9, "no model that this entry applies"),
    "a pair that is not there": (
        "  standard: {epochs: 1}", "  standard: {epochs: 1}\n  noise: {epochs: 1, exclude: mlp}", 8,
        "no model that this training applies to",
    ),
    "classes of a known data set": (
        "dataset: digits", "dataset: {npz: mine.npz, class: 10}", 2, "did you mean 'classes'",
    ),
    "classes without a file": ("dataset: digits", "dataset: {classes: 10}", 2, "needs `npz: FILE`"),
    "classes as text": (
        "dataset: digits", "dataset: {npz: a.npz, classes: ten}", 2, "expected how many",
    ),
    "a bad name": ("name: small", "name: ../small", 1, "letters, digits"),
    "not YAML": ("name: small", "name: [small", 2, ""),
    "no epochs": ("epochs: 1", "epochs: 0", 7, "at least 1"),
    "negative steps": ("steps: 2", "steps: -2", 9, "at least 1"),
    "twice the same seed": ("seeds: [0, 1]", "seeds: [0, 0]", 3, "same seed twice"),
    "nobody left": ("{epochs: 1}", "{epochs: 1, exclude: mlp}", 6, "leave no model"),
    "a kind as a number": ("seeds:", "resources: {train: 3}\nseeds:", 3, "expected `train: {...}`"),
    "a random axis by the moon": (
        "epochs: 1", "epochs: 1, lr: {random: [0.1, 1], seed: moon}", 7, "expected {random",
    ),
    "a verifier of one's own": ("verifier: milp", 'verifier: "my:own"', 15, "unknown verifier"),
    "a date": ("attack: LinfPGD,", 'attack: "my:own", norm: linf, day: 2020-01-01,', 9, "day"),
    "axis values that look alike": (
        "epochs: 1", "epochs: 1, lr: [0.001, 0.0010000001]", 7, "look the same",
    ),
    "a schedule longer than the training": (
        "standard: {epochs: 1}",
        "standard: {training: pgd, eps: 0.1, epochs: 3, adversarial_weight: [0.1, 0.5, 0.5, 0.75]}",
        7, "covers 4 epochs, the training has 3",
    ),
    "a warm-up longer than the training": (
        "epochs: 1", "epochs: 1, warmup_epochs: 2", 7, "covers 2 epochs",
    ),
    "unknown outliers": (
        "standard: {", "standard: {training: outlier_exposure, outliers: digit, ", 7,
        "did you mean 'digits'",
    ),
    "outliers that are the data set": (
        "standard: {", "standard: {training: outlier_exposure, outliers: digits, ", 7,
        "is the data set itself",
    ),
    "outliers of another shape": (
        "standard: {", "standard: {training: outlier_exposure, outliers: mnist, ", 7, "has shape",
    ),
    "outliers from the split that is measured": (
        "standard: {",
        "standard: {training: outlier_exposure, outliers: photo_patches, outlier_split: test, ", 7,
        "OOD detection is measured on test splits",
    ),
    "outliers from a split that is not there": (
        "standard: {", "standard: {training: outlier_exposure, outliers: photo_patches, ", 7,
        "no split 'train'; to train on it has: none",
    ),
    "a mix that a certified training cannot go with": (
        "standard: {", "standard: {training: certified, eps: 0.1, ramp_epochs: 1, mixup: 0.4, ", 7,
        "certified cannot go with mixup",
    ),
    "a compiled penalty": (
        "standard: {", "standard: {training: jacobian, compile: true, ", 7,
        "gradients of gradients",
    ),
    "an unknown schedule": ("epochs: 1", "epochs: 1, schedule: cosin", 7, "did you mean 'cosine'"),
    "a recipe of one's own training": (
        "standard: {epochs: 1}", 'mine: {training: "my:own", epochs: many}', 7, "expected a number",
    ),
    "workers of attacks": (
        "seeds:", "resources: {attack: {workers: 2}}\nseeds:", 3, "workers belongs to `train:`",
    ),
    "unknown activation": ("[16]", "[16], activation: rely", 5, "did you mean 'relu'"),
    "unknown stage": ("milp,", "milp, stages: [crown, mlp],", 15, "did you mean 'milp'"),
    "unknown solver": ("milp,", "milp, solver: scp,", 15, "did you mean 'scip'"),
    "unknown tightening": ("milp,", "milp, tightening: [lp, mps],", 15, "unknown tightening 'mps'"),
    "no mapping": ("milp,", "milp, solver_parameters: 3,", 15, "expected names with values"),
    "an axis inside a mapping": (
        "milp,", "milp, solver_parameters: {separating/maxrounds: [0, 5]},", 15, "whole mappings",
    ),
    "a mapping's value not finite": (
        "milp,", "milp, solver_parameters: {numerics/feastol: .inf},", 15, "finite",
    ),
    "a solver's limit that aborts": (
        "milp,", "milp, solver_parameters: {limits/primal: 0.5},", 15, "SCIP aborts",
    ),
    "a solver's own time limit": (
        "milp,", "milp, solver_parameters: {limits/time: 5},", 15, "time_limit_seconds",
    ),
    "twice the same key": ("seeds: [0, 1]", "dataset: digits", 3, "duplicate"),
}


# fmt: on
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_name_their_line(mistake):
    old, new, line, message = MISTAKES[mistake]
    assert old in SMALL
    with pytest.raises(SpecError) as caught:
        spec_of(SMALL.replace(old, new, 1))
    assert f"sweep.yaml:{line}:" in str(caught.value)
    assert message in str(caught.value)


def test_min_norm_attacks_take_no_eps():
    with pytest.raises(SpecError, match="takes no eps"):
        spec_of(SMALL.replace("LinfPGD", "L2DeepFool").replace(", steps: 2", ""))


def test_a_models_section_is_needed():
    with pytest.raises(SpecError, match="models"):
        spec_of("name: a\ndataset: digits\n")


def test_training_is_needed_unless_weights_are_given():
    with pytest.raises(SpecError, match="weights"):
        spec_of("name: a\ndataset: digits\nmodels: {mlp: {}}\n")


def test_the_test_data_cannot_be_its_own_ood_set():
    with pytest.raises(SpecError, match="data set itself"):
        spec_of(SMALL.replace("photo_patches", "digits"))


def test_ood_sets_have_the_same_shape():
    with pytest.raises(SpecError, match="shape"):
        spec_of(SMALL.replace("photo_patches", "notmnist"))


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), (" 1 / 4 ", 0.25), (3, 3.0), (0.5, 0.5)]
)
def test_numbers(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "8/", "1/0", "a", None, True, float("inf"), [1]])
def test_no_numbers(text):
    with pytest.raises(ValueError, match=r"expected|divides|could not"):
        number(text)


def test_lists_are_axes_where_a_scalar_is_expected():
    spec = spec_of(SMALL.replace("steps: 2", "steps: [2, 5], restarts: [1, 3]"))
    assert list(spec.attacks) == [
        "pgd[steps=2,restarts=1]",
        "pgd[steps=2,restarts=3]",
        "pgd[steps=5,restarts=1]",
        "pgd[steps=5,restarts=3]",
    ]
    assert spec.attacks["pgd[steps=5,restarts=1]"].parameters["steps"] == 5
    assert spec.attacks["pgd[steps=5,restarts=1]"].eps == (0.05, 0.1)


def test_a_list_parameter_is_an_axis_only_as_a_list_of_lists():
    assert list(spec_of(SMALL).models) == ["mlp"]
    spec = spec_of(SMALL.replace("hidden: [16]", "hidden: [[16], [16, 8]]"))
    assert [m.parameters["hidden"] for m in spec.models.values()] == [[16], [16, 8]]


def test_a_mapping_is_one_value_and_a_list_of_mappings_an_axis():
    one = spec_of(
        SMALL.replace("milp,", "milp, solver_parameters: {a/b: 5, c: true},")
    ).verification
    assert one["linf"].parameters["solver_parameters"] == {"a/b": 5, "c": True}
    assert spec_of(SMALL).verification["linf"].parameters["solver_parameters"] == {}
    text = SMALL.replace("milp,", "milp, solver_parameters: [{}, {a/b: 5, c: d}],")
    several = spec_of(text).verification
    assert {name: one.parameters["solver_parameters"] for name, one in several.items()} == {
        "linf[solver_parameters=none]": {},
        "linf[solver_parameters=a/b=5+c=d]": {"a/b": 5, "c": "d"},
    }


def test_a_random_axis_is_seeded():
    text = SMALL.replace(
        "epochs: 1", "epochs: 1, lr: {random: [0.0001, 0.1], n: 4, scale: log, seed: 7}"
    )
    first, second = spec_of(text), spec_of(text)
    assert list(first.trainings) == list(second.trainings)
    rates = [t.parameters["lr"] for t in first.trainings.values()]
    assert len(set(rates)) == 4
    assert all(0.0001 <= rate <= 0.1 for rate in rates)
    other = spec_of(text.replace("seed: 7", "seed: 8"))
    assert list(other.trainings) != list(first.trainings)


def test_only_and_exclude_select_models_trainings_and_pairs():
    text = SMALL.replace("mlp: {hidden: [16]}", "mlp: {hidden: [[16], [8]]}\n  cnn_small: {}")
    text = text.replace("  standard: {epochs: 1}", "  standard: {epochs: 1}\n  noise: {epochs: 1}")

    def attacked(words):
        plan = plan_of(text.replace("steps: 2", f"steps: 2, {words}"))
        return {
            (p.model, p.training)
            for p in plan.measurements.values()
            if p.measurement.kind == "attack"
        }

    everything = attacked("exclude: []")
    assert len(everything) == 6
    mlps = {("mlp[hidden=16]"), ("mlp[hidden=8]")}
    assert {m for m, _ in attacked("only: [mlp]")} == mlps
    assert {t for _, t in attacked("exclude: noise")} == {"standard"}
    assert attacked("only: [cnn_small/noise]") == {("cnn_small", "noise")}
    assert attacked('only: ["mlp[hidden=8]"], exclude: [standard]') == {("mlp[hidden=8]", "noise")}


def test_classes_without_samples_can_be_said(tmp_path):
    images = np.zeros((9, 8, 8), np.uint8)
    np.savez(tmp_path / "mine.npz", test_images=images, test_labels=np.arange(9))

    def dataset(text):
        return spec_of(
            f"name: a\ndataset: {text}\nmodels: {{mine: {{arch: mlp, train: false}}}}\n", tmp_path
        ).dataset

    plain, nine, ten = map(
        dataset, ("npz:mine.npz", "{npz: mine.npz, classes: 9}", "{npz: mine.npz, classes: 10}")
    )
    assert plain == nine
    assert (plain.classes, ten.classes) == (9, 10)
    assert plain.name != ten.name, "models of another number of outputs are others"
    with pytest.raises(SpecError, match=r"sweep\.yaml:2: dataset: .*8 classes, but a label 8"):
        dataset("{npz: mine.npz, classes: 8}")


def test_arrays_of_other_names_are_listed(tmp_path):
    zeros = np.zeros((9, 8, 8), np.uint8)
    np.savez(tmp_path / "theirs.npz", x_test=zeros, y_test=np.arange(9))
    with pytest.raises(InputError, match="test_images and test_labels, and has x_test, y_test"):
        describe(tmp_path / "theirs.npz")
    np.savez(tmp_path / "half.npz", x_test=zeros, test_labels=np.arange(9))
    with pytest.raises(InputError, match=r"no array test_images; .* and has x_test, test_labels"):
        describe(tmp_path / "half.npz")
    with pytest.raises(InputError, match="no array 'test_images', only x_test, test_labels"):
        npz("own", str(tmp_path / "half.npz"), "test")


def test_an_npz_data_set_is_named_by_its_content(tmp_path):
    def write(value):
        images = np.full((5, 8, 8), value, np.uint8)
        labels = np.arange(5)
        np.savez(tmp_path / "mine.npz", test_images=images, test_labels=labels,
                 train_images=images, train_labels=labels,
                 validation_images=images, validation_labels=labels)  # fmt: skip
        text = SMALL.replace("dataset: digits", "dataset: npz:mine.npz").replace(
            "samples: 100", "samples: 5"
        )
        return spec_of(text, tmp_path).dataset

    first, second = write(0), write(1)
    assert first.splits == {"train": 5, "validation": 5, "test": 5}
    assert (first.shape, first.classes) == ((1, 8, 8), 5)
    assert first.name != second.name
    (tmp_path / "mine.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"sweep\.yaml:2: dataset: .*not a readable .npz"):
        spec_of(
            "name: a\ndataset: npz:mine.npz\nmodels: {mlp: {}}\ntrainings: {standard: }\n", tmp_path
        )
