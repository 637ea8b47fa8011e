"""A region of images around one image: what an affine map makes of a box of parameters."""

from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor, nn

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.reading.layers import (
    Gather,
    Layer,
    Linear,
    Network,
    Relu,
    Reshape,
    Scale,
    apply,
)
from robsweep.tasks.verification.reading.within import Simplex, Within

_ROUNDING, _TINY = Fraction(2) ** -23, Fraction(2) ** -126


class Map(NamedTuple):
    """From parameters (p,) to images."""

    values: Linear
    clipped: bool  # the values to [0, 1]
    places: Gather | Reshape  # which of them each pixel is


class Area(NamedTuple):
    """The union of P boxes of parameters, and the images that these are the parameters of.

    These are images in float32: the map over the reals, each number of it rounded to one of the two
    next to it. Bounds that let each pixel be off by one rounding speak of all of them.
    """

    box: Bounds  # float64 (P, *shape of the parameters)
    map: Map | None = None  # None: the parameters are the pixels
    within: Within | None = None
    own: Tensor | None = None  # float32 (*shape): the parameters of the image itself, if any

    def holds_own(self) -> Tensor:
        """In which of the boxes the image itself lies, (P,) bool."""
        if self.own is None:
            return torch.zeros(len(self.box.lower), dtype=torch.bool, device=self.box.lower.device)
        own = self.own.double()
        return ((own >= self.box.lower) & (own <= self.box.upper)).flatten(1).all(1)

    def images(self, parameters: Tensor) -> Tensor:
        """Float32 images (N, *shape) of parameters; weights that have another sum are scaled."""
        if self.map is None:
            return parameters.float()
        x = parameters.double()
        if isinstance(self.within, Simplex):
            x = x / x.sum(1, keepdim=True).clamp(min=1e-30)
        x = apply(self.map.values, x).clamp(0, 1)
        return apply(self.map.places, x).float()

    def contains(self, parameters: Tensor, image: Tensor) -> bool:
        """Whether these parameters are in the region, and the image is theirs, by exact arithmetic.

        Args:
            parameters: (*shape), of any box; of weights, only their shares of their sum count.
            image: Float32, the pixels.
        """
        x = parameters.double()
        if not ((x >= self.box.lower) & (x <= self.box.upper)).flatten(1).all(1).any():
            return False
        if self.map is None:
            return torch.equal(parameters.float(), image)
        shares = [Fraction(one) for one in x.tolist()]
        if isinstance(self.within, Simplex):
            total = sum(shares)
            if total <= 0:
                return False
            shares = [one / total for one in shares]
        layer, places = self.map.values, self.map.places
        values = []
        for row, constant in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True):
            terms = (Fraction(w) * one for w, one in zip(row, shares, strict=True) if w)
            values.append(sum(terms, Fraction(constant)))
        if self.map.clipped:
            values = [min(max(value, Fraction(0)), Fraction(1)) for value in values]
        if isinstance(places, Gather):
            values = [values[i] for i in places.index.flatten().tolist()]
        return all(
            abs(Fraction(pixel) - value) <= _ROUNDING * abs(value) + _TINY
            for pixel, value in zip(image.flatten().tolist(), values, strict=True)
        )

    def before(self, network: Network) -> Network:
        """The network of the parameters: with the map in front of it, and what is known of them."""
        layers = self._layers()
        size, shapes = len(layers), [tuple(self.box.lower.shape[1:])]
        for layer in layers:
            zeros = torch.zeros((1, *shapes[-1]), dtype=torch.float64, device=self._device())
            shapes.append(tuple(apply(layer, zeros).shape[1:]))
        read = [tuple(value + size for value in values) for values in network.inputs]
        return network._replace(
            layers=layers + network.layers,
            shapes=(*shapes, *network.shapes[1:]),
            inputs=(*((k,) for k in range(size)), *read),
            steps=None if network.steps is None else ((),) * size + network.steps,
            within=self.within,
        )

    def _device(self) -> torch.device:
        return self.box.lower.device

    def _layers(self) -> tuple[Layer, ...]:
        if self.map is None:
            return ()
        values = self.map.values
        if not self.map.clipped:
            return values, self.map.places
        minus, one = -torch.ones_like(values.bias), torch.ones_like(values.bias)
        flip = Scale(minus, one)  # clipped is 1 - relu(1 - relu(x))
        return values, Relu(), flip, Relu(), flip, self.map.places


class Through(nn.Module):
    """A model behind the images of parameters, which are float32 also where the model is not."""

    def __init__(self, area: Area, model: nn.Module) -> None:
        super().__init__()
        self.area, self.model = area, model

    def forward(self, parameters: Tensor) -> Tensor:
        logits: Tensor = self.model(self.area.images(parameters).to(parameters.dtype))
        return logits


def mapped(
    offset: Tensor,
    directions: Tensor,
    box: Bounds,
    *,
    within: Within | None = None,
    own: Tensor | None = None,
) -> Area:
    """The images offset + sum of parameter times direction, clipped to [0, 1].

    Pixels that are the same everywhere are computed once. Where intervals say that nothing leaves
    the pixels, there is nothing to clip.

    Args:
        offset: (*shape).
        directions: (p, *shape).
        box: Of the parameters, (1, p).
    """
    shape, device = tuple(offset.shape), offset.device
    rows = torch.cat([offset.double().reshape(1, -1), directions.double().flatten(1)]).T
    distinct, index = torch.unique(rows, dim=0, return_inverse=True)
    weight, bias = distinct[:, 1:].contiguous(), distinct[:, 0].contiguous()
    if within is None:
        ends = weight * box.lower, weight * box.upper
        low, high = (bias + pick(*ends).sum(1) for pick in (torch.minimum, torch.maximum))
    else:
        low, high = bias + weight.amin(1), bias + weight.amax(1)
    clipped = bool(((low < 0) | (high > 1)).any())
    places = Gather(index.to(device).reshape(shape))
    return Area(box, Map(Linear(weight, bias), clipped, places), within, own)
