"""A network as certificates are about it, from the layers that are read here."""

import numpy as np
from scipy import sparse

from robsweep.tasks.certificates import network as certified
from robsweep.tasks.recheck.layers import Affine, Layer, Max, Relu


def as_certified(layers: list[Layer], inputs: int) -> certified.Network:
    """The same layers, without zeros in their matrices, in the one form that is hashed.

    Args:
        inputs: How many numbers one image has.
    """
    found: list[certified.Layer] = []
    size = inputs
    for layer in layers:
        match layer:
            case Affine(matrix, bias):
                found.append(_affine(matrix, bias))
                size = len(bias)
            case Relu():
                found.append(certified.Relu(layer.on(size)))
            case Max(windows):
                found.append(certified.Max(windows.astype(np.int64)))
                size = len(windows)
    return certified.Network(inputs, tuple(found))


def _affine(matrix: object, bias: np.ndarray) -> certified.Affine:
    rows = sparse.csr_array(matrix)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    rows.sort_indices()
    starts, columns = rows.indptr.astype(np.int64), rows.indices.astype(np.int64)
    return certified.Affine(starts, columns, rows.data.astype(np.float64), bias.astype(np.float64))
