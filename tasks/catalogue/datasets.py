"""Data sets by name. Torch-free."""

from robsweep.tasks.catalogue.entries import Dataset

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
        f".data.idx:emnist_{part}", splits, (1, 28, 28), classes, source, tuple(files)
    )


DATASETS: dict[str, Dataset] = {
    "digits": Dataset(
        ".data.embedded:digits",
        {"train": 1097, "validation": 200, "test": 500},
        (1, 8, 8),
        10,
        "UCI optical recognition of handwritten digits, test part, as in scikit-learn",
    ),
    "photo_patches": Dataset(
        ".data.embedded:photo_patches",
        {"test": 500},
        (1, 8, 8),
        1,
        "8x8 grey patches of the two sample photographs in scikit-learn",
    ),
    "mnist": Dataset(
        ".data.idx:mnist", _MNIST_SPLITS, (1, 28, 28), 10,
        "LeCun et al. 1998", _idx("mnist", "train", "t10k"),
    ),
    "fashion_mnist": Dataset(
        ".data.idx:fashion_mnist", _MNIST_SPLITS, (1, 28, 28), 10,
        "Xiao et al. 2017", _idx("fashion-mnist", "train", "t10k"),
    ),
    "notmnist": Dataset(
        ".data.idx:notmnist", {"test": 10_000}, (1, 28, 28), 10,
        "Bulatov 2011", _idx("notmnist", "t10k"),
    ),
    "kmnist": Dataset(
        ".data.idx:kmnist", _MNIST_SPLITS, (1, 28, 28), 10,
        "Clanuwat et al. 2018", _idx("kmnist", "train", "t10k"),
    ),
    "emnist_letters": _emnist("letters", 104_000, 20_800, 26),
    "emnist_digits": _emnist("digits", 200_000, 40_000, 10),
    "emnist_balanced": _emnist("balanced", 94_000, 18_800, 47),
    "cifar10": Dataset(
        ".data.cifar:cifar10",
        {"train": 45_000, "validation": 5_000, "test": 10_000}, (3, 32, 32), 10,
        "Krizhevsky 2009, binary version",
        (
            *(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
            "cifar-10-batches-bin/test_batch.bin",
        ),
    ),
    "iris": Dataset(
        ".data.embedded:iris", {"train": 90, "validation": 15, "test": 45}, (4,), 3,
        "Fisher 1936, as in scikit-learn; lengths and widths scaled to [0, 1]",
    ),
}

# Drawn in whatever shape is asked for: of a sample's number and the shape.
DRAWN_SETS: dict[str, Dataset] = {
    name: Dataset(f".data.noise:{name}", {"test": 10_000}, (), 1, source)
    for name, source in (
        ("uniform_noise", "each number uniform on [0, 1]; Liang et al. 2018, section 4"),
        (
            "gaussian_noise_images",
            "each number N(0.5, 1), clipped to [0, 1]; Liang et al. 2018, section 4",
        ),
    )
}
