"""Corruptions by name. Torch-free.

Grey images get MNIST-C's definitions, colour images CIFAR-10-C's. Those with the trait `per_sample`
are seeded by sample, and take one generator per image; those with `colour` are for colour images.
"""

from robsweep.tasks.catalogue.entries import Entry

MIN_SIDE = 8  # pixels, of images that are corrupted by a name of the catalogue

_SAMPLE = frozenset({"per_sample"})
_COLOUR = _SAMPLE | {"colour"}
_MNIST = "Mu & Gilmer 2019 (MNIST-C)"
_CIFAR = "Hendrycks & Dietterich 2019 (CIFAR-10-C)"
_BOTH = f"{_MNIST}; in colour {_CIFAR}"

# Rows of these four are in stores: they are seeded by group, and have their constants for good.
_FIRST: dict[str, Entry] = {
    "gaussian_noise": Entry(
        ".shift.corruptions:gaussian_noise", {}, "Hendrycks & Dietterich 2019"
    ),
    "brightness": Entry(".shift.corruptions:brightness", {}, "Hendrycks & Dietterich 2019"),
    "contrast": Entry(".shift.corruptions:contrast", {}, "Hendrycks & Dietterich 2019"),
    "rotation": Entry(".shift.corruptions:rotation", {}, "a random angle, up to 5 .. 30 deg"),
}

CORRUPTIONS: dict[str, Entry] = {
    **_FIRST,
    "shot_noise": Entry(".shift.noise:shot_noise", {}, f"{_BOTH}; released: 5", _SAMPLE),
    "impulse_noise": Entry(".shift.noise:impulse_noise", {}, f"{_BOTH}; released: 4", _SAMPLE),
    "glass_blur": Entry(".shift.blur:glass_blur", {}, f"{_BOTH}; released: 1", _SAMPLE),
    "motion_blur": Entry(".shift.blur:motion_blur", {}, f"{_BOTH}; released: 1", _SAMPLE),
    "shear": Entry(".shift.affine:shear", {}, f"{_MNIST}; released: 2", _SAMPLE),
    "scale": Entry(".shift.affine:scale", {}, f"{_MNIST}; released: 3", _SAMPLE),
    "rotate": Entry(".shift.affine:rotate", {}, f"{_MNIST}; released: 2", _SAMPLE),
    "translate": Entry(".shift.affine:translate", {}, f"{_MNIST}; released: 3", _SAMPLE),
    "stripe": Entry(".shift.lines:stripe", {}, f"{_MNIST}; released: 3", _SAMPLE),
    "fog": Entry(".shift.weather:fog", {}, f"{_BOTH}; released: 5", _SAMPLE),
    "spatter": Entry(".shift.weather:spatter", {}, f"{_BOTH}; released: 4", _SAMPLE),
    "dotted_line": Entry(".shift.lines:dotted_line", {}, f"{_MNIST}; released: 1", _SAMPLE),
    "zigzag": Entry(".shift.lines:zigzag", {}, f"{_MNIST}; released: 1", _SAMPLE),
    "canny_edges": Entry(".shift.edges:canny_edges", {}, f"{_MNIST}; released: 5", _SAMPLE),
}

# What these benchmarks are made of, with the names that they have here.
MNIST_C = (
    "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate",
    "brightness", "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
)  # fmt: skip
