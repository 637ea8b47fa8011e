from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.layers import (
    Conv,
    Linear,
    Network,
    Relu,
    evaluate,
    is_exact,
)
from robsweep.tasks.verification.reading.onnx.model import load, parsed
from robsweep.tasks.verification.reading.onnx.network import read_onnx
from tests.tasks.verification.reading.onnx_files import write

pytest.importorskip("onnx")
from onnx import helper

torch.manual_seed(0)
IMAGE = [1, 2, 5, 6]
KERNEL, BIAS = torch.randn(4, 2, 3, 2), torch.randn(4)
GROUPED = torch.randn(4, 1, 3, 3)
MATRIX, VECTOR = torch.randn(6, 3), torch.randn(3)
CHANNEL = torch.rand(2, 1, 1) + 0.5
STATISTICS = [torch.randn(2), torch.randn(2), torch.randn(2), torch.rand(2) + 0.5]


def _network(path: Path, nodes: list[Any], constants: dict[str, Any], dims: list[int]) -> Network:
    return read_onnx(load(write(path / "net.onnx", nodes, constants, dims)))


CASES: list[tuple[str, list[int], dict[str, Any], dict[str, Any], Any]] = [
    ("MatMul", [1, 6], {"c": MATRIX}, {}, lambda x: x @ MATRIX),
    ("MatMul", [1, 4, 6], {"c": MATRIX}, {}, lambda x: x @ MATRIX),
    ("Gemm", [1, 6], {"c": MATRIX, "d": VECTOR}, {"alpha": 0.5, "beta": 2.0}, None),
    ("Add", IMAGE, {"c": CHANNEL}, {}, lambda x: x + CHANNEL),
    ("Sub", IMAGE, {"c": CHANNEL}, {}, lambda x: x - CHANNEL),
    ("Mul", IMAGE, {"c": CHANNEL}, {}, lambda x: x * CHANNEL),
    ("Div", IMAGE, {"c": CHANNEL}, {}, lambda x: x / CHANNEL),
    ("Relu", IMAGE, {}, {}, F.relu),
    ("Sigmoid", IMAGE, {}, {}, torch.sigmoid),
    ("Tanh", IMAGE, {}, {}, torch.tanh),
    ("Identity", IMAGE, {}, {}, lambda x: x),
    ("Flatten", IMAGE, {}, {}, lambda x: x),
    ("Reshape", IMAGE, {"c": np.array([1, 6, 10])}, {}, lambda x: x),
    ("Transpose", IMAGE, {}, {"perm": [0, 2, 3, 1]}, lambda x: x.permute(0, 2, 3, 1)),
    (
        "Pad",
        IMAGE,
        {"c": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "d": np.float32(3.0)},
        {},
        lambda x: F.pad(x, (0, 2, 1, 0), value=3.0),
    ),
    ("Conv", IMAGE, {"c": KERNEL, "d": BIAS}, {}, lambda x: F.conv2d(x, KERNEL, BIAS)),
    (
        "Conv",
        IMAGE,
        {"c": GROUPED},
        {"group": 2, "strides": [2, 1], "pads": [1, 2, 1, 2], "dilations": [1, 2]},
        lambda x: F.conv2d(x, GROUPED, None, (2, 1), (1, 2), (1, 2), 2),
    ),
    (
        "Conv",
        IMAGE,
        {"c": KERNEL},
        {"pads": [0, 1, 2, 0]},
        lambda x: F.conv2d(F.pad(x, (1, 0, 0, 2)), KERNEL),
    ),
    (
        "Conv",
        IMAGE,
        {"c": KERNEL},
        {"auto_pad": "SAME_UPPER"},
        lambda x: F.conv2d(F.pad(x, (0, 1, 1, 1)), KERNEL),
    ),
    (
        "MaxPool",
        IMAGE,
        {},
        {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 1, 1, 1]},
        lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 1)),
    ),
    (
        "AveragePool",
        IMAGE,
        {},
        {"kernel_shape": [3, 3], "strides": [1, 2], "pads": [1, 1, 1, 1]},
        lambda x: F.avg_pool2d(x, 3, (1, 2), 1, count_include_pad=False),
    ),
    (
        "AveragePool",
        IMAGE,
        {},
        {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        lambda x: F.avg_pool2d(x, 2, 1, 1),
    ),
    (
        "BatchNormalization",
        IMAGE,
        dict(zip("cdef", STATISTICS, strict=True)),
        {"epsilon": 1e-3},
        lambda x: F.batch_norm(
            x, STATISTICS[2], STATISTICS[3], STATISTICS[0], STATISTICS[1], eps=1e-3
        ),
    ),
]


