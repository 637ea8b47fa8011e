"""Lower bounds on forms of a certificate's network, in torch: batched, with gradients.

They only search: what a certificate holds is put to the checker's own arithmetic.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from robsweep.tasks.certificates.network import Affine, Max, Network, Relu
from robsweep.tasks.certificates.passes import Known

_DENSE = 2**24  # numbers in a matrix that is written out
_DECAYS = 0.9, 0.999

Ends = tuple[Tensor, Tensor]


class Variables(NamedTuple):
    """Of R forms, by the value that enters a ReLU, (R, n) each."""

    slopes: dict[int, Tensor]  # in [0, 1]
    multipliers: dict[int, Tensor]  # >= 0


class _Map(NamedTuple):
    matrix: Tensor  # (outputs, inputs); transposed if it is sparse
    bias: Tensor


class Lowest(NamedTuple):
    lower: Tensor  # (R,)
    forms: dict[int, Tensor]  # (R, n) on value 0, and on what the ReLU behind value v gives


class Relaxation:
    """A network without the ReLUs that stay off in the whole box."""

    def __init__(self, network: Network, known: Known, kind: torch.dtype) -> None:
        self.kind = kind
        self.kept = _kept(network, known)
        self.layers: list[_Map | Tensor | None] = []
        self.bounds: dict[int, Ends] = {}
        self.passed: dict[int, Tensor] = {}  # which units no ReLU changes
        sizes = network.sizes()
        for k, layer in enumerate(network.layers):
            match layer:
                case Affine():
                    self.layers.append(self._affine(layer, k, sizes[k]))
                case Relu():
                    self.passed[k] = torch.from_numpy(~layer.units[self.kept[k]])
                    self.layers.append(None)
                case Max():
                    self.layers.append(torch.from_numpy(layer.windows))
            if not isinstance(layer, Affine):
                self.bounds[k] = self.ends(known, k)
        self.box = self.ends(known, 0)

    def ends(self, known: Known, value: int) -> Ends:
        """Bounds on a value, (1, n) each."""
        low, high = (
            torch.from_numpy(end[value][self.kept[value]][None].astype(np.float64)).to(self.kind)
            for end in (known.lower, known.upper)
        )
        return low, high

    def _affine(self, layer: Affine, k: int, inputs: int) -> _Map:
        size = (len(layer.bias), inputs)
        rows = sparse.csr_array((layer.weights, layer.columns, layer.starts), shape=size)
        rows = rows[self.kept[k + 1]][:, self.kept[k]]
        bias = torch.from_numpy(layer.bias[self.kept[k + 1]]).to(self.kind)
        if rows.shape[0] * rows.shape[1] <= _DENSE:
            return _Map(torch.from_numpy(rows.toarray()).to(self.kind), bias)
        turned = sparse.coo_array(rows.T)
        place = torch.from_numpy(np.stack(turned.coords).astype(np.int64))
        values = torch.from_numpy(turned.data).to(self.kind)
        matrix = torch.sparse_coo_tensor(place, values, turned.shape).coalesce()
        return _Map(matrix, bias)

    def lowest(
        self,
        rows: Tensor,
        constant: Tensor,
        bounds: Mapping[int, Ends],
        box: Ends,
        choice: Variables,
        signs: Mapping[int, Tensor],
    ) -> Lowest:
        """Lower bounds on `rows @ outputs + constant`, (R, outputs) and (R,).

        Args:
            bounds: By the value that enters a ReLU or a maximum, (R or 1, n).
            signs: (R, n) of split ReLUs, where there are multipliers.
        """
        forms: dict[int, Tensor] = {}
        for k in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[k]
            if isinstance(layer, _Map):
                matrix, bias = layer
                constant = constant + rows @ bias
                rows = torch.sparse.mm(matrix, rows.T).T if matrix.is_sparse else rows @ matrix
            elif layer is None:
                forms[k] = rows.detach()
                below, above, offset = self._lines(k, bounds[k], choice.slopes.get(k))
                constant = constant + (rows.clamp(max=0) * offset).sum(1)
                rows = torch.where(rows > 0, below, above) * rows
                if k in choice.multipliers:
                    rows = rows - signs[k] * choice.multipliers[k]
            else:
                rows, added = _below_max(layer, rows, *bounds[k])
                constant = constant + added
        forms[0] = rows.detach()
        return Lowest(constant + (torch.where(rows > 0, *box) * rows).sum(1), forms)

    def _lines(self, k: int, ends: Ends, slopes: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes below and above, and what the line above is at 0."""
        low, high = ends[0].clamp(max=0), ends[1].clamp(min=0)
        low, high = low.masked_fill(self.passed[k], 0), high.masked_fill(self.passed[k], 1)
        above = high / (high - low).clamp(min=torch.finfo(self.kind).tiny)
        if slopes is None:
            slopes = (high > -low).to(self.kind)
        return torch.where((low < 0) & (high > 0), slopes, above), above, -above * low

    def first(self, bounds: Mapping[int, Ends]) -> dict[int, Tensor]:
        """The slopes that a certificate need not name."""
        return {
            k: (bounds[k][1] > -bounds[k][0]).to(self.kind)
            for k, layer in enumerate(self.layers)
            if layer is None
        }


