"""The nearest training image decides."""

import torch
from torch import Tensor, nn

from robsweep.tasks.data.load import Labelled

_CHUNK = 4096  # references that are compared at once


def nearest_neighbour(shape: tuple[int, ...], classes: int, *, samples: int = 0) -> nn.Module:
    """Minus the squared l2 distance to the nearest training image of each class.

    (N, *shape) in [0, 1] -> logits (N, classes).

    Args:
        samples: How many training images, from the first on; 0: all of them.

    Source: Schott et al. 2019, section 5, nearest neighbour.
    """
    return NearestNeighbour(tuple(shape), classes, samples)


class NearestNeighbour(nn.Module):
    """Has no parameters: `finish` gives it its images, which are weights like any others."""

    # buffers of a length that only the training data decides
    sized_by_data = frozenset({"references", "labels"})
    references: Tensor  # (M, *shape), sorted by label
    labels: Tensor  # int64 (M,)

    def __init__(self, shape: tuple[int, ...], classes: int, samples: int) -> None:
        super().__init__()
        self.classes, self.samples = classes, samples
        self.register_buffer("references", torch.empty(0, *shape))
        self.register_buffer("labels", torch.empty(0, dtype=torch.int64))

    def finish(self, train: Labelled) -> None:
        """Takes over the training images."""
        images, labels = train.images, train.labels
        if self.samples:
            images, labels = images[: self.samples], labels[: self.samples]
        order = labels.argsort(stable=True)
        self.references = images[order].to(self.references)
        self.labels = labels[order].to(self.labels)

    def forward(self, images: Tensor) -> Tensor:
        """Logits; a class without a training image is as far away as images can be."""
        farthest = float(images[0].numel())
        nearest, found = self._nearest(images.detach())
        # computed once more, from differences: the search cancels digits, and has no gradient
        difference = images[:, None] - self._images(nearest, images)
        distance = difference.flatten(2).square().sum(2)
        return -torch.where(found, distance, farthest)

    def _images(self, which: Tensor, images: Tensor) -> Tensor:
        if not len(self.references):
            return torch.zeros_like(images)[:, None]
        return self.references[which]

    def _nearest(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Index of the nearest reference of each class (N, K), and which classes have any (K,)."""
        counts = torch.bincount(self.labels, minlength=self.classes)
        best = torch.full((len(images), self.classes), torch.inf, device=images.device)
        index = torch.zeros_like(best, dtype=torch.int64)
        start, flat = 0, images.flatten(1)
        for c, count in enumerate(counts.tolist()):
            for first in range(start, start + count, _CHUNK):
                part = self.references[first : min(first + _CHUNK, start + count)].flatten(1)
                # up to the image's own square, which is the same for all
                distance, where = (part.square().sum(1) - 2 * flat @ part.T).min(1)
                closer = distance < best[:, c]
                best[:, c] = torch.where(closer, distance, best[:, c])
                index[:, c] = torch.where(closer, where + first, index[:, c])
            start += count
        return index, counts > 0
