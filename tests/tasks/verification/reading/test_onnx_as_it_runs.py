"""What an ONNX network may compute in its own precision lies within its bounds, or is not known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.reading.layers import DOUBLE, UNIT, Network, Scale
from robsweep.tasks.verification.reading.onnx.model import load
from robsweep.tasks.verification.reading.onnx.network import read_onnx
from tests.tasks.verification.reading.onnx_files import write
from tests.tasks.verification.reading.onnx_setups import Made, node, saved

pytest.importorskip("onnx")


def _read(path: Path, nodes: list[Any], constants: dict[str, Any], *dims: int) -> Network:
    return read_onnx(load(write(path / "net.onnx", nodes, constants, list(dims))))


def _at(network: Network, x: np.ndarray) -> Bounds:
    point = torch.from_numpy(x.astype(np.float64)).reshape(1, *network.shapes[0])
    return interval(network, Bounds(point, point))[-1]


def test_constants_that_are_computed_may_be_off_by_what_float32_loses(tmp_path: Path) -> None:
    """(2^24 + 1) - 2^24 is 0 in float32, or 1 where another runtime folds it otherwise."""
    nodes = [
        node("Add", "big", "one", outputs=("sum",)),
        node("Sub", "sum", "big", outputs=("kept",)),
        node("Mul", "x", "kept"),
    ]
    network = _read(tmp_path, nodes, {"big": [2.0**24], "one": [1.0]}, 1, 1)
    assert network.steps is not None
    found = _at(network, np.array([0.5]))
    assert found.lower.item() <= 0.0
    assert found.upper.item() >= 0.5


@pytest.mark.parametrize(
    ("kind", "inputs"), [("Floor", ["part"]), ("Einsum", ["part"])], ids=["jumps", "unknown"]
)
def test_constants_that_another_runtime_may_have_otherwise(
    kind: str, inputs: list[str], tmp_path: Path
) -> None:
    attributes = {"equation": "i->i"} if kind == "Einsum" else {}
    nodes = [
        node("Div", "a", "b", outputs=("part",)),
        node(kind, *inputs, outputs=("whole",), **attributes),
        node("Add", "x", "whole"),
    ]
    network = _read(tmp_path, nodes, {"a": [3.0], "b": [1.5]}, 1, 1)
    assert network.steps is None


def test_moved_constants_are_exact(tmp_path: Path) -> None:
    nodes = [node("Transpose", "w", outputs=("t",), perm=[1, 0]), node("MatMul", "x", "t")]
    weight = np.random.default_rng(0).random((3, 2))
    network = _read(tmp_path, nodes, {"w": weight}, 1, 2)
    assert network.steps is not None
    assert all(step.off is None for steps in network.steps for step in steps)


def test_a_bias_may_be_where_the_sum_begins(tmp_path: Path) -> None:
    """Each of 4000 additions to 1 is lost: y = 1 in that order, 1 + 2.4e-4 in another."""
    terms = 4000
    weight = np.full((terms, 1), 0.999 * UNIT)
    nodes = [node("MatMul", "x", "w", outputs=("sum",)), node("Add", "sum", "b")]
    x = np.ones(terms)
    for made, constants in (
        (nodes, {"w": weight, "b": [1.0]}),
        ([node("Gemm", "x", "w", "b")], {"w": weight, "b": [1.0]}),
    ):
        network = _read(tmp_path, made, constants, 1, terms)
        found = _at(network, x)
        assert found.lower.item() <= 1.0
        assert found.lower.item() > 1 - terms * UNIT


def test_a_branch_may_be_where_the_sum_begins(tmp_path: Path) -> None:
    """As a convolution that adds to what is there already; y = 1 where all of it is lost."""
    terms = 4000
    weight, first = np.full((terms, 1), 0.999 * UNIT), np.zeros((terms, 1))
    first[0] = 1.0
    nodes = [
        node("MatMul", "x", "w", outputs=("sum",)),
        node("Relu", "x", outputs=("same",)),
        node("MatMul", "same", "f", outputs=("other",)),
        node("Relu", "other", outputs=("branch",)),
        node("Add", "sum", "branch"),
    ]
    found = _at(_read(tmp_path, nodes, {"w": weight, "f": first}, 1, terms), np.ones(terms))
    assert found.lower.item() <= 1.0


def test_a_cast_to_float32_rounds(tmp_path: Path) -> None:
    """The input is float64, and what follows has only 24 of its bits."""
    from onnx import TensorProto

    nodes = [
        node("Cast", "x", outputs=("short",), to=TensorProto.FLOAT),
        node("Cast", "short", to=TensorProto.DOUBLE),
    ]
    model = load(saved(tmp_path / "net.onnx", Made(nodes, {}, (1, 1), 13), np.float64))
    network, x = read_onnx(model), np.array([1 + 2.0**-30])
    found = _at(network, x)
    assert network.unit == UNIT
    assert model.deployed(x).item() == 1.0
    assert found.lower.item() <= 1.0 < x.item() <= found.upper.item()


def test_float64_is_bounded_as_float64(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    made = Made([node("MatMul", "x", "w")], {"w": random.random((50, 2))}, (1, 50), 13)
    widths = []
    for dtype, unit in ((np.float32, UNIT), (np.float64, DOUBLE)):
        model = load(saved(tmp_path / "net.onnx", made, dtype))
        network, x = read_onnx(model), random.random(50).astype(dtype)
        found = _at(network, x)
        assert network.unit == unit
        run = torch.from_numpy(model.deployed(x).astype(np.float64))
        assert ((found.lower[0] <= run) & (run <= found.upper[0])).all()
        widths.append((found.upper - found.lower).max().item())
    assert widths[1] < 1e-4 * widths[0]


def test_a_sum_that_overflows_before_its_mean_does(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", "x", axes=[1], keepdims=1)]
    network = _read(tmp_path, nodes, {}, 1, 4)
    x = np.full(4, 2e38, dtype=np.float32)
    assert 4 * 2e38 > float(np.finfo(np.float32).max) > 2e38
    assert _at(network, x).lower.item() == -np.inf


def test_a_divisor_that_may_be_taken_for_zero(tmp_path: Path) -> None:
    network = _read(tmp_path, [node("Div", "x", "c")], {"c": [1e-39]}, 1, 1)
    assert network.steps is None


def test_a_normalisation_counts_its_mean(tmp_path: Path) -> None:
    parts = {"s": [1.0], "t": [0.0], "m": [1000.0], "v": [1.0]}
    network = _read(tmp_path, [node("BatchNormalization", "x", *"stmv")], parts, 1, 1)
    assert network.steps is not None
    ((step,),) = (steps for steps in network.steps if isinstance(steps[0].layer, Scale))
    assert isinstance(step.layer, Scale)
    assert step.layer.made_of is not None
    assert step.layer.made_of.size.item() == pytest.approx(1000.0, rel=1e-4)
