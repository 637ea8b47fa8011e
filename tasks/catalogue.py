"""Everything that can be named in a sweep, by dotted path. Torch-free; one line adds an entry.

`parameters` maps each parameter to its default. A type in place of a default means "required".
A list or tuple default means the parameter itself is a list; elsewhere a list is an axis. A mapping
as default means a mapping of plain values, whose names the entry's own function knows.
"""

from dataclasses import replace

from tasks import attack_catalogue
from tasks.entries import Dataset, Entry, Kind, Net, Parameters, Verifier
from tasks.values import STAGES

KINDS: dict[str, Kind] = {
    "preflight": Kind("jobs"),
    "train": Kind("models", version=2),
    "ensemble": Kind("models"),
    "predict": Kind("predictions", group_size=250, slice_groups=8),
    "attack": Kind("attacks", version=4, group_size=250, slice_groups=2),
    "score": Kind("ood_scores", group_size=250, slice_groups=8),
    "calibrate": Kind("calibration"),
    "screen": Kind("verification", version=2, group_size=50, slice_groups=2),
    "solve": Kind("verification", version=2),
    "sensitivity": Kind("sensitivity", group_size=50, slice_groups=4),
    "landscape": Kind("landscape", slice_groups=1),
}

_IDX = ("{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz")


def _idx(folder: str, *prefixes: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name.format(prefix)}" for prefix in prefixes for name in _IDX)


_MNIST_SPLITS = {"train": 55_000, "validation": 5_000, "test": 10_000}


def _emnist(part: str, train: int, test: int, classes: int) -> Dataset:
    """The last part of the training images, as many as test images, is the validation split."""
    files = (name.format(f"emnist/emnist-{part}-{s}") for s in ("train", "test") for name in _IDX)
    splits = {"train": train, "validation": test, "test": test}
    source = "Cohen et al. 2017, table II; files checked by format, sizes and counts, not SHA-256"
    return Dataset(
        f"tasks.data.idx:emnist_{part}", splits, (1, 28, 28), classes, source, tuple(files)
    )


