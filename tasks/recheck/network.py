"""Reads a torch module as a chain of plain layers; a value that is needed later is carried along.

`x + f(x)` becomes layers on the pair (f(x) so far, x): affine maps and maxima that leave x alone,
ReLUs on a part of the pair, and an affine map that adds the two.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import nn

from robsweep.tasks.errors import InputError
from robsweep.tasks.recheck.layers import Affine, Layer, Max, Relu, forward, joined
from robsweep.tasks.recheck.steps import Scale, Step, Sum, steps_of, unknown
from robsweep.tasks.recheck.unroll import Shape, average, convolution, maximum


class _Place(NamedTuple):
    """Where a value lies in what the last layer gives, flattened."""

    start: int
    shape: Shape

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def read(module: nn.Module, shape: Shape) -> list[Layer]:
    """The layers of a module in evaluation mode, from one flattened image to logits.

    Args:
        shape: Of one image.

    Raises:
        InputError: A layer that is not known here, or layers that do not compute what the module
            computes.
    """
    name = type(module).__name__
    steps, output = steps_of(module, name)
    last = {0: 0} | {v: k for k, step in enumerate(steps, start=1) for v in step.reads}
    last[output] = len(steps) + 1
    chain = _Chain(tuple(shape))
    memory = {0: 0}  # what a value lies in: reshaping makes none
    for k, step in enumerate(steps, start=1):
        memory[k] = k
        if isinstance(step.does, nn.Flatten | nn.Unflatten):
            memory[k] = memory[step.reads[0]]
        if isinstance(step.does, nn.ReLU) and step.does.inplace:
            memory[k] = memory[step.reads[0]]
            if any(memory[v] == memory[k] and last.get(v, 0) > k for v in range(k)):
                raise unknown(step.where, "ReLU in place on what is used again")
        chain.append(k, step, keep={v for v in chain.places if last.get(v, 0) > k})
    end = chain.only(output)
    if len(end.shape) != 1:
        raise InputError(f"model {name}: gives {end.shape} per image, not one row of logits")
    probe = np.random.default_rng(0).uniform(size=(3, *shape))
    with torch.no_grad():
        expected = copy.deepcopy(module).double().eval().cpu()(torch.from_numpy(probe)).numpy()
    found = forward(chain.layers, probe.reshape(3, -1))
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-9, atol=1e-9):
        raise InputError(f"model {name}: its layers do not compute what it computes")
    return chain.layers


class _Chain:
    """The layers so far, and where behind them the values lie that are still needed."""

    def __init__(self, shape: Shape) -> None:
        self.layers: list[Layer] = []
        self.places = {0: _Place(0, shape)}
        self.width = self.places[0].size

    def append(self, new: int, step: Step, keep: set[int]) -> None:
        """Makes value `new`, and drops all values but it and those in `keep`."""
        places = [self.places[v] for v in step.reads]
        made = _made(step, [place.shape for place in places])
        shape = made.shape
        if isinstance(made.layer, Max):
            windows = made.layer.windows + places[0].start
            kept = self._kept(keep, len(windows))
            same = np.repeat(kept[:, None], windows.shape[1], axis=1)
            self.layers.append(Max(np.concatenate([windows, same])))
        elif isinstance(made.layer, Affine):
            factors = step.does.factors if isinstance(step.does, Sum) else (1.0,)
            self._affine(made.layer, list(zip(places, factors, strict=True)), keep)
        else:
            self._in_place(new, places[0], keep)
            if isinstance(made.layer, Relu):
                place = self.places[new]
                alone = place.size == self.width
                units = None if alone else np.arange(place.start, place.start + place.size)
                self.layers.append(Relu(units))
        start = self.places[new].start if new in self.places else 0
        self.places[new] = _Place(start, shape)

    def only(self, value: int) -> _Place:
        """Drops all values but one."""
        place = self.places[value]
        if place.size != self.width:
            same = Affine(sparse.eye_array(place.size, format="csr"), np.zeros(place.size))
            self._affine(same, [(place, 1.0)], set())
        return place

    def _in_place(self, new: int, place: _Place, keep: set[int]) -> None:
        """The value becomes `new` where it lies, or a copy of it where it is still needed."""
        others = [self.places[v] for v in keep]
        if not any(other.start == place.start for other in others):
            self.places = {v: self.places[v] for v in keep} | {new: place}
            return
        same = Affine(sparse.eye_array(place.size, format="csr"), np.zeros(place.size))
        self._affine(same, [(place, 1.0)], keep)
        self.places[new] = _Place(0, place.shape)

    def _affine(self, layer: Affine, terms: list[tuple[_Place, float]], keep: set[int]) -> None:
        """The sum of what `layer` makes of each term comes first, then what is kept."""
        before, outputs = self.width, len(layer.bias)
        kept = self._kept(keep, outputs)
        if len(kept) or terms != [(terms[0][0], 1.0)] or terms[0][0].size != before:
            matrix, rows = sparse.csr_array(layer.matrix), sparse.csr_array((outputs, before))
            for place, factor in terms:
                empty = (outputs, place.start), (outputs, before - place.start - place.size)
                left, right = (sparse.csr_array(size) for size in empty)
                rows = rows + sparse.hstack([left, factor * matrix, right], format="csr")
            rest = sparse.eye_array(before, format="csr")[kept]
            whole = sparse.vstack([rows, rest], format="csr")
            layer = Affine(whole, np.concatenate([layer.bias, np.zeros(len(kept))]))
        self.layers = joined(self.layers, layer)

    def _kept(self, keep: set[int], outputs: int) -> np.ndarray:
        """Which entries are carried along; they come to lie behind `outputs` new ones."""
        at, index, moved = outputs, [], {}
        for start, size in {(p.start, p.size) for p in map(self.places.__getitem__, keep)}:
            moved[start] = at
            index.append(np.arange(start, start + size))
            at += size
        self.places = {v: self.places[v]._replace(start=moved[self.places[v].start]) for v in keep}
        self.width = at
        return np.concatenate([np.zeros(0, dtype=np.int64), *index])


class _Made(NamedTuple):
    layer: Layer | None  # None: it only changes the shape
    shape: Shape


def _made(step: Step, shapes: list[Shape]) -> _Made:
    """The layer behind a step on values of these shapes."""
    does, shape, where = step.does, shapes[0], step.where
    size = int(np.prod(shape))
    match does:
        case Sum():
            if shapes[0] != shapes[1]:
                raise unknown(where, f"a sum of {shapes[0]} and {shapes[1]}")
            return _Made(Affine(sparse.eye_array(size, format="csr"), np.zeros(size)), shape)
        case Scale():
            return _Made(_scaled(does, shape, where), shape)
        case nn.ReLU():
            return _Made(Relu(), shape)
        case nn.Flatten() if does.start_dim == 1 and does.end_dim in (-1, len(shape)):
            return _Made(None, (size,))
        case nn.Unflatten() if does.dim == 1 and len(shape) == 1:
            return _Made(None, tuple(does.unflattened_size))
        case nn.Linear() if len(shape) == 1:
            weight = _array(does.weight)
            bias = np.zeros(len(weight)) if does.bias is None else _array(does.bias)
            return _Made(Affine(weight, bias), (len(weight),))
        case nn.BatchNorm1d() | nn.BatchNorm2d() if does.running_mean is not None:
            return _Made(_normalisation(does, shape), shape)
    place = f"{where} ({type(does).__name__})"
    if len(shape) == 3:
        match does:
            case nn.Conv2d():
                return _Made(*convolution(does, shape, place))
            case nn.AvgPool2d():
                return _Made(*average(does, shape, place))
            case nn.MaxPool2d():
                return _Made(*maximum(does, shape, place))
    raise unknown(where, type(does).__name__)


def _scaled(scale: Scale, shape: Shape, where: str) -> Affine:
    """A constant of a batch's shape may have one row, as all images get the same."""
    full: list[np.ndarray] = []
    for constant in (scale.weight, scale.bias):
        one = constant[0] if constant.dim() == len(shape) + 1 and len(constant) == 1 else constant
        try:
            full.append(_array(one.broadcast_to(shape)).ravel())
        except RuntimeError:
            raise unknown(where, f"a constant {tuple(constant.shape)} with {shape}") from None
    return Affine(sparse.diags_array(full[0]).tocsr(), full[1])


def _normalisation(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape) -> Affine:
    assert module.running_mean is not None
    assert module.running_var is not None
    scale = 1 / np.sqrt(_array(module.running_var) + module.eps)
    if module.weight is not None:
        scale = scale * _array(module.weight)
    shift = -scale * _array(module.running_mean)
    if module.bias is not None:
        shift = shift + _array(module.bias)
    pixels = int(np.prod(shape[1:]))
    return Affine(sparse.diags_array(np.repeat(scale, pixels)).tocsr(), np.repeat(shift, pixels))


def _array(tensor: torch.Tensor) -> Any:
    return tensor.detach().double().cpu().numpy()