def ascended(
    relaxation: Relaxation,
    rows: Tensor,
    constant: Tensor,
    bounds: Mapping[int, Ends],
    start: Variables,
    signs: Mapping[int, Tensor],
    scale: Mapping[int, Tensor],
    steps: int,
    rate: float,
) -> Variables:
    """Better slopes and multipliers, by Adam's ascent on the sum of the bounds.

    Args:
        scale: Of multipliers, (n,).
    """
    names = [*((False, k) for k in start.slopes), *((True, k) for k in start.multipliers)]
    values = [
        (start.multipliers[k] / scale[k] if multiplier else start.slopes[k]).clone()
        for multiplier, k in names
    ]
    moments = [(torch.zeros_like(one), torch.zeros_like(one)) for one in values]

    def choice() -> Variables:
        found = Variables({}, {})
        for (multiplier, k), one in zip(names, values, strict=True):
            if multiplier:
                found.multipliers[k] = one * scale[k]
            else:
                found.slopes[k] = one
        return found

    for step in range(1, steps + 1):
        for one in values:
            one.requires_grad_()
        found = relaxation.lowest(rows, constant, bounds, relaxation.box, choice(), signs)
        gradients = torch.autograd.grad(found.lower.sum(), values)
        falling = rate * 0.1 ** ((step - 1) / steps)
        for (multiplier, _), one, gradient, (mean, square) in zip(
            names, values, gradients, moments, strict=True
        ):
            one.requires_grad_(False)
            mean.lerp_(gradient, 1 - _DECAYS[0])
            square.mul_(_DECAYS[1]).addcmul_(gradient, gradient, value=1 - _DECAYS[1])
            size = (square / (1 - _DECAYS[1] ** step)).sqrt_().add_(1e-8)
            one.addcdiv_(mean, size, value=falling / (1 - _DECAYS[0] ** step))
            one.clamp_(min=0, max=None if multiplier else 1)
    return choice()


def _below_max(windows: Tensor, rows: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    seen = low[:, windows]
    index = seen.argmax(2)
    best = windows.expand(len(low), -1, -1).gather(2, index[..., None])[..., 0]
    others = high[:, windows] <= seen.amax(2, keepdim=True)
    alone = others.scatter(2, index[..., None], value=True).all(2)
    linear = torch.where((rows > 0) | alone, rows, 0)
    forms = rows.new_zeros(len(rows), low.shape[1])
    forms = forms.scatter_add(1, best.expand(len(rows), -1), linear)
    return forms, ((rows - linear) * high[:, windows].amax(2)).sum(1)


def _kept(network: Network, known: Known) -> list[np.ndarray]:
    """Which units of each value count: a ReLU between affine maps that stays off does not."""
    kept = [np.arange(size) for size in network.sizes()]
    layers = network.layers
    for k in range(1, len(layers) - 1):
        layer = layers[k]
        alone = isinstance(layers[k - 1], Affine) and isinstance(layers[k + 1], Affine)
        if isinstance(layer, Relu) and alone:
            kept[k] = kept[k + 1] = np.flatnonzero(~layer.units | (known.upper[k] > 0))
    return kept
