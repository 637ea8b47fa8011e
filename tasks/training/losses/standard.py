"""Cross entropy on the images as they are, or as the recipe augments them."""

from robsweep.tasks.training.fit import LossFunction, Setup, cross_entropy


def standard(setup: Setup) -> LossFunction:
    del setup
    return cross_entropy
