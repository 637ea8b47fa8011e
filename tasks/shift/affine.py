"""Images sheared, turned, shrunk and moved about their centre; what comes in from outside is 0."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from robsweep.tasks.shift.severity import Images, Randoms, at


def shear(images: Images, severity: int, randoms: Randoms) -> Images:
    """Rows move sideways, the further the further from the middle, to a random side.

    By an angle of 0.2 to 1 rad, and stretched in height, as scikit-image had it at the time.

    Source: Mu & Gilmer 2019.
    """
    angle = _signs(randoms) * at(severity, (0.2, 0.4, 0.6, 0.8, 1.0))
    zero = np.zeros_like(angle)
    return placed(images, _matrices(np.cos(angle), zero, -np.sin(angle), zero + 1))


def rotate(images: Images, severity: int, randoms: Randoms) -> Images:
    """Turns by 0.2 to 1 rad (11 to 57 degrees), to a random side.

    Source: Mu & Gilmer 2019.
    """
    angle = _signs(randoms) * at(severity, (0.2, 0.4, 0.6, 0.8, 1.0))
    return placed(images, turn(angle))


def scale(images: Images, severity: int, randoms: Randoms) -> Images:
    """Shrinks to 90 to 50 % of height and width.

    Source: Mu & Gilmer 2019.
    """
    grown = np.full(len(randoms), 1 / at(severity, (0.9, 0.8, 0.7, 0.6, 0.5)))
    zero = np.zeros_like(grown)
    return placed(images, _matrices(grown, zero, zero, grown))


def translate(images: Images, severity: int, randoms: Randoms) -> Images:
    """Moves by 1 to 5 pixels of 28 along both sides, each in a random direction.

    Source: Mu & Gilmer 2019.
    """
    signs = np.stack([random.choice([-1.0, 1.0], 2) for random in randoms])
    unmoved = np.broadcast_to(np.eye(2), (len(randoms), 2, 2))
    return placed(images, unmoved, signs * at(severity, (1, 2, 3, 4, 5)) * pixel_of_28(images))


def rotate_by(
    images: Images,
    severity: int,
    randoms: Randoms,
    *,
    degrees: float,
    dx: float = 0.0,
    dy: float = 0.0,
) -> Images:
    """Turns counter-clockwise by `degrees`, then moves as `translate_by`. Severity is not asked.

    Source: Engstrom et al. 2019, whose worst case is over a grid of these.
    """
    angle = np.full(len(images), np.deg2rad(degrees))
    # the pixel that is moved here was at -(dx, dy), and before the turn still elsewhere
    back = -turn(angle) @ np.array([dy, dx])[:, None]
    return placed(images, turn(angle), back[:, :, 0])


def translate_by(
    images: Images, severity: int, randoms: Randoms, *, dx: float = 0.0, dy: float = 0.0
) -> Images:
    """Moves by `dx` pixels to the right and `dy` down. Severity is not asked.

    Source: Engstrom et al. 2019, whose worst case is over a grid of these.
    """
    unmoved = np.broadcast_to(np.eye(2), (len(images), 2, 2))
    return placed(images, unmoved, np.tile([-dy, -dx], (len(images), 1)))


def turn(angle: Images) -> Images:
    """Matrices (N, 2, 2) of rotations by angles (N,) in rad."""
    return _matrices(np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle))


def placed(images: Images, matrices: Images, shifts: Images | None = None) -> Images:
    """Each pixel from where its matrix (row, column) leads from the centre, plus its shift (N, 2).

    Bilinear.
    """
    centre = (np.array(images.shape[2:]) - 1) / 2
    moved = np.empty(images.shape)
    for i, image in enumerate(images):
        offset = centre - matrices[i] @ centre + (0 if shifts is None else shifts[i])
        for k, channel in enumerate(image.astype(np.float64)):
            ndimage.affine_transform(
                channel, matrices[i], offset, output=moved[i, k], order=1, mode="grid-constant"
            )
    return np.clip(moved, 0, 1)


def pixel_of_28(images: Images) -> float:
    """How many pixels a pixel of MNIST-C is, whose constants count for colour images too."""
    return float(min(images.shape[2:]) / 28)


def _matrices(a: Images, b: Images, c: Images, d: Images) -> NDArray[np.float64]:
    return np.stack([np.stack([a, b], axis=1), np.stack([c, d], axis=1)], axis=1)


def _signs(randoms: Randoms) -> NDArray[np.float64]:
    return np.array([random.choice([-1.0, 1.0]) for random in randoms])
