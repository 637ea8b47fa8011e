"""CROWN's backward pass: linear forms on a value, bounded from below by forms on the images.

A value that several layers read gathers a form from each of them, so sums of branches are exact.
In float64, results are lowered by what rounding cannot exceed: carrying a form through an affine
layer is off by at most `_ROUNDING` times its entries' sizes times those of the terms that the layer
adds up. What is left holds in real arithmetic: `lower > 0` is a proof. If the network has its steps
as it runs, results are lowered as well by what these may add to each value in float32.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.patches import (
    Patches,
    dense,
    seen,
    single_units,
    through_conv,
)
from robsweep.tasks.verification.bounds.rounding import added
from robsweep.tasks.verification.bounds.smooth import Lines, lines
from robsweep.tasks.verification.bounds.support import least as least_within
from robsweep.tasks.verification.reading.layers import (
    BENT,
    UNIT,
    Conv,
    Gather,
    Linear,
    MaxPool,
    Network,
    Relu,
    Reshape,
    Scale,
    Smooth,
    Sum,
    bias_of,
    transposed,
    ungathered,
    weighted,
    windows,
)

_ROUNDING = 1e-11  # rounding of a sum of n float64 terms is below n * 1.2e-16 of their magnitudes
# numbers in one tensor of backward rows: on a CPU they stay in its cache (2.7 times faster)
_CHUNK = {"cpu": 2**17, "cuda": 2**25}


class Choice(NamedTuple):
    """What the relaxation leaves open, by ReLU layer: every choice gives bounds that hold.

    Source: Xu et al. 2021 (alpha-CROWN), section 3; Wang et al. 2021 (beta-CROWN), section 3.1.
    """

    slopes: Mapping[int, Tensor]  # (R, *shape) in [0, 1]: of the line below an undecided unit
    pushes: Mapping[int, Tensor]  # (R, *shape): <= 0 where z >= 0 is given, >= 0 where z <= 0 is
    # (R,): what pushes add where z >= m or z <= m is given, -m * push; also of smooth layers
    offsets: Mapping[int, Tensor] = {}
    lines: Mapping[int, Lines] = {}  # beside curves, of the same bounds, where they are known


PLAIN = Choice({}, {})
# By value: how far one may be from what its layer is of those that it reads, (N, *shape) each.
Slacks = Mapping[int, Tensor]
# Of what rounding takes off, this share is surely float32's: float64's is below 1e-11 / 12 UNIT.
_SINGLE = 1 - 1e-4


class Lower(NamedTuple):
    """Lower bounds on R forms, (R,) each."""

    deployed: Tensor  # as the network runs, if its steps are known
    reals: Tensor  # over the reals


class Carried(NamedTuple):
    """R forms, carried back."""

    lower: Lower
    forms: dict[int, Tensor]  # on the image, and on what each ReLU or curve k returns (at k + 1)


def lower_bounds(
    network: Network, bounds: list[Bounds], rows: Tensor, owner: Tensor, *, back_to: int = 0
) -> Lower:
    """Lower bounds on linear forms, carried back through the layers before them.

    Args:
        bounds: On each value, up to and with the one that the forms are on.
        rows: (R, *shape of bounds[-1]), the forms.
        owner: (R,) int64, which sample's box each form is over.
        back_to: The value at whose bounds, or those of values before it, the pass ends; 0 is the
            whole network.
    """
    size, slack = _chunk(network, bounds), slacks(network, bounds)
    chunks = zip(torch.split(rows, size), torch.split(owner, size), strict=True)
    last = len(bounds) - 1
    parts = [_carried(network, bounds, {last: some}, own, slack, back_to) for some, own in chunks]
    return Lower(*map(torch.cat, zip(*parts, strict=True)))


def chosen_bounds(
    network: Network,
    bounds: list[Bounds],
    rows: Tensor,
    owner: Tensor,
    choice: Choice,
    slack: Slacks | None,
    *,
    back_to: int = 0,
) -> Carried:
    """As `lower_bounds`, in one piece and differentiable in the choice, weights and bounds.

    Args:
        slack: As `slacks` gives it, of these bounds or wider ones; None leaves rounding out.
    """
    forms: dict[int, Tensor | Patches] = {len(bounds) - 1: rows}
    kept: dict[int, Tensor] = {}
    return Carried(_carried(network, bounds, forms, owner, slack, back_to, choice, kept), kept)


def slacks(network: Network, bounds: list[Bounds]) -> Slacks:
    """What rounding may add, in the float64 here and in the float32 in which the network runs."""
    slack = {}
    for k in range(len(bounds) - 1):
        error = slack_of(network, k, [bounds[v].size() for v in network.inputs[k]])
        if error is not None:
            slack[k + 1] = error
    return slack


def slack_of(network: Network, k: int, sizes: list[Tensor]) -> Tensor | None:
    """The same of one layer, from how large what it reads is: (N, *shape) each; None is nothing."""
    layer, error = network.layers[k], added(network, k, sizes)
    if isinstance(layer, Linear | Conv | Scale):
        total = weighted(layer, sizes[0], layer.weight.abs(), layer.bias.abs())
        error = _ROUNDING * total + (0.0 if error is None else error)
    return error


def unit_bounds(network: Network, bounds: list[Bounds], owner: Tensor, unit: Tensor) -> Bounds:
    """Bounds on single values of the last of `bounds`.

    Args:
        owner: (R,) int64, the sample.
        unit: (R,) int64, index into its flattened values.

    Returns:
        Bounds, each (R,).
    """
    shape, last, slack = bounds[-1].lower.shape[1:], len(bounds) - 1, slacks(network, bounds)
    local = last > 0 and isinstance(network.layers[last - 1], Conv)
    size = _chunk(network, bounds) * (_LOCAL if local else 1)
    lower, upper = [], []
    for own, one in zip(torch.split(owner, size), torch.split(unit, size), strict=True):
        rows: Tensor | Patches
        if local:
            rows = single_units(one, shape)
        else:
            rows = F.one_hot(one, shape.numel()).double().reshape(-1, *shape)
        # both directions are the same until the first relaxation
        forms, constant = {last: rows}, bounds[0].lower.new_zeros(len(one))
        rounding = torch.zeros_like(constant)
        while (k := max(forms)) and not isinstance(network.layers[k - 1], BENT):
            rounding = rounding + _rounding(forms[k], slack.get(k), own)
            constant = constant + _step(network, bounds, forms, own)
        low = _carried(network, bounds, dict(forms), own, slack).deployed
        minus = {value: _times(-1.0, form) for value, form in forms.items()}
        high = -_carried(network, bounds, minus, own, slack).deployed
        lower.append(constant - rounding + low)
        upper.append(constant + rounding + high)
    # what overflows is no bound
    return Bounds(
        torch.cat(lower).nan_to_num(-torch.inf, torch.inf, -torch.inf),
        torch.cat(upper).nan_to_num(torch.inf, torch.inf, -torch.inf),
    )


_LOCAL = 8  # how many windows of units take about the room of one dense row


def _rounding(form: Tensor | Patches, slack: Tensor | None, owner: Tensor) -> Tensor | float:
    """What forms on a value may be off by, carried through its layer: (R,)."""
    if slack is None:
        return 0.0
    rows = form.rows if isinstance(form, Patches) else form
    own = owner if len(slack) > 1 else torch.zeros_like(owner[:1])
    most = _seen(form, Bounds(slack, slack), own)
    return (rows.detach().abs() * most.upper).flatten(1).sum(1)


def _chunk(network: Network, bounds: list[Bounds]) -> int:
    """How many rows to carry back at once."""
    largest = max(torch.Size(shape).numel() for shape in network.shapes[: len(bounds)])
    return max(1, _CHUNK[bounds[0].lower.device.type] // largest)


def _carried(
    network: Network,
    bounds: list[Bounds],
    forms: dict[int, Tensor | Patches],
    owner: Tensor,
    slack: Slacks | None,
    back_to: int = 0,
    choice: Choice = PLAIN,
    kept: dict[int, Tensor] | None = None,
) -> Lower:
    """As `lower_bounds`, in one piece.

    Args:
        forms: By value; what is bounded is their sum. Used up.
        kept: Is given the forms of `Carried`.
    """
    constant = bounds[0].lower.new_zeros(len(owner))
    taken = torch.zeros_like(constant)
    if not len(owner):
        return Lower(constant, constant)
    if bool((owner == owner[0]).all()):
        owner = owner[:1]  # broadcasts, instead of being copied for each row
    while (k := max(forms)) > back_to:
        if kept is not None and isinstance(network.layers[k - 1], Relu | Smooth):
            kept[k] = _whole(forms[k], network.shapes[k]).detach()
        if slack is not None:
            rounding = _rounding(forms[k], slack.get(k), owner)
            constant, taken = constant - rounding, taken + rounding
        constant = constant + _step(network, bounds, forms, owner, choice)
    for value, rows in forms.items():
        if kept is not None and value == 0:
            kept[0] = _whole(rows, network.shapes[0]).detach()
        if value == 0 and network.within is not None:
            whole = _whole(rows, network.shapes[0])
            constant = constant + least_within(network.within, whole, bounds[0].rows(owner))
            continue
        z = _seen(rows, bounds[value], owner)
        weight = rows.rows if isinstance(rows, Patches) else rows
        least = torch.where(weight > 0, *z) * weight
        constant = constant + least.flatten(1).sum(1)
    if slack is None:
        return Lower(constant, constant)
    single = network.steps is not None and network.unit == UNIT
    given_back = _SINGLE if single else 0.0
    both = (constant, constant + given_back * taken)
    return Lower(*(one.nan_to_num(-torch.inf, torch.inf, -torch.inf) for one in both))


def _step(
    network: Network,
    bounds: list[Bounds],
    forms: dict[int, Tensor | Patches],
    owner: Tensor,
    choice: Choice = PLAIN,
) -> Tensor:
    """Replaces the form on the last value by forms on what its layer reads, plus constants (R,)."""
    k = max(forms) - 1
    passed, constant = _through(network, bounds, forms.pop(k + 1), owner, k, choice)
    for value, rows in zip(network.inputs[k], passed, strict=True):
        if value in forms:
            shape = network.shapes[value]
            forms[value] = _whole(forms[value], shape) + _whole(rows, shape)
        else:
            forms[value] = rows
    return constant


def _through(
    network: Network,
    bounds: list[Bounds],
    form: Tensor | Patches,
    owner: Tensor,
    k: int,
    choice: Choice,
) -> tuple[list[Tensor | Patches], Tensor]:
    """Forms on what layer `k` reads and constants (R,) that bound those on its output."""
    layer, first = network.layers[k], network.inputs[k][0]
    shape, none = network.shapes[first], bounds[0].lower.new_zeros(1)
    match layer, form:
        case Conv(), Patches():
            passed = through_conv(layer, form, shape)
            wide = passed.rows[0, 0].numel() >= shape[1] * shape[2]
            return [dense(passed, shape) if wide else passed], bias_of(layer, form.rows)
        case Relu(), _:
            rows = form.rows if isinstance(form, Patches) else form
            z = _seen(form, bounds[first], owner)
            rows, constant = _through_relu(rows, z, choice.slopes.get(k))
            if k in choice.pushes:
                rows = rows + choice.pushes[k]
                constant = constant + choice.offsets.get(k, none)
            return [form._replace(rows=rows) if isinstance(form, Patches) else rows], constant
        case Sum(), _:
            return [_times(factor, form) for factor in layer.factors], none
    rows = _whole(form, network.shapes[k + 1])
    match layer:
        case Linear() | Conv() | Scale():
            return [transposed(layer, rows, shape)], bias_of(layer, rows)
        case MaxPool():
            rows, constant = _through_max_pool(layer, rows, bounds[first].rows(owner))
        case Smooth():
            both = choice.lines[k] if k in choice.lines else lines(layer.curve, *bounds[first])
            slope, below, above = (line[owner] for line in both)
            constant = (torch.where(rows > 0, below, above) * rows).flatten(1).sum(1)
            rows = rows * slope
            if k in choice.pushes:
                rows = rows + choice.pushes[k]
                constant = constant + choice.offsets.get(k, none)
        case Gather():
            rows, constant = ungathered(layer, rows, shape)
        case Reshape():
            rows, constant = rows.reshape(-1, *shape), none
    return [rows], constant


def _through_relu(rows: Tensor, z: Bounds, slopes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Below: a line through 0, by default what leaves less area; above: from (l, 0) to (u, u)."""
    lower, upper = z.lower.clamp(max=0), z.upper.clamp(min=0)
    width = upper - lower
    # where there is no width, the division's gradient must not be infinite
    slope = torch.where(width > 0, upper / width.clamp(min=torch.finfo(rows.dtype).tiny), 0)
    negative = rows.clamp(max=0)
    constant = -(negative * slope * lower).flatten(1).sum(1)
    if slopes is None:
        below = (upper > -lower).to(rows.dtype)
    else:
        below = torch.where(lower == 0, slope, slopes * (upper > 0))
    return torch.where(rows > 0, below, slope) * rows, constant


