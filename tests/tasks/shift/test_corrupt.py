"""What holds of every corruption: its images, and what they are a function of."""

import numpy as np
import pytest
import torch
from torch import Tensor

from robsweep.tasks.catalogue import CORRUPTIONS
from robsweep.tasks.errors import InputError
from robsweep.tasks.shift.corrupt import corrupt, per_sample
from tests.tasks.shift.drawings import drawings

POINTS = {"rotate_by": {"degrees": 10.0}, "translate_by": {"dx": 1.5, "dy": -1.0}}
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "cifar": (3, 32, 32)}
CASES = [
    pytest.param(name, shape, id=f"{name}-{of}")
    for name, entry in CORRUPTIONS.items()
    for of, shape in SHAPES.items()
    if shape[0] == 3 or "colour" not in entry.traits
]


@pytest.mark.parametrize(("name", "shape"), CASES)
def test_images_are_a_function_of_their_sample_alone(name: str, shape: tuple[int, ...]) -> None:
    images = drawings(6, shape)
    before, point = images.clone(), POINTS.get(name, {})
    for severity in range(1, 6):
        corrupted = corrupt(name, images, severity, point, 7, range(100, 106))
        assert corrupted.shape == images.shape
        assert corrupted.dtype == torch.float32
        assert corrupted.min() >= 0
        assert corrupted.max() <= 1
        assert not torch.equal(corrupted, images)
        pieces = [
            corrupt(name, images[i:j], severity, point, 7, range(100 + i, 100 + j))
            for i, j in ((0, 1), (1, 4), (4, 6))
        ]
        assert torch.equal(torch.cat(pieces), corrupted)
    assert torch.equal(images, before)


RANDOM = {
    "gaussian_noise", "rotation", "shot_noise", "impulse_noise", "glass_blur", "motion_blur",
    "shear", "rotate", "translate", "fog", "spatter", "dotted_line", "zigzag", "speckle_noise",
    "snow", "frost", "elastic_transform", "cifar_gaussian_noise",
}  # fmt: skip


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_samples_and_seeds_draw_for_themselves(name: str) -> None:
    shape = SHAPES["cifar" if "colour" in CORRUPTIONS[name].traits else "mnist"]
    image = drawings(1, shape)
    many = corrupt(name, image.expand(12, *shape), 3, POINTS.get(name, {}), 0, range(12))
    others = corrupt(name, image.expand(12, *shape), 3, POINTS.get(name, {}), 1, range(12))
    different = {np.ascontiguousarray(one).tobytes() for one in many.numpy()}
    assert (len(different) > 1) == (name in RANDOM)
    assert torch.equal(many, others) == (name not in RANDOM)


def test_the_global_generators_are_left_as_they_were() -> None:
    images = drawings(2, SHAPES["mnist"])
    torch.manual_seed(3)
    np.random.seed(3)
    wanted = torch.rand(4), np.random.rand(4)
    torch.manual_seed(3)
    np.random.seed(3)
    for name in ("gaussian_noise", "shot_noise"):
        corrupt(name, images, 3, {}, 0, range(2))
    assert torch.equal(torch.rand(4), wanted[0])
    assert np.array_equal(np.random.rand(4), wanted[1])


def test_no_images_stay_none() -> None:
    for name in ("gaussian_noise", "shot_noise"):
        assert corrupt(name, torch.empty(0, 1, 28, 28), 3, {}, 0, range(0)).shape == (0, 1, 28, 28)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in POINTS])
def test_there_are_five_severities(name: str) -> None:
    images = drawings(1, SHAPES["cifar"])
    for severity in (0, 6):
        with pytest.raises(InputError, match="severities 1 to 5"):
            corrupt(name, images, severity, {}, 0, range(1))


def not_finite(images: Tensor, severity: int) -> Tensor:
    return images / 0


def too_bright(images: Tensor, severity: int) -> Tensor:
    return images + 0.5


def cropped(images: Tensor, severity: int) -> Tensor:
    return images[:, :, 1:]


def an_array(images: Tensor, severity: int) -> object:
    return images.numpy()


def whole_numbers(images: Tensor, severity: int) -> Tensor:
    return (images * 255).to(torch.uint8)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (not_finite, "gave pixels that are not finite"),
        (too_bright, r"gave pixels from 0.5 to 1.5: images are in \[0, 1\]"),
        (cropped, r"gave torch.float32 of shape \(1, 1, 27, 28\), not images of shape"),
        (an_array, "gave a ndarray, not a tensor"),
        (whole_numbers, "gave torch.uint8"),
    ],
)
def test_what_is_no_image_is_refused_by_the_corruptions_name(function, message) -> None:
    images = drawings(2, SHAPES["mnist"])
    images[:, :, 0, 0], images[:, :, 0, 1] = 0, 1
    name = f"{__name__}:{function.__name__}"
    with pytest.raises(InputError, match=f"^corruption '{name}' {message}"):
        corrupt(name, images, 1, {}, 0, range(2))


def test_only_the_first_four_are_seeded_by_group() -> None:
    assert {name for name in CORRUPTIONS if not per_sample(name)} == {
        "gaussian_noise", "brightness", "contrast", "rotation",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("fog", (1, 7, 28), "fog is for images of 8x8 pixels and more, these are 1x7x28"),
        ("fog", (4,), r"fog is for images \(channels, height, width\), not for inputs of shape 4"),
        ("saturate", (1, 28, 28), r"saturate is for colour images, these have 1 channel\(s\)$"),
        ("cifar_contrast", (1, 28, 28), "1 channel.*: contrast is for these"),
        ("jpeg_compression", (4, 28, 28), "jpeg_compression is for images of 1 or 3 channels"),
    ],
)
def test_images_that_a_corruption_is_not_for(name, shape, message) -> None:
    with pytest.raises(InputError, match=message):
        corrupt(name, torch.zeros(1, *shape), 3, {}, 0, range(1))


def test_one_that_needs_a_parameter_says_so() -> None:
    with pytest.raises(InputError, match="rotate_by needs degrees"):
        corrupt("rotate_by", drawings(1, (1, 28, 28)), 1, {"degrees": float}, 0, range(1))
