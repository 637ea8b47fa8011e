"""The network that certificates of an ONNX file are about, from the layers that it is read as.

A chain: what a later layer reads once more is carried along beside the values between.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import sparse
from torch import Tensor, nn

from robsweep.tasks.certificates import network as certified
from robsweep.tasks.recheck.chain import as_certified
from robsweep.tasks.recheck.layers import Affine, Max, Relu
from robsweep.tasks.recheck.layers import Layer as Plain
from robsweep.tasks.recheck.unroll import convolution, maximum
from robsweep.tasks.verification.proofs.branching import NotShownError
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Gather,
    Layer,
    Linear,
    MaxPool,
    Network,
    Reshape,
    Scale,
    Smooth,
    Sum,
)
from robsweep.tasks.verification.reading.layers import Relu as Rectifier


class _Parts(NamedTuple):
    """An affine map of several values: one matrix for each, and a constant."""

    matrices: list[sparse.csr_array]
    bias: np.ndarray


def chain_of(network: Network) -> certified.Network:
    """The same network as a chain.

    Raises:
        NotShownError: It has layers that no certificate is about.
    """
    sizes = [math.prod(shape) for shape in network.shapes]
    last = {0: 0}
    for k, read in enumerate(network.inputs):
        last |= dict.fromkeys(read, k)
    last[len(network.layers)] = len(network.layers)
    layers: list[Plain] = []
    held = [0]  # the values that lie behind one another in what the last layer gives
    for k, layer in enumerate(network.layers):
        read = network.inputs[k]
        kept = [v for v in held if last.get(v, -1) > k]
        widths = [sizes[v] for v in held]
        if isinstance(layer, Rectifier | MaxPool):
            # what it is applied to comes first, and a copy of it where it is read again
            order = [read[0], *kept]
            if order != held:
                layers.append(_moved(held, widths, order))
            size = sum(sizes[v] for v in kept)
            if isinstance(layer, Rectifier):
                layers.append(Relu(np.arange(sizes[read[0]])))
            else:
                layers.append(_pooled(layer, network.shapes[read[0]], size))
        else:
            parts = _affine(layer, [network.shapes[v] for v in read], network.shapes[k + 1])
            if read == (held[0],) and not kept and len(held) == 1 and _same(parts):
                held = [k + 1]
                continue
            layers.append(_carried(parts, read, held, widths, kept))
        held = [k + 1, *kept]
    if held != [len(network.layers)]:
        layers.append(_moved(held, [sizes[v] for v in held], [len(network.layers)]))
    return as_certified(layers, sizes[0])


def _same(parts: _Parts) -> bool:
    """Whether it changes nothing, as reshaping does."""
    (matrix,) = parts.matrices
    size = matrix.shape[0]
    same = matrix.shape[1] == size and (matrix != sparse.eye_array(size, format="csr")).nnz == 0
    return bool(same and not parts.bias.any())


def _affine(layer: Layer, shapes: list[tuple[int, ...]], shape: tuple[int, ...]) -> _Parts:
    size, none = math.prod(shapes[0]), np.zeros(math.prod(shape))
    match layer:
        case Linear():
            return _Parts([sparse.csr_array(layer.weight.cpu().numpy())], _flat(layer.bias))
        case Scale():
            matrix = sparse.diags_array(_flat(layer.weight)).tocsr()
            return _Parts([matrix], _flat(layer.bias))
        case Reshape():
            return _Parts([sparse.eye_array(size, format="csr")], none)
        case Sum():
            eye = sparse.eye_array(size, format="csr")
            return _Parts([factor * eye for factor in layer.factors], none)
        case Gather():
            index = layer.index.cpu().numpy().ravel()
            real = np.flatnonzero(index >= 0)
            entries = (np.ones(len(real)), (real, index[real]))
            matrix = sparse.csr_array(entries, shape=(len(index), size))
            return _Parts([matrix], np.where(index < 0, layer.fill, 0.0))
        case Conv():
            outputs, inner = layer.weight.shape[:2]
            kernel = (layer.weight.shape[2], layer.weight.shape[3])
            how = (layer.stride, layer.padding, layer.dilation, layer.groups)
            module = nn.Conv2d(inner * layer.groups, outputs, kernel, *how).double()
            module.load_state_dict({"weight": layer.weight.cpu(), "bias": layer.bias.cpu()})
            found, _ = convolution(module, shapes[0], "Conv")
            return _Parts([sparse.csr_array(found.matrix)], found.bias)
        case Smooth():
            raise NotShownError(f"its {layer.curve} is bounded, and no certificate is about curves")
    raise NotShownError(f"no certificate is about a {type(layer).__name__}")


def _flat(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.cpu().numpy(), dtype=np.float64).ravel()


def _carried(
    parts: _Parts, read: tuple[int, ...], held: list[int], widths: list[int], kept: list[int]
) -> Affine:
    """What an affine map makes of the values held, then those that are kept."""
    blocks = {v: sparse.csr_array((len(parts.bias), n)) for v, n in zip(held, widths, strict=True)}
    for value, matrix in zip(read, parts.matrices, strict=True):
        blocks[value] = blocks[value] + matrix
    rows = [sparse.hstack([blocks[v] for v in held], format="csr")]
    bias = parts.bias
    if kept:
        rest = _moved(held, widths, kept)
        rows.append(rest.matrix)
        bias = np.concatenate([bias, rest.bias])
    return Affine(sparse.vstack(rows, format="csr"), bias)


def _moved(held: list[int], widths: list[int], order: list[int]) -> Affine:
    """The values held in another order, some twice, some not."""
    starts = dict(zip(held, np.cumsum([0, *widths]).tolist(), strict=False))
    sizes = dict(zip(held, widths, strict=True))
    index = np.concatenate([np.arange(starts[v], starts[v] + sizes[v]) for v in order])
    entries = (np.ones(len(index)), (np.arange(len(index)), index))
    matrix = sparse.csr_array(entries, shape=(len(index), sum(widths)))
    return Affine(matrix, np.zeros(len(index)))


def _pooled(layer: MaxPool, shape: tuple[int, ...], rest: int) -> Max:
    module = nn.MaxPool2d(layer.kernel, layer.stride, layer.padding)
    found, _ = maximum(module, shape, "MaxPool")
    size, taps = math.prod(shape), found.windows.shape[1]
    same = np.repeat(np.arange(size, size + rest)[:, None], taps, axis=1)
    return Max(np.concatenate([found.windows, same]))
