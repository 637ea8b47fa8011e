"""Images of noise, of whatever shape is asked for."""

import numpy as np

Shape = tuple[int, ...]


def uniform_noise(sample: int, shape: Shape) -> np.ndarray:
    """Each number uniform on [0, 1].

    Source: Liang et al. 2018, section 4.
    """
    return _generator("uniform_noise", sample).random(shape, dtype=np.float32)


def gaussian_noise_images(sample: int, shape: Shape) -> np.ndarray:
    """Each number normal with mean 0.5 and variance 1, clipped to [0, 1].

    Source: Liang et al. 2018, section 4.
    """
    drawn = _generator("gaussian_noise_images", sample).standard_normal(shape, dtype=np.float32)
    return (drawn + np.float32(0.5)).clip(0, 1)


def _generator(name: str, sample: int) -> np.random.Generator:
    return np.random.default_rng([sample, *name.encode()])
