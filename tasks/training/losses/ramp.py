"""Linear schedules over the first epochs of a training."""

from collections.abc import Callable

from robsweep.tasks.errors import InputError
from robsweep.tasks.training.fit import Batch, Setup


def ramp(setup: Setup, ramp_epochs: float) -> Callable[[Batch], float]:
    """Of a batch: how much of the first `ramp_epochs` lies behind, from 0 to 1; 1 without a ramp.

    Raises:
        InputError: The ramp is longer than the training.
    """
    if not 0 <= ramp_epochs <= setup.epochs:
        raise InputError(
            f"ramp_epochs is {ramp_epochs:g}, the training has {setup.epochs} epochs: it must lie "
            f"between 0 and that"
        )
    if ramp_epochs == 0:
        return lambda _batch: 1.0
    return lambda batch: min(1.0, batch.progress * setup.epochs / ramp_epochs)
