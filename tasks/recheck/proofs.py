"""Derives one proof of robustness again, or refutes it."""

from typing import NamedTuple

import numpy as np

from robsweep.tasks.recheck.bounds import Box, ball, intervals, relaxed, worst_corners
from robsweep.tasks.recheck.claims import Outcome
from robsweep.tasks.recheck.layers import Layer, forward, with_margins
from robsweep.tasks.recheck.milp import TOLERANCE, smallest
from robsweep.tasks.recheck.sampling import inside, lowest


class Shown(NamedTuple):
    outcome: Outcome
    detail: str


def derive(
    layers: list[Layer], image: np.ndarray, label: int, eps: float, limit: float, seed: int
) -> Shown:
    """Whether the label beats every other class in the whole box around an image.

    Intervals, then linear relaxation; points are tried whatever these say; then a MILP for each
    class that is left. A tie counts as adversarial.

    Args:
        limit: Seconds for the MILPs together.
        seed: Of the points.
    """
    margins = with_margins(layers, label)
    box = ball(image, eps)
    bounds, how = intervals(margins, box), "by intervals"
    if bounds[-1].lower.min() <= 0:
        bounds, how = relaxed(margins, box), "by linear relaxation"
    starts = np.concatenate(
        [image.astype(np.float64).reshape(1, -1), worst_corners(margins, bounds)]
    )
    point = lowest(margins, box, starts, np.random.default_rng(seed))
    if point.margin <= 0:
        return _refuted(margins, box, point.pixels, "a point that was tried")
    if bounds[-1].lower.min() > 0:
        return Shown("ok", how)
    return _solved(margins, box, bounds, limit)


def _solved(margins: list[Layer], box: Box, bounds: list[Box], limit: float) -> Shown:
    """The MILP's word on the outputs whose bounds leave them open, the lowest bound first."""
    least = bounds[-1].lower
    order = np.array([i for i in np.argsort(least) if least[i] <= 0])
    answers = smallest(margins, bounds, order, limit)
    for answer in answers:
        if answer.pixels is not None:
            pixels = np.clip(np.array(answer.pixels), box.lower, box.upper)
            if forward(margins, pixels[None]).min() <= 0:
                return _refuted(margins, box, pixels, "the solver's point")
        if answer.bound is None or answer.bound <= TOLERANCE:
            why = "its time is over" if answer.late else f"{answer.status}, bound {answer.bound}"
            return Shown("open", f"the solver leaves it open: {why}")
    if len(answers) < len(order):
        return Shown("open", f"the solver died, or was killed after {limit:g} s")
    return Shown("ok", "by MILP")


def _refuted(margins: list[Layer], box: Box, pixels: np.ndarray, what: str) -> Shown:
    margin = float(forward(margins, pixels[None]).min())
    assert inside(box, pixels)
    return Shown("wrong", f"{what} in the box has margin {margin:.3g}")
