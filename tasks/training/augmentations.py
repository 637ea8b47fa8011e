"""What is done to a batch before a model is trained on it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from robsweep.tasks.data.load import Labelled
from robsweep.tasks.errors import InputError
from robsweep.tasks.shift.moves import beside, moved
from robsweep.tasks.training.mixing_set import drawn
from robsweep.tasks.training.recipe import Recipe


@dataclass(frozen=True)
class Augmentation:
    """Batches of a training split; each a function of (seed, epoch, step), whoever asks."""

    recipe: Recipe
    data: Labelled
    classes: int
    seed: int
    copies: Tensor  # of which samples there is a copy beside the original
    mixing_set: Tensor  # (M, *shape); empty without PixMix

    @classmethod
    def of(cls, recipe: Recipe, data: Labelled, classes: int, seed: int) -> "Augmentation":
        shape = tuple(data.images.shape[1:])
        spatial = {
            "rotation": recipe.rotation, "shift": recipe.shift,
            "cutmix": recipe.cutmix, "pixmix": recipe.pixmix,
        }  # fmt: skip
        if len(shape) != 3 and any(spatial.values()):
            used = ", ".join(name for name, value in spatial.items() if value)
            raise InputError(f"{used}: for images only, this data set has inputs of shape {shape}")
        samples = len(data.labels)
        random = np.random.default_rng([seed, 1])
        chosen = np.resize(random.permutation(samples), round(recipe.added * samples))
        mixing_set = drawn(shape, random) if recipe.pixmix else torch.empty(0, *shape)
        device = data.images.device
        copies = torch.from_numpy(chosen.astype(np.int64)).to(device)
        return cls(recipe, data, classes, seed, copies, mixing_set.to(device))

    def order(self, epoch: int) -> Tensor:
        """All samples of an epoch, shuffled; an index behind the originals is a copy."""
        random = np.random.default_rng([self.seed, 2, epoch])
        order = random.permutation(len(self.data.labels) + len(self.copies))
        return torch.from_numpy(order).to(self.data.images.device)

    def batch(self, index: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, *shape) in [0, 1], labels (N,), targets: labels, or probabilities (N, K)."""
        recipe, samples = self.recipe, len(self.data.labels)
        random = np.random.default_rng([self.seed, 3, epoch, step])
        copied = index >= samples
        if len(self.copies):
            place = (index - samples).clamp(min=0)
            index = torch.where(copied, self.copies[place], index)
        images, labels = self.data.images[index], self.data.labels[index]
        if len(self.copies) and recipe.added_noise:
            noise = recipe.added_noise * _normal(images, random)
            noisy = (images + noise).clamp(0, 1)
            images = torch.where(copied.view(-1, *[1] * (images.ndim - 1)), noisy, images)
        if recipe.rotation or recipe.shift:
            images = moved(images, recipe.rotation, recipe.shift, random)
        if recipe.pixmix:
            images = pixmixed(images, self.mixing_set, recipe.pixmix, random)
        targets = labels
        if recipe.label_smoothing:
            targets = F.one_hot(labels, self.classes) * (1 - recipe.label_smoothing)
            targets = targets + recipe.label_smoothing / self.classes
        mixes = [(mixup, recipe.mixup), (cutmix, recipe.cutmix)]
        chosen = [(mix, alpha) for mix, alpha in mixes if alpha]
        if chosen:
            mix, alpha = chosen[int(random.integers(len(chosen)))]
            if not recipe.label_smoothing:
                targets = F.one_hot(labels, self.classes).to(images.dtype)
            images, targets = mix(images, targets, alpha, random)
        return images, labels, targets


def mixup(
    images: Tensor, targets: Tensor, alpha: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Convex combinations of pairs.

    Source: Zhang et al. 2018, section 2.
    """
    kept = float(random.beta(alpha, alpha))
    other = _permutation(images, random)
    mixed = kept * images + (1 - kept) * images[other]
    return mixed, kept * targets + (1 - kept) * targets[other]


def cutmix(
    images: Tensor, targets: Tensor, alpha: float, random: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A rectangle of each image comes from another one; targets mix by its area.

    Source: Yun et al. 2019, section 3.1.
    """
    height, width = images.shape[2:]
    side = np.sqrt(1 - random.beta(alpha, alpha))
    y, x = random.integers(height), random.integers(width)
    top, bottom = (int(np.clip(y + k * height * side / 2, 0, height)) for k in (-1, 1))
    left, right = (int(np.clip(x + k * width * side / 2, 0, width)) for k in (-1, 1))
    other = _permutation(images, random)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images[other, :, top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, kept * targets + (1 - kept) * targets[other]


def pixmixed(
    images: Tensor, mixing_set: Tensor, rounds: int, random: np.random.Generator, beta: float = 3.0
) -> Tensor:
    """Mixes each image up to `rounds` times with pictures of no class, or with itself, moved.

    Simpler than the paper's: a move (rotation and shift) is the only augmentation, and weights are
    never negative.
    Source: after Hendrycks et al. 2022, section 3 (PixMix).
    """
    count = len(images)
    turned = moved(images, 30.0, 0.1, random)
    mixed = torch.where(_coins(images, random), images, turned)
    depth = _per_image(images, random.integers(rounds + 1, size=count))
    for k in range(rounds):
        picked = beside(images, random.integers(len(mixing_set), size=count))
        picture = torch.where(_coins(images, random), mixing_set[picked], turned)
        first = _per_image(images, random.beta(beta, 1, count))
        second = _per_image(images, random.beta(1, beta, count))
        # additive in [-1, 1]; multiplicative around 1: the means of both stay where they were
        added = (first * (2 * mixed - 1) + second * (2 * picture - 1) + 1) / 2
        multiplied = (2 * mixed) ** first * (2 * picture).clamp(min=1e-6) ** second / 2
        step = torch.where(_coins(images, random), added, multiplied).clamp(0, 1)
        mixed = torch.where(depth > k, step, mixed)
    return mixed


def _permutation(images: Tensor, random: np.random.Generator) -> Tensor:
    return beside(images, random.permutation(len(images)))


def _per_image(images: Tensor, values: np.ndarray) -> Tensor:
    return beside(images, values.astype(np.float32)).view(-1, *[1] * (images.ndim - 1))


def _coins(images: Tensor, random: np.random.Generator) -> Tensor:
    return _per_image(images, random.integers(2, size=len(images))) > 0


def _normal(images: Tensor, random: np.random.Generator) -> Tensor:
    generator = torch.Generator(images.device).manual_seed(int(random.integers(2**62)))
    return torch.randn(images.shape, generator=generator, device=images.device)
