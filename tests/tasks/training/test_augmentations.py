import numpy as np
import pytest
import torch

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.training.augmentations import Augmentation, cutmix, mixup, moved, pixmixed
from robsweep.tasks.training.mixing_set import drawn
from robsweep.tasks.training.recipe import Recipe

IMAGES = torch.rand(12, 1, 6, 8, generator=torch.Generator().manual_seed(0))
DATA = Labelled(IMAGES, torch.arange(12) % 3)


def random() -> np.random.Generator:
    return np.random.default_rng(0)


def augmentation(**recipe: float) -> Augmentation:
    return Augmentation.of(Recipe(**recipe), DATA, 3, 5)  # type: ignore[arg-type]


def test_nothing_asked_for_is_nothing_done() -> None:
    plain = augmentation()
    order = plain.order(1)
    assert sorted(order.tolist()) == list(range(12))
    images, labels, targets = plain.batch(order[:5], 1, 0)
    assert torch.equal(images, IMAGES[order[:5]])
    assert torch.equal(labels, DATA.labels[order[:5]])
    assert targets is labels


def test_epochs_differ_and_repeat() -> None:
    moving = augmentation(rotation=20.0)
    assert not torch.equal(moving.order(1), moving.order(2))
    index = torch.arange(4)
    first, again, later = (moving.batch(index, 1, step)[0] for step in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


@pytest.mark.parametrize("share", [0.25, 1.0, 2.5])
def test_duplicates_and_noisy_copies_are_added_beside_the_originals(share: float) -> None:
    for noise in (0.0, 0.3):
        added = augmentation(added=share, added_noise=noise)
        order = added.order(1)
        assert len(order) == 12 + round(12 * share)
        images, labels, _ = added.batch(torch.arange(len(order)), 1, 0)
        assert torch.equal(images[:12], IMAGES)
        copies = images[12:]
        assert torch.equal(labels[12:], DATA.labels[added.copies])
        same = torch.equal(copies, IMAGES[added.copies])
        assert same == (noise == 0)
        assert (copies - IMAGES[added.copies]).abs().max() < 6 * noise + 1e-9
        assert copies.min() >= 0
        assert copies.max() <= 1


def test_no_angle_and_no_shift_is_the_same_image() -> None:
    assert torch.allclose(moved(IMAGES, 0.0, 0.0, random()), IMAGES, atol=1e-5)


class Fixed:
    """A generator that always draws the largest value."""

    def uniform(self, _low: float, high: float, size: object) -> np.ndarray:
        return np.full(size, high)  # type: ignore[call-overload, no-any-return]


def test_a_quarter_turn_of_a_square_is_exact() -> None:
    square = IMAGES[..., :6]
    turned = moved(square, 90.0, 0.0, Fixed())  # type: ignore[arg-type]
    expected = [torch.rot90(square, k, (2, 3)) for k in (1, -1)]
    assert any(torch.allclose(turned, e, atol=1e-4) for e in expected)


def test_a_half_turn_of_a_rectangle_is_exact() -> None:
    turned = moved(IMAGES, 180.0, 0.0, Fixed())  # type: ignore[arg-type]
    assert torch.allclose(turned, IMAGES.flip(2, 3), atol=1e-4)


def test_a_shift_by_half_moves_by_half_of_each_side_and_brings_in_black() -> None:
    shifted = moved(IMAGES, 0.0, 0.5, Fixed())  # type: ignore[arg-type]
    assert torch.allclose(shifted[:, :, :3, :4], IMAGES[:, :, 3:, 4:], atol=1e-4)
    assert shifted[:, :, 3:].abs().max() < 1e-4


def test_mixed_images_and_targets_mix_alike() -> None:
    targets = torch.nn.functional.one_hot(DATA.labels, 3).float()
    marked = targets.argmax(dim=1).float().view(-1, 1, 1, 1) / 2 * torch.ones(12, 1, 6, 8)
    for mix in (mixup, cutmix):
        images, mixed = mix(marked, targets, 1.0, random())
        assert torch.allclose(mixed.sum(dim=1), torch.ones(12), atol=1e-6)
        # the mean pixel is the mean class: both mix by the same share
        mean = images.mean(dim=(1, 2, 3))
        assert torch.allclose(mean, mixed @ torch.tensor([0.0, 0.5, 1.0]), atol=1e-5)
        assert not torch.equal(mixed, targets)


def test_label_smoothing_and_mixing_give_probabilities() -> None:
    both = augmentation(label_smoothing=0.3, mixup=0.4, cutmix=1.0)
    smooth = augmentation(label_smoothing=0.3).batch(torch.arange(12), 1, 0)[2]
    assert smooth[0].tolist() == pytest.approx([0.8, 0.1, 0.1])
    for step in range(4):
        targets = both.batch(torch.arange(12), 1, step)[2]
        assert torch.allclose(targets.sum(dim=1), torch.ones(12), atol=1e-6)


def test_pixmix_mixes_some_images_and_stays_in_range() -> None:
    pictures = drawn((1, 6, 8), random())
    assert pictures.shape == (300, 1, 6, 8)
    assert pictures.amin() == 0
    assert pictures.amax() == 1
    assert pictures.flatten(1).std(dim=1).min() > 0.01
    assert len({tuple(p.flatten().tolist()) for p in pictures}) == 300
    mixed = pixmixed(IMAGES, pictures, 4, random())
    assert mixed.min() >= 0
    assert mixed.max() <= 1
    changed = (mixed != IMAGES).flatten(1).any(dim=1)
    assert changed.any()


def test_features_cannot_be_rotated() -> None:
    table = Labelled(torch.rand(4, 3), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(InputError, match="rotation: for images only"):
        Augmentation.of(Recipe(rotation=5.0), table, 2, 0)
    images, _, targets = Augmentation.of(Recipe(mixup=1.0), table, 2, 0).batch(
        torch.arange(4), 1, 0
    )
    assert images.shape == (4, 3)
    assert targets.shape == (4, 2)
