"""What one model has done with each sample of one question, and which samples models share."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Part(NamedTuple):
    """Independent samples of one data set."""

    samples: Ints  # (n,), ascending
    values: Floats  # (n, columns), what is known of each


Sampled = tuple[Part, ...]  # one part; or OOD sets, and ID last


class Shared(NamedTuple):
    """Models that are compared on the same samples."""

    members: list[int]  # indices of models
    sampled: list[Sampled]  # theirs, restricted to what they share
    pairs: list[tuple[int, int]]  # of `members`' positions, which no other group has

    @property
    def n(self) -> list[int]:
        return [len(part.samples) for part in self.sampled[0]]


def shared(models: Sequence[Sampled]) -> Iterator[Shared]:
    """All pairs of models, in as few groups as there are different sets of samples.

    Usually all have the same; in a sweep that is half done, each pair is on what both have.
    """
    alike: dict[tuple[bytes, ...], list[int]] = {}
    for index, sampled in enumerate(models):
        key = tuple(part.samples.tobytes() for part in sampled)
        alike.setdefault(key, []).append(index)
    groups = list(alike.values())
    for i, group in enumerate(groups):
        inside = [(a, b) for b in range(len(group)) for a in range(b)]
        yield Shared(group, [models[index] for index in group], inside)
        for other in groups[i + 1 :]:
            common = [
                np.intersect1d(a.samples, b.samples, assume_unique=True)
                for a, b in zip(models[group[0]], models[other[0]], strict=True)
            ]
            members = [*group, *other]
            across = [(a, b) for a in range(len(group)) for b in range(len(group), len(members))]
            yield Shared(members, [_only(models[index], common) for index in members], across)


def on_common(models: Sequence[Sampled]) -> list[Sampled]:
    """All models on the samples that every one of them has."""
    common = [part.samples for part in models[0]]
    for other in models[1:]:
        common = [
            np.intersect1d(a, b.samples, assume_unique=True)
            for a, b in zip(common, other, strict=True)
        ]
    return [_only(model, common) for model in models]


def _only(sampled: Sampled, common: Sequence[Ints]) -> Sampled:
    found = []
    for part, samples in zip(sampled, common, strict=True):
        at = np.searchsorted(part.samples, samples)
        found.append(Part(samples, part.values[at]))
    return tuple(found)
