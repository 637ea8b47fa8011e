"""Brightness, saturation and contrast of colour images (N, 3, height, width).

Source: Hendrycks & Dietterich 2019, who go by way of hue, saturation and value; closed forms here.
"""

import numpy as np

from robsweep.tasks.shift.severity import Images, Randoms, at


def cifar_brightness(images: Images, severity: int, randoms: Randoms) -> Images:
    """Raises the value, the largest of the three colours, by 0.05 to 0.3; hue and saturation stay.

    Source: Hendrycks & Dietterich 2019.
    """
    value = images.astype(np.float64).max(axis=1, keepdims=True)
    brighter = np.minimum(value + at(severity, (0.05, 0.1, 0.15, 0.2, 0.3)), 1)
    raised: Images = np.where(value > 0, images / np.where(value > 0, value, 1), 1) * brighter
    return raised


def saturate(images: Images, severity: int, randoms: Randoms) -> Images:
    """Multiplies the saturation, and adds to it; hue and value stay. Grey is taken for a pale red.

    Source: Hendrycks & Dietterich 2019.
    """
    factor, added = at(severity, ((0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)))
    value = images.astype(np.float64).max(axis=1, keepdims=True)
    below = value - images  # value * saturation, times what hue says of a colour
    chroma = below.max(axis=1, keepdims=True)
    saturation = chroma / np.where(value > 0, value, 1)
    red = np.array([0.0, 1.0, 1.0])[:, None, None]
    of_hue = np.where(chroma > 0, below / np.where(chroma > 0, chroma, 1), red)
    changed: Images = value * (1 - np.clip(saturation * factor + added, 0, 1) * of_hue)
    return changed


def cifar_contrast(images: Images, severity: int, randoms: Randoms) -> Images:
    """Shrinks every pixel towards its channel's mean, to 75 to 15 % of the distance.

    Source: Hendrycks & Dietterich 2019.
    """
    flat = images.reshape(*images.shape[:2], -1).astype(np.float64)
    mean = flat.mean(axis=2)[:, :, None, None]
    shrunk: Images = (images - mean) * at(severity, (0.75, 0.5, 0.4, 0.3, 0.15)) + mean
    return shrunk.clip(0, 1)
