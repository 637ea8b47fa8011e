"""Images of rubber."""

import numpy as np
from scipy import ndimage

from robsweep.tasks.shift.severity import Images, Randoms, at, grey


def elastic_transform(images: Images, severity: int, randoms: Randoms) -> Images:
    """Pulls at three points of an image, and then at each pixel, near ones alike.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour), after Simard et
    al. 2003.
    """
    # how far pixels move, how alike near ones do, how far the three points move; shares of a side
    of_grey = ((2, 0.7, 0.1), (2, 0.08, 0.2), (0.05, 0.01, 0.02), (0.07, 0.01, 0.02),
               (0.12, 0.01, 0.02))  # fmt: skip
    of_colour = ((0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05),
                 (0.1, 0.03, 0.03))  # fmt: skip
    far, alike, corner = at(severity, of_grey if grey(images) else of_colour)
    height, width = images.shape[2:]
    side = min(height, width)
    first, second = ("grid-constant", "constant") if grey(images) else ("mirror", "reflect")
    grid = np.mgrid[:height, :width].astype(np.float64)
    pulled = np.empty(images.shape)
    for i, random in enumerate(randoms):
        matrix, offset = _affine(height, width, random.uniform(-corner, corner, (3, 2)) * side)
        noise = random.uniform(-1, 1, (2, height, width))
        blur = (0, alike * side, alike * side)
        moves = ndimage.gaussian_filter(noise, blur, mode="reflect", truncate=3) * far * side
        for k, channel in enumerate(images[i].astype(np.float64)):
            placed = ndimage.affine_transform(channel, matrix, offset, order=1, mode=first)
            ndimage.map_coordinates(placed, grid + moves, pulled[i, k], order=1, mode=second)
    return np.clip(pulled, 0, 1)


def _affine(height: int, width: int, moves: Images) -> tuple[Images, Images]:
    """Matrix (2, 2) and offset (2,) from a pixel (row, column) to where it comes from.

    Three points around the centre move by (3, 2).
    """
    centre, square = np.array([height // 2, width // 2]), min(height, width) // 3
    points = centre + square * np.array([[1, 1], [-1, 1], [-1, -1]])
    to = np.concatenate([points + moves, np.ones((3, 1))], axis=1)
    solved = np.linalg.solve(to, points.astype(np.float64))  # to @ solved = points
    return solved[:2].T, solved[2]
