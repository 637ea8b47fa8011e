"""Noise in each pixel and channel."""

import numpy as np

from robsweep.tasks.shift.severity import Images, Randoms, at, drawn, grey


def shot_noise(images: Images, severity: int, randoms: Randoms) -> Images:
    """Counts of photons, Poisson around each pixel times the photons that white is.

    Source: Mu & Gilmer 2019 (grey), Hendrycks & Dietterich 2019 (colour).
    """
    photons = at(severity, (60, 25, 12, 5, 3) if grey(images) else (500, 250, 100, 75, 50))
    expected = images.astype(np.float64) * photons
    counts = [random.poisson(rate) for random, rate in zip(randoms, expected, strict=True)]
    return np.minimum(np.stack(counts) / photons, 1)


def impulse_noise(images: Images, severity: int, randoms: Randoms) -> Images:
    """A share of the pixels becomes 0 or 1, equally often.

    Source: Mu & Gilmer 2019 (grey), Hendrycks & Dietterich 2019 (colour).
    """
    grey_share, colour_share = (0.03, 0.06, 0.09, 0.17, 0.27), (0.01, 0.02, 0.03, 0.05, 0.07)
    share = at(severity, grey_share if grey(images) else colour_share)
    hit, salt = np.stack([random.random((2, *images.shape[1:])) for random in randoms], axis=1)
    return np.where(hit < share, np.where(salt < 0.5, 1.0, 0.0), images)


def speckle_noise(images: Images, severity: int, randoms: Randoms) -> Images:
    """Normal noise that is in proportion to the pixel.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour).
    """
    of_grey, of_colour = (0.15, 0.2, 0.35, 0.45, 0.6), (0.06, 0.1, 0.12, 0.16, 0.2)
    std = at(severity, of_grey if grey(images) else of_colour)
    noisy: Images = images * drawn(randoms, images.shape[1:], 1, std)
    return noisy.clip(0, 1)


def cifar_gaussian_noise(images: Images, severity: int, randoms: Randoms) -> Images:
    """Normal noise.

    Source: Hendrycks & Dietterich 2019.
    """
    std = at(severity, (0.04, 0.06, 0.08, 0.09, 0.1))
    noisy: Images = images + drawn(randoms, images.shape[1:], 0, std)
    return noisy.clip(0, 1)
