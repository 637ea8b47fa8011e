"""Corruptions by name. Torch-free.

Grey images get MNIST-C's definitions, colour images CIFAR-10-C's. Those with the trait `per_sample`
are seeded by sample, and take one generator per image; those with `colour` are for colour images;
those with `grid` have no severity, and are asked at points that the sweep file names.
"""

from collections.abc import Sequence

from robsweep.tasks.catalogue.entries import Entry

MIN_SIDE = 8  # pixels, of images that are corrupted

_SAMPLE = frozenset({"per_sample"})
_COLOUR = _SAMPLE | {"colour"}
_GRID = _SAMPLE | {"grid"}
_MNIST = "Mu & Gilmer 2019 (MNIST-C)"
_CIFAR = "Hendrycks & Dietterich 2019 (CIFAR-10-C)"
_GRIDS = "Engstrom et al. 2019; pixels to the right and down, degrees counter-clockwise"
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
    "fog": Entry(".shift.clouds:fog", {}, f"{_BOTH}; released: 5", _SAMPLE),
    "spatter": Entry(".shift.spatter:spatter", {}, f"{_BOTH}; released: 4", _SAMPLE),
    "dotted_line": Entry(".shift.lines:dotted_line", {}, f"{_MNIST}; released: 1", _SAMPLE),
    "zigzag": Entry(".shift.lines:zigzag", {}, f"{_MNIST}; released: 1", _SAMPLE),
    "canny_edges": Entry(".shift.edges:canny_edges", {}, f"{_MNIST}; released: 5", _SAMPLE),
    "speckle_noise": Entry(".shift.noise:speckle_noise", {}, _CIFAR, _SAMPLE),
    "defocus_blur": Entry(".shift.blur:defocus_blur", {}, _CIFAR, _SAMPLE),
    "zoom_blur": Entry(".shift.blur:zoom_blur", {}, _CIFAR, _SAMPLE),
    "gaussian_blur": Entry(".shift.blur:gaussian_blur", {}, _CIFAR, _SAMPLE),
    "snow": Entry(".shift.snow:snow", {}, _CIFAR, _SAMPLE),
    "frost": Entry(".shift.snow:frost", {}, f"after {_CIFAR}, with ice that is made", _SAMPLE),
    "elastic_transform": Entry(".shift.elastic:elastic_transform", {}, _CIFAR, _SAMPLE),
    "pixelate": Entry(".shift.digital:pixelate", {}, _CIFAR, _SAMPLE),
    "jpeg_compression": Entry(".shift.digital:jpeg_compression", {}, _CIFAR, _SAMPLE),
    "saturate": Entry(".shift.colour:saturate", {}, _CIFAR, _COLOUR),
    # whose plain names stand for the first release's, with ImageNet-C's constants
    "cifar_gaussian_noise": Entry(".shift.noise:cifar_gaussian_noise", {}, _CIFAR, _COLOUR),
    "cifar_brightness": Entry(".shift.colour:cifar_brightness", {}, _CIFAR, _COLOUR),
    "cifar_contrast": Entry(".shift.colour:cifar_contrast", {}, _CIFAR, _COLOUR),
    "rotate_by": Entry(
        ".shift.affine:rotate_by", {"degrees": float, "dx": 0.0, "dy": 0.0}, _GRIDS, _GRID
    ),
    "translate_by": Entry(".shift.affine:translate_by", {"dx": 0.0, "dy": 0.0}, _GRIDS, _GRID),
}

# What these benchmarks are made of, with the names that they have here.
MNIST_C = (
    "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "shear", "scale", "rotate",
    "brightness", "translate", "stripe", "fog", "spatter", "dotted_line", "zigzag", "canny_edges",
)  # fmt: skip
CIFAR_C = (
    "cifar_gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur",
    "motion_blur", "zoom_blur", "snow", "frost", "fog", "cifar_brightness", "cifar_contrast",
    "elastic_transform", "pixelate", "jpeg_compression",
)  # fmt: skip
CIFAR_C_EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")


def misfit(name: str, shape: Sequence[int]) -> str | None:
    """Why a corruption is not for inputs of this shape; None where it is, or is a user's own."""
    entry = CORRUPTIONS.get(name)
    if entry is None or (name in _FIRST and name != "rotation"):
        return None
    shown = "x".join(map(str, shape))
    if len(shape) != 3:
        return f"{name} is for images (channels, height, width), not for inputs of shape {shown}"
    if min(shape[1:]) < MIN_SIDE and name not in _FIRST:
        return f"{name} is for images of {MIN_SIDE}x{MIN_SIDE} pixels and more, these are {shown}"
    if "colour" in entry.traits and shape[0] != 3:
        plain = name.removeprefix("cifar_")
        other = f": {plain} is for these" if plain in _FIRST else ""
        return f"{name} is for colour images, these have {shape[0]} channel(s){other}"
    if name == "jpeg_compression" and shape[0] not in {1, 3}:
        return f"{name} is for images of 1 or 3 channels, these have {shape[0]}"
    return None
