"""alpha-CROWN: the slopes below undecided ReLUs, optimised for each bound.

The ascent runs in float32; what it ends with is evaluated once more in float64. Whatever the slopes
and multipliers are, that bound holds: the steps only make it tighter.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from robsweep.tasks.verification.bounds.backward import Choice, Lower, Slacks, chosen_bounds, slacks
from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.margins import Margins, margins_of
from robsweep.tasks.verification.bounds.support import lowest as lowest_points
from robsweep.tasks.verification.reading.layers import Network, Relu, in_float32
from robsweep.tasks.verification.reading.properties import BOUNDARY, Property

_DECAYS = 0.9, 0.999  # of Adam's moments
_ROOM = {"cpu": 2**21, "cuda": 2**28}  # numbers in one value of all forms that ascend together


class Ascent(NamedTuple):
    """Of Adam's ascent."""

    steps: int
    rate: float  # of slopes; falls to a tenth
    multiplier_rate: float = 0.0  # likewise, in units of their scale


class Settings(NamedTuple):
    """Slopes and multipliers (R, units) of those ReLUs that have any, by layer."""

    slopes: Mapping[int, Tensor]  # in [0, 1]
    sizes: Mapping[int, Tensor]  # >= 0


class Ascended(NamedTuple):
    """Where an ascent of R forms ended."""

    lower: Lower  # float64; these are proofs
    settings: Settings
    forms: dict[int, Tensor]  # float64, as in `backward.Carried`


class Relaxed(NamedTuple):
    """A network in both precisions, and bounds (N, *shape) on all of its values."""

    exact: Network
    fast: Network
    bounds: list[Bounds]
    slacks: Slacks  # of these bounds or wider ones, for as many samples or for one

    @classmethod
    def of(cls, network: Network, bounds: list[Bounds]) -> "Relaxed":
        return cls(network, in_float32(network), bounds, slacks(network, bounds))


def undecided_units(network: Network, bounds: list[Bounds]) -> dict[int, Tensor]:
    """By ReLU layer, which of its flattened units are undecided in any of the samples."""
    units = {}
    for k, layer in enumerate(network.layers[: len(bounds) - 1]):
        if isinstance(layer, Relu):
            lower, upper = bounds[network.inputs[k][0]]
            units[k] = ((lower < 0) & (upper > 0)).flatten(1).any(0).nonzero()[:, 0]
    return units


def ascended(
    relaxed: Relaxed,
    rows: Tensor,
    owner: Tensor,
    units: Mapping[int, Tensor],
    start: Settings,
    signs: Mapping[int, Tensor],
    ascent: Ascent,
) -> Ascended:
    """Lower bounds on linear forms on the logits, by ascent on slopes and multipliers.

    Source: Xu et al. 2021 (alpha-CROWN), section 3; Wang et al. 2021 (beta-CROWN), section 3.2.

    Args:
        rows: (R, K) float64.
        owner: (R,) int64, which sample's bounds each form is over.
        units: Which ReLUs of each layer have slopes and multipliers.
        signs: (R, units) by layer: 1 where z >= 0 is given, -1 where z <= 0 is, else 0. Without
            a layer no multipliers.
    """
    slopes = {k: one.clone().requires_grad_() for k, one in start.slopes.items()}
    sizes = {k: one.clone().requires_grad_() for k, one in start.sizes.items()}
    variables = [*slopes.values(), *sizes.values()]
    fast = [Bounds(*(part.float() for part in b)) for b in relaxed.bounds]
    if variables and ascent.steps:
        rates = [ascent.rate] * len(slopes) + [ascent.multiplier_rate] * len(sizes)
        moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in variables]
        for step in range(1, ascent.steps + 1):
            choice = _choice(relaxed.fast, units, slopes, sizes, signs)
            found = chosen_bounds(relaxed.fast, fast, rows.float(), owner, choice, None)
            gradients = torch.autograd.grad(found.lower.reals.sum(), variables)
            falling = 0.1 ** ((step - 1) / ascent.steps)
            for one, gradient, both, rate in zip(variables, gradients, moments, rates, strict=True):
                adam(one, gradient.nan_to_num(0.0, 0.0, 0.0), both, rate * falling, step)
            with torch.no_grad():
                for one in slopes.values():
                    one.clamp_(0, 1)
                for one in sizes.values():
                    one.clamp_(min=0)
    with torch.no_grad():
        end = Settings(*({k: v.detach() for k, v in part.items()} for part in (slopes, sizes)))
        slopes, sizes = ({k: v.double() for k, v in part.items()} for part in end)
        choice = _choice(relaxed.exact, units, slopes, sizes, signs)
        carried = chosen_bounds(relaxed.exact, relaxed.bounds, rows, owner, choice, relaxed.slacks)
    return Ascended(carried.lower, end, carried.forms)


