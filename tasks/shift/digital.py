"""What is lost when images are stored."""

from io import BytesIO

import numpy as np

from robsweep.tasks.catalogue.code.install import how_to_install
from robsweep.tasks.errors import InputError
from robsweep.tasks.shift.severity import Images, Randoms, at, grey


def pixelate(images: Images, severity: int, randoms: Randoms) -> Images:
    """Shrinks to 95 to 65 % of the sides (grey: 60 to 25 %), and enlarges again.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour); Pillow's BOX.
    """
    of_grey, of_colour = (0.6, 0.5, 0.4, 0.3, 0.25), (0.95, 0.9, 0.85, 0.75, 0.65)
    share = at(severity, of_grey if grey(images) else of_colour)
    down, across = (_pixelation(side, int(side * share)) for side in images.shape[2:])
    pixelated: Images = down @ images.astype(np.float64) @ across.T
    return pixelated.clip(0, 1)


def jpeg_compression(images: Images, severity: int, randoms: Randoms) -> Images:
    """Stores as JPEG, at a quality of 80 to 40 (grey: 25 to 7).

    Images of 1 or 3 channels. Decoders differ in last bits: rows are those of one Pillow.

    Raises:
        InputError: Pillow is not there.

    Source: Mu & Gilmer 2019's code (grey), Hendrycks & Dietterich 2019 (colour).
    """
    quality = at(severity, (25, 18, 15, 10, 7) if grey(images) else (80, 65, 58, 50, 40))
    try:
        from PIL import Image
    except ImportError as error:
        raise InputError(f"jpeg_compression needs Pillow: {how_to_install('data')}") from error
    stored = np.empty(images.shape)
    for i, image in enumerate(np.round(images * 255).astype(np.uint8)):
        file = BytesIO()
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        with Image.open(file) as read:
            back = np.asarray(read, dtype=np.float64) / 255
        stored[i] = back if len(image) == 1 else back.transpose(2, 0, 1)
    return stored


def _pixelation(side: int, fewer: int) -> Images:
    there_and_back: Images = _boxes(fewer, side) @ _boxes(side, fewer)
    return there_and_back


def _boxes(of: int, to: int) -> Images:
    """Weights (to, of) of a line of pixels in one of another length: the mean of a box each."""
    ratio = of / to
    half = max(ratio, 1) / 2
    centre = (np.arange(to)[:, None] + 0.5) * ratio
    offset = np.arange(of) + 0.5 - centre
    inside = ((offset > -half) & (offset <= half)).astype(np.float64)
    weights: Images = inside / inside.sum(axis=1, keepdims=True)
    return weights
