"""A network over a box of images as a mixed-integer linear program, built from sparse arrays."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse

from robsweep.tasks.verification.bounds.intervals import Bounds
from robsweep.tasks.verification.bounds.rounding import added
from robsweep.tasks.verification.reading.layers import (
    Affine,
    Conv,
    Gather,
    Layer,
    Linear,
    MaxPool,
    Network,
    Pair,
    Relu,
    Scale,
    Smooth,
    Sum,
    windows,
)
from robsweep.tasks.verification.reading.within import Ball, Simplex, Within

Array = NDArray[np.float64]
ABOVE = 1 + 1e-9  # more than what carrying a slack on is off by


class Milp(NamedTuple):
    """Variables in [lower, upper] with row_lower <= rows @ v <= row_upper; the pixels come first.

    The logits are `logits @ v + offset`, or off that by no more than `slack`.
    """

    lower: Array  # (V,)
    upper: Array
    integer: NDArray[np.bool_]
    rows: sparse.csr_array  # (R, V)
    row_lower: Array
    row_upper: Array
    logits: sparse.csr_array  # (K, V)
    offset: Array
    pixels: int  # how many variables are pixels
    slack: Array  # (K,)
    squares: NDArray[np.int64] | None = None  # variables whose squares add up to at most `most`
    most: float = np.inf


class Forms(NamedTuple):
    """Values that are affine in the variables, matrix @ v + offset, or off that by the slack."""

    matrix: sparse.csr_array  # (n, room for variables)
    offset: Array  # (n,)
    slack: Array  # (n,), by how much they may be off as the network runs

    def take(self, which: NDArray[np.int64]) -> "Forms":
        return Forms(self.matrix[which], self.offset[which], self.slack[which])


def encode(network: Network, bounds: list[Bounds]) -> Milp:
    """Encodes one sample's box with its own bounds in every big-M.

    A ReLU or max-pooling window that the bounds decide needs no binary. What rounding may add where
    the network runs, if its steps are known, is in the constants of rows that can only be wider.
    Source: Tjeng et al. 2019, section 4.1.

    Args:
        bounds: On each value, each (1, *shape).

    Raises:
        ValueError: A layer that no MILP encodes exactly.
    """
    flat = [Bounds(b.lower[0].cpu(), b.upper[0].cpu()) for b in bounds]
    build = Building(room_for(network))
    pixels = build.variables(*map(numbers, flat[0]))
    squares = None
    if network.within is not None:
        squares = restrict(build, pixels, network.within, flat[0])
    values = [build.chosen(pixels)]
    for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
        box = flat[read[0]]
        error = added(network, k, [bounds[v].size() for v in read])
        match layer:
            case Relu():
                forms = _relu(build, values[read[0]], box)
            case MaxPool():
                forms = max_pooled(build, layer, values[read[0]], box)
            case _:
                forms = moved(layer, network.shapes[read[0]], [values[v] for v in read])
        if error is not None:
            forms = forms._replace(slack=ABOVE * (forms.slack + numbers(error[0]).ravel()))
        values.append(forms)
    milp = build.finished(values[-1], flat[0].lower.numel())
    if squares is None or not isinstance(network.within, Ball) or network.within.norm != "l2":
        return milp
    return milp._replace(squares=squares, most=ABOVE * network.within.radius**2)


def moved(layer: Layer, shape: tuple[int, ...], read: list[Forms]) -> Forms:
    """What a layer without pieces makes of affine forms.

    Args:
        shape: Of what it reads first.
    """
    forms = read[0]
    match layer:
        case Linear() | Conv() | Scale():
            matrix, bias = sparse_of(layer, shape)
            slack = abs(matrix) @ forms.slack
            return Forms(matrix @ forms.matrix, matrix @ forms.offset + bias, slack)
        case Gather():
            return gathered(layer, forms)
        case Sum():
            terms = list(zip(read, layer.factors, strict=True))
            return Forms(
                sum((f * one.matrix for one, f in terms[1:]), terms[0][1] * forms.matrix),
                sum((f * one.offset for one, f in terms[1:]), terms[0][1] * forms.offset),
                sum((abs(f) * one.slack for one, f in terms), 0 * forms.slack),
            )
        case Smooth():
            raise ValueError(f"{layer.curve} has bounds only, no exact encoding")
        case _:
            return forms


def room_for(network: Network) -> int:
    """No fewer than the variables that an encoding takes."""
    pixels = torch.Size(network.shapes[0]).numel()
    room = pixels if network.within is None else 2 * pixels
    for k, (layer, read) in enumerate(zip(network.layers, network.inputs, strict=True)):
        if isinstance(layer, Relu):
            room += 3 * torch.Size(network.shapes[read[0]]).numel()
        elif isinstance(layer, MaxPool):
            outputs = torch.Size(network.shapes[k + 1]).numel()
            room += (1 + layer.kernel[0] * layer.kernel[1]) * outputs
    return room


def restrict(
    build: "Building", pixels: NDArray[np.int64], within: Within, box: Bounds
) -> NDArray[np.int64] | None:
    """What else than bounds holds of the pixels; of an l2 ball, what of it is linear.

    Returns:
        Of a ball, variables for how far pixels have moved.
    """
    if isinstance(within, Simplex):
        ones = sparse.csr_array(np.ones((1, pixels.size)))
        build.equal(ones @ build.terms(pixels), np.ones(1))
        return None
    centre = np.asarray(within.centre.double().cpu().numpy()).ravel()
    lower, upper = numbers(box.lower).ravel(), numbers(box.upper).ravel()
    free = np.flatnonzero(lower < upper)
    moved = build.variables(
        np.zeros(free.size), np.maximum(centre[free] - lower[free], upper[free] - centre[free])
    )
    x, distance = build.terms(pixels[free]), build.terms(moved)
    build.at_most(x - distance, centre[free])
    build.at_most(-x - distance, -centre[free])
    most = within.radius * (1.0 if within.norm == "l1" else free.size**0.5)
    build.at_most(sparse.csr_array(np.ones((1, free.size))) @ distance, np.array([most * ABOVE]))
    return moved


def gathered(layer: Gather, forms: Forms) -> Forms:
    index = layer.index.flatten().cpu().numpy()
    real = np.flatnonzero(index >= 0)
    taken = forms.take(index[real])
    place = sparse.csr_array(
        (np.ones(real.size), (real, np.arange(real.size))), (index.size, real.size)
    )
    offset = np.full(index.size, layer.fill)
    offset[real] = taken.offset
    return Forms(place @ taken.matrix, offset, place @ taken.slack)


def constraint_rows(milp: Milp, weight: Array, bias: Array) -> tuple[Array, Array]:
    """The least of weight (C, K) @ logits + bias (C,): coefficients (C, V), and constants."""
    return weight @ milp.logits, weight @ milp.offset + bias - abs(weight) @ milp.slack


def sparse_of(layer: Affine, shape: tuple[int, ...]) -> tuple[sparse.csr_array, Array]:
    """Matrix (out, in) and bias (out,) of a layer on flattened inputs of the given shape."""
    if isinstance(layer, Linear):
        return sparse.csr_array(numbers(layer.weight)), numbers(layer.bias)
    if isinstance(layer, Scale):
        return sparse.diags_array(numbers(layer.weight.flatten()), format="csr"), numbers(
            layer.bias.flatten()
        )
    size = torch.Size(shape).numel()
    # which input each place of each patch sees, counted from 1; 0 is padding
    places = torch.arange(1, size + 1, dtype=torch.float64).reshape(1, *shape)
    kernel: Pair = (layer.weight.shape[2], layer.weight.shape[3])
    seen = F.unfold(places, kernel, layer.dilation, layer.padding, layer.stride)[0].long()
    patches = seen.shape[1]
    seen = seen.reshape(layer.groups, 1, -1, patches)
    weight = layer.weight.detach().cpu().reshape(layer.groups, -1, seen.shape[2], 1)
    outputs = torch.arange(len(layer.weight) * patches).reshape(layer.groups, -1, 1, patches)
    column, value, row = (t.flatten() for t in torch.broadcast_tensors(seen, weight, outputs))  # type: ignore[no-untyped-call]
    real = (column > 0) & (value != 0)
    entries = (value[real].numpy(), (row[real].numpy(), column[real].numpy() - 1))
    matrix = sparse.csr_array(entries, shape=(len(layer.weight) * patches, size))
    return matrix, np.repeat(numbers(layer.bias), patches)


def numbers(tensor: torch.Tensor) -> Array:
    return np.asarray(tensor.detach().cpu().numpy(), dtype=np.float64).reshape(
        tensor.shape if tensor.dim() == 2 else -1
    )


class Building:
    """Variables and rows gathered so far."""

    def __init__(self, room: int) -> None:
        self.room, self.count = room, 0
        self.columns: list[tuple[Array, Array, bool]] = []
        self.rows: list[tuple[sparse.csr_array, Array, Array]] = []

    def variables(self, lower: Array, upper: Array, *, integer: bool = False) -> NDArray[np.int64]:
        ids = np.arange(self.count, self.count + lower.size)
        self.count += lower.size
        self.columns.append((lower.ravel(), upper.ravel(), integer))
        return ids

    def binaries(self, n: int) -> NDArray[np.int64]:
        return self.variables(np.zeros(n), np.ones(n), integer=True)

    def terms(self, ids: NDArray[np.int64], factor: Array | float = 1.0) -> sparse.csr_array:
        """One row per id: factor * v[id]."""
        values = np.broadcast_to(np.asarray(factor, dtype=np.float64), ids.shape)
        return sparse.csr_array((values, (np.arange(ids.size), ids)), shape=(ids.size, self.room))

    def chosen(self, ids: NDArray[np.int64]) -> Forms:
        return Forms(self.terms(ids), np.zeros(ids.size), np.zeros(ids.size))

    def at_most(self, matrix: sparse.csr_array, upper: Array) -> None:
        self.rows.append((matrix, np.full(upper.size, -np.inf), upper))

    def equal(self, matrix: sparse.csr_array, value: Array) -> None:
        self.rows.append((matrix, value, value))

    def finished(self, logits: Forms, pixels: int) -> Milp:
        empty = sparse.csr_array((0, self.room))
        rows = sparse.vstack([empty, *(matrix for matrix, _, _ in self.rows)], format="csr")
        rows.sum_duplicates()  # which also sorts each row, as MathOpt demands
        return Milp(
            np.concatenate([lower for lower, _, _ in self.columns]),
            np.concatenate([upper for _, upper, _ in self.columns]),
            np.concatenate([np.full(low.size, whole) for low, _, whole in self.columns]),
            rows[:, : self.count],
            np.concatenate([np.zeros(0), *(lower for _, lower, _ in self.rows)]),
            np.concatenate([np.zeros(0), *(upper for _, _, upper in self.rows)]),
            logits.matrix[:, : self.count],
            logits.offset,
            pixels,
            logits.slack,
        )


def spread(build: Building, n: int, at: NDArray[np.int64], ids: NDArray[np.int64]) -> Forms:
    """Values: variable `ids[j]` at position `at[j]`, 0 elsewhere."""
    entries = (np.ones(at.size), (at, ids))
    return Forms(sparse.csr_array(entries, shape=(n, build.room)), np.zeros(n), np.zeros(n))


def _relu(build: Building, forms: Forms, box: Bounds) -> Forms:
    lower, upper = numbers(box.lower).ravel(), numbers(box.upper).ravel()
    alive = np.flatnonzero(upper > 0)
    slack = forms.slack[alive]
    z = build.variables(lower[alive] - slack, upper[alive] + slack)
    build.equal(forms.take(alive).matrix - build.terms(z), -forms.offset[alive])
    free = lower[alive] < 0
    y, low, high = z.copy(), lower[alive][free], upper[alive][free]
    y[free] = build.variables(np.zeros(low.size), high)
    on = build.binaries(low.size)
    before, after = build.terms(z[free]), build.terms(y[free])
    build.at_most(before - after, slack[free])
    build.at_most(after - before - build.terms(on, low), slack[free] - low)
    build.at_most(after - build.terms(on, high), np.zeros(low.size))
    passed = spread(build, lower.size, alive, y)
    passed.slack[alive[~free]] = slack[~free]  # the others are what they are behind the ReLU
    return passed


def max_pooled(build: Building, layer: MaxPool, forms: Forms, box: Bounds) -> Forms:
    shape = box.lower.shape
    places = torch.arange(box.lower.numel(), dtype=torch.float64).reshape(1, *shape)
    lower, upper, place = (
        windows(layer, t[None] if t.dim() == 3 else t, fill).reshape(
            -1, layer.kernel[0] * layer.kernel[1]
        )
        for t, fill in ((box.lower, -torch.inf), (box.upper, -torch.inf), (places, -1.0))
    )
    best, first = lower.max(1)
    # an input that cannot exceed another one's lower bound is never needed
    needed = (upper > best[:, None]).scatter(1, first[:, None], 1)
    single = (needed.sum(1) == 1).numpy()
    at, column = (~torch.from_numpy(single)[:, None] & needed).nonzero().unbind(1)
    window, source = at.numpy(), place[at, column].long().numpy()
    low = lower[at, column].numpy()
    open_windows = np.flatnonzero(~single)
    most = upper.max(1).values.numpy()
    y = np.zeros(len(best), dtype=np.int64)
    y[open_windows] = build.variables(best.numpy()[open_windows], most[open_windows])
    pick = build.binaries(window.size)
    inputs, outputs, slack = forms.take(source), build.terms(y[window]), most[window] - low
    build.at_most(inputs.matrix - outputs, inputs.slack - inputs.offset)
    build.at_most(
        outputs - inputs.matrix + build.terms(pick, slack), slack + inputs.offset + inputs.slack
    )
    ones = (np.ones(window.size), (np.searchsorted(open_windows, window), pick))
    picked = sparse.csr_array(ones, shape=(open_windows.size, build.room))
    build.equal(picked, np.ones(open_windows.size))
    fresh = spread(build, len(best), open_windows, y[open_windows])
    kept = np.flatnonzero(single)
    passed = forms.take(place[torch.arange(len(best)), first].long().numpy()[kept])
    back = sparse.csr_array(
        (np.ones(kept.size), (kept, np.arange(kept.size))), (len(best), kept.size)
    )
    return Forms(
        fresh.matrix + back @ passed.matrix,
        fresh.offset + back @ passed.offset,
        fresh.slack + back @ passed.slack,
    )
