"""Files with one input and one output, and random numbers for what is in them."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Random = np.random.Generator


class Made(NamedTuple):
    """One input `x`, one output `y`; constants are initialisers."""

    nodes: list[Any]
    constants: dict[str, np.ndarray]
    dims: tuple[int, ...]
    opset: int


def saved(path: Path, made: Made, dtype: Any = np.float32) -> str:
    from onnx import helper, numpy_helper, save

    weights = [
        numpy_helper.from_array(v.astype(dtype) if v.dtype.kind == "f" else v, name)
        for name, v in made.constants.items()
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    inputs = [helper.make_tensor_value_info("x", kind, made.dims)]
    outputs = [helper.make_empty_tensor_value_info("y")]
    outputs[0].type.tensor_type.elem_type = kind
    graph = helper.make_graph(made.nodes, "net", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", made.opset)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8 if made.opset < 20 else 10)
    save(model, str(path))
    return str(path)


def node(kind: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> Any:
    from onnx import helper

    kept = {name: value for name, value in attributes.items() if value is not None}
    return helper.make_node(kind, inputs, outputs, **kept)


def one_of(random: Random, *choices: Any) -> Any:
    return choices[int(random.integers(len(choices)))]


def opset_of(random: Random, least: int = 7, most: int = 21) -> int:
    return int(random.integers(least, most + 1))


def ints(random: Random, low: int, high: int, count: int) -> list[int]:
    return [int(one) for one in random.integers(low, high, count)]


def dims_of(random: Random, least: int = 1, most: int = 4) -> tuple[int, ...]:
    return (1, *ints(random, 1, 5, int(random.integers(least - 1, most))))


def shape_like(random: Random, dims: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that can be broadcast together with `dims`."""
    some = [one_of(random, side, side, 1) for side in dims[int(random.integers(len(dims) + 1)) :]]
    if some and random.random() < 0.3:
        some = [int(random.integers(1, 4)) if s == d == 1 else s
                for s, d in zip(some, dims[len(dims) - len(some) :], strict=True)]  # fmt: skip
    return (2, *some) if random.random() < 0.1 and len(some) == len(dims) else tuple(some)
