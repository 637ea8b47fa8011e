"""Operators that ONNX's reference implementation gets wrong, or fails on, as they should be.

They are written tap by tap in numpy and share nothing with the reading, which is held against them.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Numbers = NDArray[Any]


def corrections() -> list[Any]:
    """Classes for `ReferenceEvaluator(new_ops=...)`."""
    from onnx.reference.op_run import OpRun

    return [
        type(name, (OpRun,), {"_run": run, "op_domain": ""})
        for name, run in {
            "AveragePool": _average_pool,
            "BatchNormalization": _batch_normalization,
            "ConvTranspose": _conv_transpose,
            "Gelu": _gelu,
            "GlobalMaxPool": _global_max_pool,
            "MaxPool": _max_pool,
            "Mean": _mean,
            "Pad": _pad,
            "Softmax": _softmax,
        }.items()
    ]


def padded(x: Numbers, pads: list[int], value: float, axes: list[int] | None, mode: str) -> Numbers:
    """ONNX's Pad, in which a negative number of values is cut off.

    Args:
        pads: How many before each axis, then how many behind each.

    Raises:
        ValueError: Numbers that do not fit the shape.
    """
    axes = list(range(x.ndim)) if axes is None else [axis % x.ndim for axis in axes]
    if len(pads) != 2 * len(axes) or len(set(axes)) != len(axes):
        raise ValueError(f"{len(pads)} pads for {len(axes)} axes")
    if mode != "constant" and min(pads, default=0) < 0:
        raise ValueError(f"mode {mode} with negative pads")
    sides = [(0, 0)] * x.ndim
    kept = [slice(None)] * x.ndim
    for axis, before, after in zip(axes, pads, pads[len(axes) :], strict=False):
        sides[axis] = (max(before, 0), max(after, 0))
        end = x.shape[axis] + sides[axis][0] + sides[axis][1] + min(after, 0)
        kept[axis] = slice(max(-before, 0), max(end, 0))
    if mode == "constant":
        wide = np.pad(x, sides, constant_values=value)
    elif mode in ("reflect", "edge", "wrap"):
        wide = np.pad(x, sides, mode=mode)  # type: ignore[call-overload]
    else:
        raise ValueError(f"mode {mode}")
    result: Numbers = wide[tuple(kept)]
    return result


def _pad(
    _: Any,
    data: Numbers,
    pads: Any = None,
    constant_value: Any = None,
    axes: Any = None,
    mode: Any = None,
    value: Any = None,
) -> tuple[Numbers]:
    fill = value if constant_value is None else np.asarray(constant_value).ravel()[0]
    where = None if axes is None else [int(axis) for axis in axes]
    return (padded(data, [int(p) for p in pads], float(fill or 0), where, mode or "constant"),)


def _softmax(op: Any, x: Numbers, axis: Any = None) -> tuple[Numbers]:
    """Before operator set 13 over all axes from `axis` on, which the reference does not know."""
    given = {one.name: one.i for one in op.onnx_node.attribute}
    if op.run_params["opsets"][""] < 13:
        first = given.get("axis", 1) % x.ndim
        rows = x.reshape(int(np.prod(x.shape[:first])), -1)
        axis = -1
    else:
        rows, axis = x, given.get("axis", -1)
    powers = np.exp(rows - rows.max(axis=axis, keepdims=True))
    return ((powers / powers.sum(axis=axis, keepdims=True)).reshape(x.shape),)


def _batch_normalization(
    _: Any,
    x: Numbers,
    scale: Numbers,
    bias: Numbers,
    mean: Numbers,
    var: Numbers,
    epsilon: float | None = None,
    **__: Any,
) -> tuple[Numbers]:
    """In evaluation mode: ONNX's own one mixes in batch statistics below operator set 14."""
    shape = (-1, *[1] * (x.ndim - 2))
    scale, bias, mean, var = (one.reshape(shape) for one in (scale, bias, mean, var))
    epsilon = 1e-5 if epsilon is None else epsilon
    return (scale * (x - mean) / np.sqrt(var + epsilon).astype(x.dtype) + bias,)


def _gelu(_: Any, x: Numbers, approximate: Any = None) -> tuple[Numbers]:
    if approximate not in (None, "none"):
        raise ValueError(f"approximate = {approximate}")
    return ((0.5 * x * (1 + erf(x / np.sqrt(2)))).astype(x.dtype),)


def _mean(_: Any, *parts: Numbers) -> tuple[Numbers]:
    total = parts[0]
    for one in parts[1:]:
        total = total + one
    return ((total / len(parts)).astype(parts[0].dtype),)


def _global_max_pool(_: Any, x: Numbers) -> tuple[Numbers]:
    return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


