"""What glass, a moving camera and a lens out of focus do."""

import numpy as np
from scipy import ndimage

from robsweep.tasks.shift.severity import Images, Randoms, at, grey, pixel


def glass_blur(images: Images, severity: int, randoms: Randoms) -> Images:
    """Blurs, shuffles pixels with near ones, and blurs again.

    As in the published code, grey images are blurred along columns only (their width is taken for
    channels there) and a pixel moves at every other step; in colour each pixel moves, and what is
    said to be a swap is a copy.

    Source: Mu & Gilmer 2019 (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # standard deviation and reach in pixels, rounds
    of_grey = ((0.7, 1, 2), (0.9, 2, 1), (1.0, 2, 3), (1.1, 3, 2), (1.5, 4, 2))
    of_colour = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
    std, reach, rounds = at(severity, of_grey if grey(images) else of_colour)
    scale, swaps = pixel(images), grey(images)
    reach = max(1, round(reach * scale))
    sigma = (0, 0, std * scale, 0 if swaps else std * scale)
    blurred = ndimage.gaussian_filter(images.astype(np.float64), sigma, mode="nearest")
    blurred = np.floor(np.clip(blurred, 0, 1) * 255) / 255
    count, _, height, width = images.shape
    rows, columns = range(height - reach, reach, -1), range(width - reach, reach, -1)
    steps = (rounds, len(rows), len(columns))
    moves = np.stack([random.integers(-reach, reach, (2, *steps)) for random in randoms], axis=1)
    moving = np.stack([random.random(steps) < 0.5 for random in randoms])
    if not swaps:
        moving[:] = True
    moves *= moving
    every = np.arange(count)
    for k in range(rounds):
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                from_row, from_column = row + moves[0, :, k, i, j], column + moves[1, :, k, i, j]
                there = blurred[every, :, from_row, from_column]
                if swaps:
                    blurred[every, :, from_row, from_column] = blurred[:, :, row, column]
                blurred[:, :, row, column] = there
    blurred = ndimage.gaussian_filter(blurred, sigma, mode="nearest")
    shuffled: Images = np.clip(blurred, 0, 1)
    return shuffled


def motion_blur(images: Images, severity: int, randoms: Randoms) -> Images:
    """Averages along a line to one side, at an angle of -45 to 45 degrees.

    Source: Mu & Gilmer 2019 (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # radius and standard deviation in pixels
    of_grey = ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))
    of_colour = ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))
    radius, std = at(severity, of_grey if grey(images) else of_colour)
    angles = np.array([random.uniform(-45, 45) for random in randoms])
    return smeared(images, radius * pixel(images), std * pixel(images), angles)


def smeared(images: Images, radius: float, std: float, angles: Images) -> Images:
    """Averages 2 * radius + 1 pixels, with the weights of half a Gaussian, along angles (N,).

    Degrees, from rightwards to downwards; beyond the border stand the pixels of the border.

    Source: ImageMagick's MotionBlurImage, which the published corruptions call.
    """
    _, _, height, width = images.shape
    taps = np.arange(2 * int(np.ceil(radius)) + 1)
    weights = np.exp(-(taps**2) / (2 * std**2))
    weights /= weights.sum()
    radians = np.deg2rad(angles)[:, None]
    down = np.ceil(taps * np.sin(radians) - 0.5).astype(np.int64)
    right = np.ceil(taps * np.cos(radians) - 0.5).astype(np.int64)
    blurred = np.zeros(images.shape)
    flat = images.reshape(*images.shape[:2], height * width)
    for k, weight in enumerate(weights):
        rows = np.clip(np.arange(height) + down[:, k, None], 0, height - 1)
        columns = np.clip(np.arange(width) + right[:, k, None], 0, width - 1)
        index = (rows[:, :, None] * width + columns[:, None, :]).reshape(len(images), 1, -1)
        blurred += weight * np.take_along_axis(flat, index, axis=2).reshape(images.shape)
    return np.clip(blurred, 0, 1)


def gaussian_blur(images: Images, severity: int, randoms: Randoms) -> Images:
    """Blurs by a Gaussian.

    Source: Mu & Gilmer 2019's code (grey; along both sides here), Hendrycks & Dietterich 2019.
    """
    std = at(severity, (1, 2, 3, 4, 6) if grey(images) else (0.4, 0.6, 0.7, 0.8, 1)) * pixel(images)
    sigma = (0, 0, std, std)
    blurred: Images = ndimage.gaussian_filter(images.astype(np.float64), sigma, mode="nearest")
    return blurred.clip(0, 1)


def defocus_blur(images: Images, severity: int, randoms: Randoms) -> Images:
    """Averages over a disk with a soft rim.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # radius in pixels, and standard deviation of the rim
    of_grey = ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))
    of_colour = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))
    radius, rim = at(severity, of_grey if grey(images) else of_colour)
    size = pixel(images)
    # a disk of less than a pixel would change nothing on small images
    kernel = disk(max(radius * size, min(radius, 1)), rim * size, 1 if radius <= 8 else 2)
    values = images.astype(np.float64)
    blurred: Images = ndimage.correlate(values, kernel[None, None], mode="mirror")
    return blurred.clip(0, 1)


def disk(radius: float, rim: float, reach: int) -> Images:
    """Weights of a disk, blurred by a Gaussian of this deviation that is cut off at `reach`."""
    side = np.arange(-int(radius) - reach, int(radius) + reach + 1)
    inside = (side**2 + side[:, None] ** 2 <= radius**2).astype(np.float64)
    taps = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * rim**2))
    for axis in (0, 1):
        inside = ndimage.correlate1d(inside, taps / taps.sum(), axis, mode="constant")
    weights: Images = inside / inside.sum()
    return weights


def zoom_blur(images: Images, severity: int, randoms: Randoms) -> Images:
    """The mean of an image and of its zooms into the middle.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour).
    """
    # how far at most, in which steps
    of_grey = ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))
    of_colour = ((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01))
    stop, step = at(severity, of_grey if grey(images) else of_colour)
    factors = np.arange(1, stop, step)
    total: Images = images.astype(np.float64)
    for factor in factors:
        total = total + zoomed(images, float(factor))
    return (total / (len(factors) + 1)).clip(0, 1)


def zoomed(images: Images, factor: float) -> Images:
    """The middle of images (N, channels, height, width), as large as they are; bilinear."""
    down, across = (_zoom_matrix(side, factor) for side in images.shape[2:])
    larger: Images = down @ images.astype(np.float64) @ across.T
    return larger


def _zoom_matrix(side: int, factor: float) -> Images:
    """What SciPy makes of the middle of a line of pixels, as a matrix; its middle again."""
    kept = int(np.ceil(side / factor))
    top = (side - kept) // 2
    larger = ndimage.zoom(np.eye(side)[top : top + kept], (factor, 1), order=1)
    trim = (len(larger) - side) // 2
    matrix: Images = larger[trim : trim + side]
    return matrix