def _through_max_pool(layer: MaxPool, rows: Tensor, z: Bounds) -> tuple[Tensor, Tensor]:
    """Below: the input with the largest lower bound; above: it too where it dominates its window.

    Otherwise above is the largest upper bound.
    """
    best, index = F.max_pool2d(
        z.lower, layer.kernel, layer.stride, layer.padding, return_indices=True
    )
    most = F.max_pool2d(z.upper, layer.kernel, layer.stride, layer.padding)
    # the second largest upper bound decides whether the best input dominates
    places = torch.arange(z.lower[0, 0].numel(), device=rows.device, dtype=torch.float64)
    seen = windows(layer, places.reshape(1, 1, *z.lower.shape[2:]), -1.0)
    others = windows(layer, z.upper, -torch.inf).masked_fill(seen == index[..., None], -torch.inf)
    exact = others.amax(-1) <= best
    kept = torch.where(exact | (rows > 0), rows, 0)
    constant = ((rows - kept) * most).flatten(1).sum(1)
    index = index.expand_as(kept)
    spread = rows.new_zeros(*kept.shape[:2], places.numel())
    spread = spread.scatter_add(2, index.flatten(2), kept.flatten(2))
    return spread.reshape(-1, *z.lower.shape[1:]), constant


def _whole(form: Tensor | Patches, shape: tuple[int, ...]) -> Tensor:
    return dense(form, shape) if isinstance(form, Patches) else form


def _times(factor: float, form: Tensor | Patches) -> Tensor | Patches:
    return form._replace(rows=factor * form.rows) if isinstance(form, Patches) else factor * form


def _seen(form: Tensor | Patches, value: Bounds, owner: Tensor) -> Bounds:
    return seen(form, value, owner) if isinstance(form, Patches) else value.rows(owner)