def _max_pool(_: Any, x: Numbers, **window: Any) -> tuple[Numbers]:
    return (np.max([part for part, _, _ in _taps(x, -np.inf, **window)], axis=0),)


def _average_pool(_: Any, x: Numbers, count_include_pad: Any = 0, **window: Any) -> tuple[Numbers]:
    """Padding counts if it is to; what a last window sees beyond it never does."""
    taps = list(_taps(x, 0.0, **window))
    counts = np.sum([outer if count_include_pad else real for _, real, outer in taps], axis=0)
    return ((np.sum([part for part, _, _ in taps], axis=0) / counts).astype(x.dtype),)


def _taps(
    x: Numbers,
    fill: float,
    auto_pad: Any = None,
    ceil_mode: Any = None,
    dilations: Any = None,
    kernel_shape: Any = None,
    pads: Any = None,
    storage_order: Any = None,
    strides: Any = None,
) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
    """What all windows see at one place of the kernel, and where it is the input, or padding too.

    Args:
        storage_order: Of the indices, which are not computed.
    """
    count = x.ndim - 2
    strides, dilations = (list(one or [1] * count) for one in (strides, dilations))
    ends = list(pads or [0] * (2 * count))
    outputs = []
    for i, size in enumerate(x.shape[2:]):
        reach = dilations[i] * (kernel_shape[i] - 1) + 1
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            most = -(-size // strides[i])
            more = max((most - 1) * strides[i] + reach - size, 0)
            less = more // 2 if auto_pad == "SAME_UPPER" else more - more // 2
            ends[i], ends[count + i] = less, more - less
        free = size + ends[i] + ends[count + i] - reach
        many = (-(-free // strides[i]) if ceil_mode else free // strides[i]) + 1
        if (many - 1) * strides[i] >= size + ends[i]:  # the last window must begin inside
            many -= 1
        outputs.append(many)
    # wide enough for whatever any window sees
    far = [dilations[i] * kernel_shape[i] + strides[i] for i in range(count)]
    inner = [(0, 0), (0, 0), *((ends[i], ends[count + i]) for i in range(count))]
    outer = [(0, 0), (0, 0), *((0, far[i]) for i in range(count))]
    real = np.pad(np.pad(np.ones_like(x), inner), outer)
    padding = np.pad(np.pad(np.ones_like(x), inner, constant_values=1), outer)
    wide = np.pad(np.pad(x, inner, constant_values=fill), outer, constant_values=fill)
    for tap in product(*map(range, kernel_shape)):
        part = [slice(None), slice(None)]
        for i, j in enumerate(tap):
            first = j * dilations[i]
            part.append(slice(first, first + (outputs[i] - 1) * strides[i] + 1, strides[i]))
        yield wide[tuple(part)], real[tuple(part)], padding[tuple(part)]


def _conv_transpose(
    _: Any,
    x: Numbers,
    w: Numbers,
    b: Numbers | None = None,
    auto_pad: Any = None,
    dilations: Any = None,
    group: Any = None,
    kernel_shape: Any = None,
    output_padding: Any = None,
    output_shape: Any = None,
    pads: Any = None,
    strides: Any = None,
) -> tuple[Numbers]:
    if auto_pad not in (None, "", "NOTSET") or output_shape:
        raise ValueError("auto_pad or output_shape")
    count, group = x.ndim - 2, group or 1
    strides, dilations = (list(one or [1] * count) for one in (strides, dilations))
    more, ends = list(output_padding or [0] * count), list(pads or [0] * (2 * count))
    sizes = [
        (x.shape[2 + i] - 1) * strides[i] + (w.shape[2 + i] - 1) * dilations[i] + 1 + more[i]
        for i in range(count)
    ]
    each = w.shape[1]
    full = np.zeros((len(x), each * group, *sizes), dtype=x.dtype)
    given = x.shape[1] // group
    for g, tap in product(range(group), product(*map(range, w.shape[2:]))):
        kernel = w[g * given : (g + 1) * given].reshape(given, each, -1)[
            :, :, np.ravel_multi_index(tap, w.shape[2:])
        ]
        part = [slice(None), slice(g * each, (g + 1) * each)]
        for i, j in enumerate(tap):
            first = j * dilations[i]
            last = first + (x.shape[2 + i] - 1) * strides[i] + 1
            part.append(slice(first, last, strides[i]))
        full[tuple(part)] += np.einsum("nc...,co->no...", x[:, g * given : (g + 1) * given], kernel)
    kept = [slice(ends[i], sizes[i] - ends[count + i]) for i in range(count)]
    result = full[(slice(None), slice(None), *kept)]
    return (result if b is None else result + b.reshape(-1, *[1] * count),)
