"""What is left of a subproblem's inputs, and of what enters its first ReLUs, where it is unsafe.

A bound on the margin is a linear form on the inputs that lies below it, so all that is unsafe lies
where that form is at most 0. The sign of a first ReLU is such a half space too. Over what is left
of the box, each input and each unit that is affine in the inputs reaches less far: more ReLUs are
decided, and the next bound is tighter.

Source: the cut as in clipped domains; the units' ends are a linear program with one row, whose dual
has one variable, and every value of that gives a bound that holds.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.alpha import Relaxed
from robsweep.tasks.verification.bounds.chains import chain_of
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.layers import Affine, Gather, apply, weighted
from robsweep.tasks.verification.reading.properties import BOUNDARY, PROVED
from robsweep.tasks.verification.search.clipping import clipped

_MANY = 64  # inputs
_ROUNDING = 1e-9  # of all terms: far more than float64 is off by
_TRIALS = 4  # of a dual


class First(NamedTuple):
    """The first ReLU layer of a chain, (U, inputs) affine in the inputs."""

    layer: int
    weight: Tensor
    bias: Tensor  # (U,)
    slack: Tensor  # (U,), what rounding may add over the whole box


def first_of(relaxed: Relaxed) -> First | None:
    """None where the network is no chain, or has too many inputs, or more is known than a box.

    A bound over what is left of a box is not the form's least value in it, which cuts start from.
    """
    network, box = relaxed.exact, relaxed.bounds[0]
    if network.within is not None:
        return None
    chain = chain_of(network)
    if chain is None or len(chain.pieces) < 2 or box.lower[0].numel() > _MANY:
        return None
    piece, slack = chain.pieces[0], torch.zeros_like(box.lower[:1])
    for k in piece.layers:
        layer = network.layers[k]
        if isinstance(layer, Affine):
            slack = weighted(layer, slack, layer.weight.abs(), torch.zeros_like(layer.bias))
        else:
            slack = apply(replace(layer, fill=0.0) if isinstance(layer, Gather) else layer, slack)
        if k + 1 in relaxed.slacks:
            slack = slack + relaxed.slacks[k + 1][:1]
    return First(piece.layers.stop, piece.weight, piece.bias, slack.flatten())


class Cut(NamedTuple):
    """Of P subproblems."""

    lower: Tensor  # (P,), on the margin: above `BOUNDARY` where nothing is left
    box: Bounds  # (P, inputs)
    units: Bounds  # (P, U), on what enters the first ReLUs


def by_margin(first: First, lower: Tensor, form: Tensor, box: Bounds, units: Bounds) -> Cut:
    """Cuts down to where the margin may be at most `BOUNDARY`.

    Args:
        lower: (P,), bounds on the margin over the boxes.
        form: (P, inputs): the margin is at least `lower` plus this times the way from where it is
            lowest.
        box: (P, inputs).
        units: (P, U).
    """
    found, smaller = clipped(box, lower[:, None], [(lower[:, None], form[:, None])])
    lower, low, high = found[:, 0], units.lower.clone(), units.upper.clone()
    room = BOUNDARY - lower
    owner, unit = ((room >= 0)[:, None] & (low < 0) & (high > 0)).nonzero().unbind(1)
    if len(owner):
        weight, bias = first.weight[unit], first.bias[unit]
        part, half = Bounds(*(end[owner] for end in box)), (form[owner], room[owner])
        least, minus_most = (
            _least(sign * weight, *half, part) + sign * bias - first.slack[unit]
            for sign in (1.0, -1.0)
        )
        low[owner, unit] = torch.maximum(low[owner, unit], least)
        high[owner, unit] = torch.minimum(high[owner, unit], -minus_most)
    none = (low > high).any(1)  # no input is left
    lower = torch.where(none, lower.clamp(min=PROVED), lower)
    return Cut(lower, smaller, Bounds(torch.minimum(low, high), torch.maximum(low, high)))


def by_sign(first: First, unit: Tensor, sign: Tensor, box: Bounds, units: Bounds) -> Cut:
    """Cuts down to where one first ReLU of each subproblem is on or off; `lower` is if any is left.

    Args:
        unit: (P,) int64.
        sign: (P,), 1 or -1.
    """
    form = -sign[:, None] * first.weight[unit]
    terms = form * torch.where(form > 0, *box)
    room = first.slack[unit] + sign * first.bias[unit] - terms.sum(1)
    room = room + _ROUNDING * (terms.abs().sum(1) + first.bias[unit].abs())
    return by_margin(first, BOUNDARY - room, form, box, units)


def _least(weight: Tensor, form: Tensor, room: Tensor, box: Bounds) -> Tensor:
    """Lower bounds (Q,) on linear forms where another one is at most `room` above its least.

    Args:
        weight, form: (Q, inputs).
        room: (Q,).
        box: (Q, inputs).
    """
    middle, radius = (box.lower + box.upper) / 2, (box.upper - box.lower) / 2
    size, reach = (weight.abs() * radius).sum(1), (form.abs() * radius).sum(1)
    lacking = reach - room
    dual = _dual((weight * radius).float(), (form * radius).float(), room.float()).double()
    dual = dual.nan_to_num(0.0, 0.0, 0.0)
    found = dual * lacking - ((weight + dual[:, None] * form).abs() * radius).sum(1)
    terms = (middle * weight).abs().sum(1) + size + dual * (reach + room)
    best = (middle * weight).sum(1) + torch.maximum(found, -size) - _ROUNDING * terms
    return best.nan_to_num(-torch.inf, torch.inf, -torch.inf)


def _dual(weight: Tensor, form: Tensor, room: Tensor) -> Tensor:
    """About where `(|form| - room) * dual - |weight + dual * form|` is largest, (Q,).

    Concave and made of lines: the next trial is where those to its left and right meet.
    """
    reach = form.abs().sum(1)
    # the lines at 0 and at infinity: height at 0, and slope
    left = -weight.abs().sum(1), reach - room - (form * weight.sign()).sum(1)
    right = -(weight * form.sign()).sum(1), -room
    for step in range(_TRIALS + 1):
        gap = (left[1] - right[1]).clamp(min=1e-30)
        dual = torch.where(left[1] > 0, (right[0] - left[0]).clamp(min=0) / gap, 0)
        if step == _TRIALS:
            break
        sign = torch.addcmul(weight, dual[:, None], form).sign()
        line = -(weight * sign).sum(1), reach - room - (form * sign).sum(1)
        rises = line[1] > 0
        left = torch.where(rises, line[0], left[0]), torch.where(rises, line[1], left[1])
        right = torch.where(rises, right[0], line[0]), torch.where(rises, right[1], line[1])
    return dual
