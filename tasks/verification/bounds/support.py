"""The least value of linear forms where more than a box is known of the input, and where it is.

A constraint is given a multiplier, and the rest is a box, over which a form's least value is a sum.
That bound holds for every multiplier (of the right sign), so there is nothing to trust in how it is
found: by sorting, where it is exact, and by a few steps of an iteration in norm l2. In float64,
bounds are lowered by more than what rounding adds up to.
"""

import torch
from torch import Tensor

from robsweep.tasks.verification.reading.layers import Layer, Linear
from robsweep.tasks.verification.reading.within import Ball, Simplex, Within

_ROUNDING = 1e-11  # of a sum of n float64 terms, relative to their sizes; more than n * 1.2e-16
_WIDER = 1 + 1e-12  # than the radius, as distances are computed in float64
_STEPS = 6

Box = tuple[Tensor, Tensor]


def least(within: Within, rows: Tensor, box: Box) -> Tensor:
    """A lower bound on each form over what lies in its box and `within`.

    Args:
        rows: (R, *shape).
        box: (R, *shape) each, or (1, *shape) for all.

    Returns:
        (R,), differentiable in the rows.
    """
    form = rows.flatten(1)
    lower, upper = (end.flatten(1).to(form) for end in box)
    if isinstance(within, Simplex):
        order = form.argsort(1)
        _, at = _filled(order, (upper - lower).expand_as(form), 1 - lower.sum(1, keepdim=True))
        level = form.gather(1, order.gather(1, at))
        rest = form - level
        parts = torch.where(rest > 0, rest * lower, rest * upper)
        taken, size = level[:, 0], level[:, 0].abs()
    else:
        centre = within.centre.flatten(1).to(form)
        room, gain = _room(form, centre, lower, upper), form.abs()
        level = _multiplier(within, gain, room)
        radius = within.radius * _WIDER
        if within.norm == "l1":
            parts = form * centre - (gain - level).clamp(min=0) * room
            taken = -level[:, 0] * radius
        else:
            moved = _moved(gain, room, level)
            parts = form * centre + moved * (level * moved - gain)
            taken = -level[:, 0] * radius**2
        size = (gain * (centre.abs() + 2 * room)).sum(1) + taken.abs()
    found = taken + parts.sum(1)
    if form.dtype != torch.float64:
        return found
    return found - _ROUNDING * (size + parts.abs().sum(1)).detach()


def lowest(within: Within | None, rows: Tensor, box: Box) -> Tensor:
    """Points (R, *shape) where forms are least; in a ball's case up to rounding, or nearly."""
    if within is None:
        return torch.where(rows > 0, *box)
    form = rows.flatten(1)
    lower, upper = (end.flatten(1).to(form) for end in box)
    if isinstance(within, Simplex):
        order = form.argsort(1)
        width = (upper - lower).expand_as(form)
        taken, _ = _filled(order, width, 1 - lower.sum(1, keepdim=True))
        point = lower + torch.zeros_like(form).scatter(1, order, taken)
    else:
        centre = within.centre.flatten(1).to(form)
        room, gain = _room(form, centre, lower, upper), form.abs()
        if within.norm == "l1":
            order = gain.argsort(1, descending=True)
            radius = torch.full_like(gain[:, :1], within.radius)
            taken, _ = _filled(order, room, radius)
            moved = torch.zeros_like(form).scatter(1, order, taken)
        else:
            moved = _moved(gain, room, _multiplier(within, gain, room))
        point = centre - form.sign() * moved
    return point.reshape(rows.shape)


def narrowed(within: Within, layer: Layer, box: Box) -> Box:
    """Bounds on what a layer makes of the input, no wider than those given."""
    if isinstance(within, Simplex) and isinstance(layer, Linear):
        # each value is a mean of what the corners give
        slack = 1e-11 * (layer.weight.abs().amax(1) + layer.bias.abs())
        low, high = (end + layer.bias for end in (layer.weight.amin(1), layer.weight.amax(1)))
        return torch.maximum(box[0], low - slack), torch.minimum(box[1], high + slack)
    return box


def _filled(order: Tensor, room: Tensor, amount: Tensor) -> tuple[Tensor, Tensor]:
    """Fills places in order until an amount is used up.

    Args:
        order: (R, n) int64.
        room: (R, n), of each place.
        amount: (R, 1).

    Returns:
        What each takes, in that order (R, n), and the last that takes any (R, 1).
    """
    there = room.gather(1, order)
    total = there.cumsum(1)
    taken = torch.minimum((amount - (total - there)).clamp(min=0), there)
    at = (total < amount).sum(1, keepdim=True).clamp(max=room.shape[1] - 1)
    return taken, at


def _room(form: Tensor, centre: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """How far each input can go to where the form falls."""
    return torch.where(form > 0, centre - lower, upper - centre).clamp(min=0)


def _multiplier(ball: Ball, gain: Tensor, room: Tensor) -> Tensor:
    """Of the constraint on the distance, (R, 1) >= 0."""
    if ball.norm == "l1":
        order = gain.argsort(1, descending=True)
        amount = torch.full_like(gain[:, :1], ball.radius)
        _, at = _filled(order, room, amount)
        level = gain.gather(1, order.gather(1, at))
        return torch.where(room.sum(1, keepdim=True) <= amount, torch.zeros_like(level), level)
    gain, room = gain.detach(), room.detach()
    level = gain.norm(dim=1, keepdim=True) / (2 * max(ball.radius, 1e-30))
    # falls to where the distance is the radius, never below: what is at its end stays there
    for _ in range(_STEPS):
        at_end = gain > 2 * level * room
        rest = ball.radius**2 - torch.where(at_end, room, 0).square().sum(1, keepdim=True)
        free = torch.where(at_end, 0, gain).norm(dim=1, keepdim=True)
        level = torch.where(rest > 0, free / (2 * rest.clamp(min=1e-30).sqrt()), level)
    return level


def _moved(gain: Tensor, room: Tensor, level: Tensor) -> Tensor:
    """Where gain * d - level * d^2 is largest, d in [0, room]."""
    return torch.minimum(gain / (2 * level).clamp(min=1e-30), room)