def adam(
    one: Tensor, gradient: Tensor, moments: tuple[Tensor, Tensor], rate: float, step: int
) -> None:
    """Adam, in place: torch's own takes seconds of imports before its first step.

    Source: Kingma and Ba 2015, algorithm 1.

    Args:
        step: From 1 on.
    """
    first, second = moments
    first.lerp_(gradient, 1 - _DECAYS[0])
    second.mul_(_DECAYS[1]).addcmul_(gradient, gradient, value=1 - _DECAYS[1])
    size = (second / (1 - _DECAYS[1] ** step)).sqrt_().add_(1e-8)
    with torch.no_grad():
        one.addcdiv_(first, size, value=rate / (1 - _DECAYS[0] ** step))


def _choice(
    network: Network,
    units: Mapping[int, Tensor],
    slopes: Mapping[int, Tensor],
    sizes: Mapping[int, Tensor],
    signs: Mapping[int, Tensor],
) -> Choice:
    """In full width, from those units that have slopes and multipliers."""

    def full(k: int, some: Tensor) -> Tensor:
        shape = network.shapes[k + 1]
        blank = some.new_zeros(len(some), torch.Size(shape).numel())
        return blank.index_copy(1, units[k], some).reshape(-1, *shape)

    return Choice(
        {k: full(k, one) for k, one in slopes.items()},
        {k: full(k, -signs[k] * one) for k, one in sizes.items()},
    )


def first_settings(relaxed: Relaxed, owner: Tensor, units: Mapping[int, Tensor]) -> Settings:
    """CROWN's own slopes, and no multipliers."""
    slopes = {}
    for k, some in units.items():
        lower, upper = relaxed.bounds[relaxed.exact.inputs[k][0]]
        slopes[k] = (upper > -lower).flatten(1)[:, some][owner].float()
    return Settings(slopes, {})


class Optimised(NamedTuple):
    margins: Margins
    corners: Tensor  # (N, *shape) of the boxes: where the lowest of a sample's bounds is reached
    asked: Tensor  # (N,) int64: how many bounds were optimised


def optimised_margins(
    relaxed: Relaxed, unsafe: Property, known: Margins, ascent: Ascent
) -> Optimised:
    """Tighter margins for the disjuncts that are still open.

    Args:
        known: What holds already; those above `BOUNDARY` as the network runs are left as they are.
    """
    shape = unsafe.bias.shape
    asked = (known.lower <= BOUNDARY)[:, :, None].expand(shape) & unsafe.bias.isfinite()
    sample, disjunct, row = asked.nonzero().unbind(1)
    lower = unsafe.bias.masked_fill(unsafe.bias.isfinite(), -torch.inf)
    reals = lower.clone()
    corners, lowest = relaxed.bounds[0].lower.clone(), lower.new_full((shape[0],), torch.inf)
    units = undecided_units(relaxed.exact, relaxed.bounds)
    widest = max(torch.Size(shape).numel() for shape in relaxed.exact.shapes)
    order = torch.arange(len(sample), device=sample.device)
    for piece in torch.split(order, max(1, _ROOM[lower.device.type] // widest)):
        if not len(piece):
            break
        at = sample[piece], disjunct[piece], row[piece]
        start = first_settings(relaxed, at[0], units)
        found = ascended(relaxed, unsafe.weight[at], at[0], units, start, {}, ascent)
        bounds = found.lower.deployed + unsafe.bias[at]
        lower[at], reals[at] = bounds, found.lower.reals + unsafe.bias[at]
        box = relaxed.bounds[0].rows(at[0])
        ends = lowest_points(relaxed.exact.within, found.forms[0], box)
        for i in bounds.argsort(descending=True).tolist():  # the lowest of a sample comes last
            if bounds[i] < lowest[at[0][i]]:
                lowest[at[0][i]], corners[at[0][i]] = bounds[i], ends[i]
    margins = margins_of(lower, reals).best(known)
    return Optimised(margins, corners, asked.flatten(1).sum(1))
