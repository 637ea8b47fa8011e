"""Small ONNX files, and VNN-LIB files about them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def write(
    path: Path, nodes: list[Any], constants: dict[str, Any], dims: list[int], opset: int = 13
) -> str:
    """One input `x` of float32, one output `y`."""
    from onnx import TensorProto, helper, numpy_helper, save

    weights = [
        numpy_helper.from_array(
            np.asarray(v, dtype=None if np.asarray(v).dtype.kind == "i" else np.float32), name
        )
        for name, v in constants.items()
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), str(path))
    return str(path)


def dense_file(path: Path, net: nn.Sequential) -> str:
    """The Linear and ReLU layers of a module as Gemm and Relu."""
    from onnx import helper

    nodes, constants, value = [], {}, "x"
    for i, layer in enumerate(net):
        following = "y" if i == len(net) - 1 else f"v{i}"
        if isinstance(layer, nn.Linear):
            constants[f"w{i}"], constants[f"b{i}"] = layer.weight.numpy(), layer.bias.numpy()
            inputs = [value, f"w{i}", f"b{i}"]
            nodes.append(helper.make_node("Gemm", inputs, [following], transB=1))
        else:
            nodes.append(helper.make_node("Relu", [value], [following]))
        value = following
    return write(path, nodes, constants, [1, net[0].in_features])


def declared(inputs: int, outputs: int) -> str:
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    return "".join(f"(declare-const {name} Real)\n" for name in names)


def ball_file(path: Path, x: torch.Tensor, eps: float, label: int, outputs: int) -> str:
    """Some class ties with or beats the label within eps of an image, clipped to [0, 1]."""
    text = declared(x.numel(), outputs)
    for i, value in enumerate(x.double().flatten().tolist()):
        text += f"(assert (<= X_{i} {min(1.0, value + eps)!r}))\n"
        text += f"(assert (>= X_{i} {max(0.0, value - eps)!r}))\n"
    others = (f"(and (>= Y_{j} Y_{label}))" for j in range(outputs) if j != label)
    path.write_text(text + f"(assert (or {' '.join(others)}))\n")
    return str(path)
