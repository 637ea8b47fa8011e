"""What a convolutional network asks of its inputs."""

from robsweep.tasks.errors import InputError


def image_shape(name: str, shape: tuple[int, ...], smallest: int) -> tuple[int, int, int]:
    """(channels, height, width) of one input.

    Raises:
        InputError: Inputs are no images, or smaller than `smallest` pixels on a side.
    """
    if len(shape) != 3 or min(shape[1:]) < smallest:
        raise InputError(
            f"model {name!r} needs images (channels, height, width) of at least "
            f"{smallest}x{smallest} pixels, got inputs of shape {tuple(shape)}; try 'mlp'"
        )
    depth, height, width = shape
    return depth, height, width