@pytest.mark.parametrize(
    ("kind", "dims", "constants", "attributes", "expected"),
    CASES,
    ids=[f"{case[0]}{i}" for i, case in enumerate(CASES)],
)
def test_operators_compute_what_torch_computes(
    tmp_path: Path,
    kind: str,
    dims: list[int],
    constants: dict[str, Any],
    attributes: dict[str, Any],
    expected: Any,
) -> None:
    arrays = {k: v.numpy() if isinstance(v, Tensor) else v for k, v in constants.items()}
    node = helper.make_node(kind, ["x", *arrays], ["y"], **attributes)
    network = _network(tmp_path, [node], arrays, dims)
    x = torch.randn(dims)
    found = evaluate(network, x.double().reshape(1, *network.shapes[0]))[-1][0]
    wanted = 0.5 * x @ MATRIX + 2 * VECTOR if expected is None else expected(x)
    torch.testing.assert_close(found.float(), wanted.flatten(), rtol=1e-4, atol=1e-5)
    assert is_exact(network) == (kind not in ("Sigmoid", "Tanh"))


def test_skip_connections_constants_and_sizes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Constant", [], ["shift"], value_floats=[0.5]),
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["a"]),
        helper.make_node("Add", ["a", "shift"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Reshape", ["c", "shape"], ["d"]),
        helper.make_node("Sub", ["x", "d"], ["e"]),
        helper.make_node("Add", ["e", "e"], ["y"]),
    ]
    weight = torch.randn(6, 6)
    network = _network(tmp_path, nodes, {"w": weight.numpy()}, [1, 2, 3])
    kinds = [type(layer) for layer in network.layers]
    assert kinds.count(Linear) == kinds.count(Relu) == 1
    x = torch.randn(2, 3)
    found = evaluate(network, x.double()[None])[-1][0]
    wanted = 2 * (x.flatten() - torch.relu(x.flatten() @ weight + 0.5))
    torch.testing.assert_close(found.float(), wanted, rtol=1e-4, atol=1e-5)


def test_a_matrix_from_the_left_and_no_batch_axis(tmp_path: Path) -> None:
    node = helper.make_node("MatMul", ["w", "x"], ["y"])
    network = _network(tmp_path, [node], {"w": MATRIX.numpy()}, [3])
    assert network.shapes == ((3,), (6,))


def test_batch_normalisation_is_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["a"]),
        helper.make_node("BatchNormalization", ["a", "c", "d", "e", "f"], ["y"]),
    ]
    constants = {"k": torch.randn(2, 2, 2, 2)} | dict(zip("cdef", STATISTICS, strict=True))
    arrays = {key: value.numpy() for key, value in constants.items()}
    network = _network(tmp_path, nodes, arrays, IMAGE)
    assert type(network.layers[0]) is Conv
    assert len(network.layers) == 2


@pytest.mark.parametrize(
    ("node", "constants", "words"),
    [
        (("Mish", ["x"], {}), {}, "Mish"),
        (("Mul", ["x", "x"], {}), {}, "Mul.*not linear"),
        (("Div", ["c", "x"], {}), {"c": np.ones(6)}, "Div.*divides by"),
        (("MatMul", ["x", "c"], {}), {"c": np.full((6, 2), np.nan)}, "'c' are not finite"),
        (("Div", ["x", "c"], {}), {"c": np.zeros(6)}, "Div.*divides by 0"),
        (("Add", ["x", "c"], {}), {"c": np.ones((3, 5))}, "Add.*do not fit"),
        (("Add", ["x", "c"], {"axis": 1}), {"c": np.ones(6)}, "Add.*attribute 'axis'"),
        (("Gelu", ["x"], {"approximate": "tanh"}), {}, "Gelu.*exact form"),
    ],
)
def test_what_cannot_be_verified_is_named(
    tmp_path: Path, node: tuple[str, list[str], dict[str, Any]], constants: Any, words: str
) -> None:
    kind, inputs, attributes = node
    nodes = [helper.make_node(kind, inputs, ["y"], **attributes)]
    with pytest.raises(InputError, match=words):
        _network(tmp_path, nodes, constants, [1, 6])


def test_pools_that_onnxruntime_does_not_run_are_named(tmp_path: Path) -> None:
    for attributes in (
        {"auto_pad": "SAME_UPPER", "dilations": [2, 2]},
        {"pads": [0, 0, 2, 1]},
        {"kernel_shape": [9, 9]},
    ):
        both = {"kernel_shape": [2, 2]} | attributes
        node = helper.make_node("MaxPool", ["x"], ["y"], **both)
        with pytest.raises(InputError, match=r"MaxPool \(y\)"):
            _network(tmp_path, [node], {}, IMAGE)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load(str(tmp_path / "absent.onnx"))
    (tmp_path / "text.onnx").write_text("not a network")
    with pytest.raises(InputError, match="not an ONNX file"):
        load(str(tmp_path / "text.onnx"))
    file = Path(write(tmp_path / "batch.onnx", [helper.make_node("Relu", "x", "y")], {}, [3, 2]))
    with pytest.raises(InputError, match="a batch of 3"):
        parsed(file.read_bytes(), str(file))
    assert read_onnx(load(str(file))).shapes[0] == (3, 2)  # all of it is one sample
