"""Lines over an image, and stripes beside it.

Lines are drawn on a canvas of 28x28 that is stretched over images of other sizes. MNIST-C has one
strength of each: severity 3 of `stripe`, severity 1 of the others.
"""

import numpy as np

from robsweep.tasks.shift.severity import Images, Randoms, at

_LAST = 27  # pixel of the canvas


def stripe(images: Images, severity: int, randoms: Randoms) -> Images:
    """Inverts a share of the columns at the left and at the right: 3, 5, 7, 9, 11 of 28.

    Source: Mu & Gilmer 2019, who have 7 of 28; the other widths are ours.
    """
    width = images.shape[3]
    columns = round(at(severity, (3, 5, 7, 9, 11)) * width / 28)
    position = np.arange(width)
    beside = (position < columns) | (position >= width - columns)
    return np.where(beside, 1 - images, images)


def dotted_line(images: Images, severity: int, randoms: Randoms) -> Images:
    """As many dotted lines from the left to the right as the severity says.

    Source: Mu & Gilmer 2019, who have one; more than one are ours.
    """
    lines = at(severity, (1, 2, 3, 4, 5))
    ends = np.stack([random.integers(0, _LAST, (5, 2)) for random in randoms])
    dot = max(1, round(2 * images.shape[3] / 28))  # pixels
    dots = (np.arange(images.shape[3]) // dot) % 2 == 1
    drawn = images.astype(np.float64)
    zero = np.zeros(len(images))
    for k in range(lines):
        line = _line(images, zero, ends[:, k, 0], zero + _LAST, ends[:, k, 1])
        drawn = np.minimum(drawn + line * dots, 1)
    return drawn


def zigzag(images: Images, severity: int, randoms: Randoms) -> Images:
    """As many zigzags from the left to the right as the severity says.

    Source: Mu & Gilmer 2019, who have one; more than one are ours.
    """
    lines = at(severity, (1, 2, 3, 4, 5))
    starts = np.stack([random.integers(0, _LAST, 5) for random in randoms])
    rises = np.stack([random.integers(-5, 5, 5) for random in randoms])
    drawn = images.astype(np.float64)
    for k in range(lines):
        columns, rows = _corners(starts[:, k], rises[:, k])
        for i in range(1, columns.shape[1]):
            ends = columns[:, i - 1], rows[:, i - 1], columns[:, i], rows[:, i]
            drawn = np.minimum(drawn + _line(images, *ends), 1)
    return drawn


def _corners(start: Images, rise: Images) -> tuple[Images, Images]:
    """Columns and rows (N, 8) of the corners of zigzags from column 2 to column 25."""
    left, right, half = 2.0, 25.0, 2.0  # half a period, and how far it swings
    angle = np.arctan(rise / (right - left))
    length = (right - left) / np.cos(angle)  # 23 to 23.6: as many corners for all
    swings = np.arange(int((length.min() - half) // (2 * half)) + 1)
    along = np.tile((2 * swings + 1) * half, (len(start), 1))
    across = np.tile((-1.0) ** swings * half, (len(start), 1))
    rest = length - 2 * half * (length // (2 * half))
    zero = np.zeros((len(start), 1))
    along = np.concatenate([zero, along, length[:, None]], axis=1)
    across = np.concatenate([zero, across, across[:, -1:] / (2 * rest[:, None])], axis=1)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    return cos * along - sin * across + left, sin * along + cos * across + start[:, None]


def _line(images: Images, c0: Images, r0: Images, c1: Images, r1: Images) -> Images:
    """A line (N, 1, height, width) from column c0 to c1, darker by the logarithm of the distance.

    On small images it is thicker on the canvas, so that no line falls between two pixels.
    """
    height, width = images.shape[2:]
    columns = np.arange(width) * _LAST / (width - 1)
    rows = np.arange(height) * _LAST / (height - 1)
    thickness = 2.3 * max(1.0, 14 / min(height, width))
    c0, r0, c1, r1 = (np.asarray(end, dtype=np.float64)[:, None, None] for end in (c0, r0, c1, r1))
    middle = (r1 - r0) / (c1 - c0) * (columns - c0) + r0
    distance = np.minimum(np.abs(rows[:, None] - middle), thickness - 1e-10)
    inked = np.maximum(np.log(1 - distance / thickness) + 1, 0)
    inside = (columns >= np.floor(c0)) & (columns < np.ceil(c1))
    line: Images = inked * inside
    return line[:, None]
