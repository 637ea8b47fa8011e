"""Pictures of no class for PixMix, drawn by ourselves: fractals, gratings and coloured noise."""

import numpy as np
import torch
from torch import Tensor

_COUNT = 300  # a third of each kind
_POINTS = 4000


def drawn(shape: tuple[int, ...], random: np.random.Generator) -> Tensor:
    """Pictures (300, channels, height, width) in [0, 1], each stretched over the whole range.

    Source: Hendrycks et al. 2022, section 3, which mixes with fractals of iterated functions.
    """
    channels, height, width = shape
    kinds = (_fractal, _grating, _noise)
    pictures = [
        np.stack([kinds[k % len(kinds)](height, width, random) for _ in range(channels)])
        for k in range(_COUNT)
    ]
    return torch.from_numpy(np.stack(pictures).astype(np.float32))


def _fractal(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Attractor of a few random contractions, by the chaos game on many points at once."""
    count = int(random.integers(2, 5))
    maps = random.uniform(-1, 1, (count, 2, 2))
    maps *= 0.8 / np.linalg.norm(maps, ord=2, axis=(1, 2))[:, None, None]
    offsets = random.uniform(-1, 1, (count, 2))
    points = random.uniform(-1, 1, (_POINTS, 2))
    for _ in range(20):
        chosen = random.integers(count, size=_POINTS)
        points = np.einsum("nij,nj->ni", maps[chosen], points) + offsets[chosen]
    hits, _, _ = np.histogram2d(points[:, 0], points[:, 1], bins=(height, width))
    return _stretched(np.log1p(hits))


def _grating(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:height, :width] / max(height, width)
    waves = [
        np.sin(2 * np.pi * (fy * y + fx * x) + phase)
        for fy, fx, phase in random.uniform(-8, 8, (3, 3))
    ]
    return _stretched(np.sum(waves, axis=0))


def _noise(height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Noise whose spectrum falls as a power of the frequency."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    size = np.maximum(np.hypot(fy, fx), 1 / max(height, width))
    spectrum = size ** -random.uniform(0.5, 2) * np.exp(
        2j * np.pi * random.uniform(size=size.shape)
    )
    return _stretched(np.fft.irfft2(spectrum, s=(height, width)))


def _stretched(picture: np.ndarray) -> np.ndarray:
    low, high = picture.min(), picture.max()
    return np.asarray((picture - low) / max(high - low, 1e-12))