DATASETS: dict[str, Dataset] = {
    "digits": Dataset(
        "tasks.data.embedded:digits",
        {"train": 1097, "validation": 200, "test": 500},
        (1, 8, 8),
        10,
        "UCI optical recognition of handwritten digits, test part, as in scikit-learn",
    ),
    "photo_patches": Dataset(
        "tasks.data.embedded:photo_patches",
        {"test": 500},
        (1, 8, 8),
        1,
        "8x8 grey patches of the two sample photographs in scikit-learn",
    ),
    "mnist": Dataset(
        "tasks.data.idx:mnist", _MNIST_SPLITS, (1, 28, 28), 10,
        "LeCun et al. 1998", _idx("mnist", "train", "t10k"),
    ),
    "fashion_mnist": Dataset(
        "tasks.data.idx:fashion_mnist", _MNIST_SPLITS, (1, 28, 28), 10,
        "Xiao et al. 2017", _idx("fashion-mnist", "train", "t10k"),
    ),
    "notmnist": Dataset(
        "tasks.data.idx:notmnist", {"test": 10_000}, (1, 28, 28), 10,
        "Bulatov 2011", _idx("notmnist", "t10k"),
    ),
    "kmnist": Dataset(
        "tasks.data.idx:kmnist", _MNIST_SPLITS, (1, 28, 28), 10,
        "Clanuwat et al. 2018", _idx("kmnist", "train", "t10k"),
    ),
    "emnist_letters": _emnist("letters", 104_000, 20_800, 26),
    "emnist_digits": _emnist("digits", 200_000, 40_000, 10),
    "emnist_balanced": _emnist("balanced", 94_000, 18_800, 47),
    "cifar10": Dataset(
        "tasks.data.cifar:cifar10",
        {"train": 45_000, "validation": 5_000, "test": 10_000}, (3, 32, 32), 10,
        "Krizhevsky 2009, binary version",
        (
            *(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
            "cifar-10-batches-bin/test_batch.bin",
        ),
    ),
    "iris": Dataset(
        "tasks.data.embedded:iris", {"train": 90, "validation": 15, "test": 45}, (4,), 3,
        "Fisher 1936, as in scikit-learn; lengths and widths scaled to [0, 1]",
    ),
}

_AN: Parameters = {"activation": "relu", "conv_bias": False}
_EXPLAINING: Parameters = {
    "samples": 8000, "steps": 50, "lr": 0.05, "beta": 1.0, "alpha": 440.0, "eta": 3.9e-5,
}

MODELS: dict[str, Entry] = {
    "mlp": Entry(
        "tasks.models.mlp:mlp", {"hidden": (64, 64), "activation": "relu"}, "fully connected net",
        later=frozenset({"activation"}),
    ),
    "cnn_small": Entry(
        "tasks.models.cnn:cnn_small", {"channels": (8, 16), "hidden": 32},
        "two strided convolutions, no pooling: small enough to verify exactly",
    ),
    "cnn": Entry(
        "tasks.models.cnn:cnn", {"dropout": 0.5},
        "LeCun-style net of the PyTorch MNIST example; 21,840 parameters on 28x28",
    ),
    "madry": Entry("tasks.models.cnn:madry", {}, "Madry et al. 2018, MNIST"),
    "resnet": Entry(
        "tasks.models.resnet:resnet", {"blocks": 1, "width": 16}, "He et al. 2016, section 4.2"
    ),
    "an_k3": Entry("tasks.models.an2020:an_k3", _AN, "An et al. 2020: ten 3x3 convolutions"),
    "an_k5": Entry("tasks.models.an2020:an_k5", _AN, "An et al. 2020: five 5x5 convolutions"),
    "an_k7": Entry("tasks.models.an2020:an_k7", _AN, "An et al. 2020: four 7x7 convolutions"),
    "an_k3_shallow": Entry(
        "tasks.models.an2020:an_k3_shallow", _AN, "the first five convolutions of an_k3"
    ),
    "an_k5_shallow": Entry(
        "tasks.models.an2020:an_k5_shallow", _AN, "the first three convolutions of an_k5"
    ),
    "wk17a": Entry("tasks.models.imported:wk17a", {}, "Wong & Kolter 2018, MNIST, Linf 0.1"),
    "rsl18a": Entry("tasks.models.imported:rsl18a", {}, "Raghunathan et al. 2018, MNIST, Linf 0.1"),
    "abs_cnn": Entry(
        "tasks.models.abs_nets:abs_cnn", {}, "CNN of Schott et al. 2019; 249,228 parameters"
    ),
    "abs_binary_cnn": Entry(
        "tasks.models.abs_nets:abs_binary_cnn", {}, "Binary CNN of Schott et al. 2019"
    ),
    "abs_transfer_cnn": Entry(
        "tasks.models.abs_nets:abs_transfer_cnn", {},
        "source of transfer attacks in Schott et al. 2019",
    ),
    "nearest_neighbour": Entry(
        "tasks.models.nearest_neighbour:nearest_neighbour", {"samples": 0},
        "nearest training image in l2; Schott et al. 2019",
    ),
    "abs": Entry(
        "tasks.models.abs:analysis_by_synthesis", _EXPLAINING,
        "one VAE per class, searched and descended; Schott et al. 2019, section 4",
        traits=frozenset({"analysis by synthesis"}),
    ),
    "binary_abs": Entry(
        "tasks.models.abs:binary_analysis_by_synthesis", _EXPLAINING,
        "ABS of black and white images, with class weights; Schott et al. 2019, section 4",
        traits=frozenset({"analysis by synthesis"}),
    ),
    "onnx": Entry("tasks.models.onnx_file:onnx", {}, "an ONNX file, given as `weights:`"),
    "ensemble": Entry(
        "tasks.models.ensemble:ensemble", {"vote": "mean_logits", "members": ()},
        "models of the same sweep, given as `members:`",
    ),
}

_ABS = "Schott et al. 2019, the authors' weights"
_MIPVERIFY = "as converted for Tjeng et al. 2019"

NETS: dict[str, Net] = {
    "wk17a_linf0.1": Net(
        "wk17a_linf0.1.safetensors", "wk17a",
        "847e160ddaadbec79b5e4291b63b5ff857a0cb21ba88069ef1362c491e56f124",
        f"Wong & Kolter 2018, {_MIPVERIFY}",
    ),
    "rsl18a_linf0.1": Net(
        "rsl18a_linf0.1.safetensors", "rsl18a",
        "2f436b574886de8e810e2c8ef616db1c09df1f77f22880554bfe3d5a98179654",
        f"Raghunathan et al. 2018, {_MIPVERIFY}",
    ),
    "abs_vanilla_cnn": Net(
        "abs_vanilla_cnn.safetensors", "abs_cnn",
        "dd137d99ae1a5aebf9d6609bc14d9dbaf2ac251330f07f43dbac095d0e581643", _ABS,
    ),
    "abs_binary_cnn": Net(
        "abs_binary_cnn.safetensors", "abs_binary_cnn",
        "f8c4312bde3cee5c2eb98f30326572be51d2531322f4e00eae64bfd128934d1e", _ABS,
    ),
    "abs_transfer_cnn": Net(
        "abs_transfer_cnn.safetensors", "abs_transfer_cnn",
        "2d46d5acb9e11f83cdd051a80b70dd22f93caceeb0f3f4feef888b18ef55dd80", _ABS,
    ),
    "abs_authors": Net(
        "abs_authors.safetensors", "abs",
        "2ef832473e49a06738eb7793bd9f73f4dde0abe81d237576327782b83fc79c47",
        f"{_ABS}, for arch abs and binary_abs",
    ),
}

# What all trainings share: the fields of tasks/training/recipe.py, which says what they are.
RECIPE: Parameters = {
    "epochs": 10, "batch_size": 128, "optimizer": "adam", "lr": 1e-3, "lr_decay": 1.0,
    "schedule": "exponential", "warmup_epochs": 0, "momentum": 0.9, "weight_decay": 0.0,
    "clip_norm": 0.0, "ema": 0.0, "label_smoothing": 0.0, "patience": 0, "train_samples": 0,
    "validation_samples": 0,
    "rotation": 0.0, "shift": 0.0, "mixup": 0.0, "cutmix": 0.0, "pixmix": 0,
    "added": 0.0, "added_noise": 0.0, "precision": "float32", "compile": False,
}
_FIT = RECIPE

TRAININGS: dict[str, Entry] = {
    "standard": Entry("tasks.training.standard:standard", _FIT, "cross entropy"),
    "noise": Entry(
        "tasks.training.noise:noise", {**_FIT, "std": 0.1},
        "Gaussian noise augmentation, Ford et al. 2019, section 4",
    ),
    "fgsm": Entry(
        "tasks.training.adversarial:fgsm",
        {**_FIT, "eps": float, "rel_step_size": 1.25, "adversarial_weight": (1.0,)},
        "adversarial training with random-start FGSM, Wong et al. 2020, algorithm 3",
    ),
    "pgd": Entry(
        "tasks.training.adversarial:pgd",
        {
            **_FIT, "eps": float, "steps": 7, "rel_step_size": 0.25,
            "adversarial_weight": (1.0,),
        },
        "adversarial training with PGD, Madry et al. 2018, section 2",
    ),
    "trades": Entry(
        "tasks.training.adversarial:trades",
        {**_FIT, "eps": float, "steps": 10, "rel_step_size": 0.25, "beta": 6.0},
        "Zhang et al. 2019, section 3",
    ),
    "jacobian": Entry(
        "tasks.training.penalties:jacobian", {**_FIT, "weight": 0.01, "projections": 1},
        "Jacobian penalty, Hoffman et al. 2019, section 2",
    ),
    "input_gradient": Entry(
        "tasks.training.penalties:input_gradient", {**_FIT, "weight": 1.0},
        "input-gradient penalty, Ross & Doshi-Velez 2018, section 3",
    ),
    "sensitivity": Entry(
        "tasks.training.sensitivity:sensitivity",
        {
            **_FIT, "eps": float, "weight": 0.1, "method": "interval", "measure": "log_volume",
            "ramp_epochs": 1,
        },
        "small output boxes, after arXiv 1810.11726",
    ),
    "certified": Entry(
        "tasks.training.certified:certified",
        {**_FIT, "eps": float, "method": "interval", "kappa": 0.5, "ramp_epochs": 2},
        "IBP, Gowal et al. 2018, and CROWN-IBP, Zhang et al. 2020",
    ),
    "outlier_exposure": Entry(
        "tasks.training.outlier_exposure:outlier_exposure",
        {**_FIT, "outliers": str, "outlier_split": "train", "coefficient": 0.5},
        "Hendrycks et al. 2019, section 3",
    ),
    "vae": Entry(
        "tasks.training.vae:vae",
        {**_FIT, "epochs": 50, "kl_start": 10.0, "kl_end": 1.0, "kl_epochs": 50},
        "for abs and binary_abs; Schott et al. 2019, section 4",
    ),
}

# part of every training since the recipe has it
RECIPE_LATER = frozenset({"train_samples"})
TRAININGS = {
    name: replace(entry, later=entry.later | RECIPE_LATER) for name, entry in TRAININGS.items()
}

ATTACKS = attack_catalogue.ATTACKS

SCORERS: dict[str, Entry] = {
    "max_softmax": Entry("tasks.ood.logit_scores:max_softmax", {}, "Hendrycks & Gimpel 2017"),
    "max_logit": Entry("tasks.ood.logit_scores:max_logit", {}, "Hendrycks et al. 2022"),
    "energy": Entry(
        "tasks.ood.logit_scores:energy", {"temperature": 1.0}, "Liu et al. 2020, equation 4"
    ),
    "entropy": Entry("tasks.ood.logit_scores:entropy", {}, "entropy of the softmax"),
}

CORRUPTIONS: dict[str, Entry] = {
    "gaussian_noise": Entry(
        "tasks.shift.corruptions:gaussian_noise", {}, "Hendrycks & Dietterich 2019"
    ),
    "brightness": Entry("tasks.shift.corruptions:brightness", {}, "Hendrycks & Dietterich 2019"),
    "contrast": Entry("tasks.shift.corruptions:contrast", {}, "Hendrycks & Dietterich 2019"),
    "rotation": Entry("tasks.shift.corruptions:rotation", {}, "a random angle, up to 5 .. 30 deg"),
}

CALIBRATIONS: dict[str, Entry] = {
    "temperature": Entry(
        "tasks.calibration.temperature:temperature", {}, "Guo et al. 2017, section 4.2"
    ),
}

VERIFIERS: dict[str, Verifier] = {
    "milp": Verifier(
        "tasks.verification.screen:screen",
        "tasks.verification.solve:solve",
        ("linf",),
        {
            "stages": STAGES, "attack_steps": 20, "attack_restarts": 2,
            "again_steps": 50, "again_restarts": 10,
        },
        {"stages": STAGES, "solver": "scip", "tightening": "none", "solver_parameters": {}},
        "Tjeng et al. 2019",
    ),
    "abs_bound": Verifier(
        "tasks.verification.abs_bound:screen", None, ("l2",), {"steps": 50}, {},
        "estimate of the nearest adversarial of abs, no proof; Schott et al. 2019, section 4",
        frozenset({"analysis by synthesis"}),
    ),
}

SENSITIVITIES: dict[str, Entry] = {
    "interval": Entry(
        "tasks.sensitivity.measure:output_box", {}, "interval bounds, Gowal et al. 2018, section 3"
    ),
    "crown": Entry(
        "tasks.sensitivity.measure:output_box", {}, "linear bounds, Zhang et al. 2018, section 3"
    ),
}

LANDSCAPES: dict[str, Entry] = {
    "basin_hopping": Entry(
        "tasks.landscape.basin_hopping:basin_hopping",
        {"steps": 50, "temperature": 0.01, "step_size": 10.0, "max_iterations": 20_000},
        "Wales & Doye 1997; over weights as in arXiv 1810.11726",
    ),
}
