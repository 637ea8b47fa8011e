"""Files that cannot be read exactly are refused by name, in one line, whatever is in them."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.onnx.model import load
from robsweep.tasks.verification.reading.onnx.network import check_reading, read_onnx
from tests.tasks.verification.reading.onnx_configurations import KINDS
from tests.tasks.verification.reading.onnx_files import write
from tests.tasks.verification.reading.onnx_setups import saved

pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper

RELU = helper.make_node("Relu", ["x"], ["y"])


def _saved(path: Path, nodes: list[Any], **changes: Any) -> str:
    """A file with one input `x` of (1, 2) and one output `y`, and with what is changed of it."""
    kind = changes.get("kind", TensorProto.FLOAT)
    dims = changes.get("dims", [1, 2])
    weights = [numpy_helper.from_array(v, k) for k, v in changes.get("constants", {}).items()]
    inputs = [helper.make_tensor_value_info(n, kind, dims) for n in changes.get("inputs", "x")]
    outputs = [helper.make_tensor_value_info(n, kind, None) for n in changes.get("outputs", "y")]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights)
    opsets = [helper.make_opsetid(*one) for one in changes.get("opsets", [("", 17)])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, str(path / "net.onnx"))
    return str(path / "net.onnx")


def _node(kind: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(kind, inputs or ["x"], ["y"], **attributes)


ONE = np.ones((1, 2), np.float32)
REFUSED: list[tuple[list[Any], dict[str, Any], str]] = [
    ([_node("Cast", to=TensorProto.BOOL)], {}, "output .y. is not a tensor of"),
    ([_node("Cast", to=TensorProto.UINT8)], {}, r"Cast \(y\).*UINT8 changes numbers"),
    ([_node("Cast", to=TensorProto.FLOAT16)], {}, "FLOAT16 changes numbers"),
    ([_node("CastLike", "x", "c")], {"constants": {"c": np.ones(1, np.int8)}}, "CastLike.*INT8"),
    ([helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64),
      helper.make_node("Add", ["i", "c"], ["y"])], {"constants": {"c": np.ones(1, np.int64)}},
     "Add.*of int64"),
    ([RELU], {"kind": TensorProto.FLOAT16}, "input 'x' is of type FLOAT16"),
    ([RELU], {"kind": TensorProto.INT64}, "input 'x' is of type INT64"),
    ([_node("Gelu", domain="com.microsoft")], {}, "Gelu of com.microsoft.*none of ONNX's own"),
    ([_node("Scaler", domain="ai.onnx.ml")], {}, "Scaler of ai.onnx.ml"),
    ([_node("Mish")], {"opsets": [("", 18)]}, r"Mish \(y\).*not supported"),
    ([helper.make_node("Softmax", ["x"], ["s"]), helper.make_node("Relu", ["s"], ["y"])], {},
     "Softmax before the end"),
    ([_node("QuantizeLinear", "x", "c")], {"constants": {"c": ONE[0, 0]}}, "QuantizeLinear"),
    ([_node("Add", "x", "c")], {"constants": {"c": np.ones(2, np.float64)}}, "mixes float32 and"),
    ([_node("Add", "x", "c")], {"constants": {"c": np.ones(2, np.float16)}}, "mixes float16 and"),
    ([_node("Add", "x", "z")], {}, "needs 'z', which nothing computes"),
    ([RELU, RELU], {}, "computes 'y' a second time"),
    ([_node("Add", "x", "y")], {}, "needs its own output"),
    ([RELU], {"opsets": [("", 5)]}, "operator set 5"),
    ([RELU], {"opsets": [("", 999)]}, "operator set 999"),
    ([RELU], {"opsets": [("com.microsoft", 1)]}, "does not say which operator set"),
    ([RELU], {"outputs": "yx"}, "its output 'x' is an input"),
    ([RELU], {"dims": [1, "height"]}, "shape of input 'x' is not fixed"),
    ([RELU], {"dims": []}, "shape of input 'x' is not fixed"),
    ([RELU], {"dims": [1, 2**20, 2**20]}, "too large"),
    ([_node("Identity", "c")], {"constants": {"c": ONE}}, "does not depend on its inputs"),
    ([_node("Dropout", "x", "r", "t")], {"constants": {"r": np.array(0.5, np.float32),
      "t": np.array(True)}}, "Dropout.*chance"),
    ([helper.make_node("RandomNormal", [], ["r"], shape=[1, 2]), _node("Add", "x", "r")], {},
     "RandomNormal.*chance"),
    ([helper.make_node("Dropout", ["x"], ["a", "m"]), _node("Identity", "m")], {},
     "Identity.*computes its input 'm'"),
    ([helper.make_node("MaxPool", ["x"], ["a", "y"], kernel_shape=[2])], {"dims": [1, 1, 4]},
     "output .y. is not a tensor of"),
    ([_node("Div", "c", "d"), _node("Add", "x", "y")][:1], {"constants": {"c": ONE, "d": 0 * ONE}},
     "does not depend on its inputs"),
    ([helper.make_node("Div", ["c", "d"], ["k"]), _node("Add", "x", "k")],
     {"constants": {"c": ONE, "d": 0 * ONE}}, "Add.*not finite"),
    ([helper.make_node("Reshape", ["c", "s"], ["k"]), _node("Add", "x", "k")],
     {"constants": {"c": ONE, "s": np.array([7])}}, "Reshape.*cannot be computed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "changes", "words"), REFUSED, ids=[words[:30] for _, _, words in REFUSED]
)
def test_what_is_wrong_is_named(
    nodes: list[Any], changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words) as caught:
        read_onnx(load(_saved(tmp_path, nodes, **changes)))
    assert "\n" not in str(caught.value)


def _value(file: str, *x: float) -> list[float]:
    network = read_onnx(load(file))
    point = torch.tensor(x, dtype=torch.float64).reshape(1, *network.shapes[0])
    return [float(one) for one in evaluate(network, point)[-1][0]]


def test_unused_nodes_and_any_order_and_overridable_weights(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["a", "c"], ["y"]),
        helper.make_node("Softmax", ["x"], ["unused"]),
        helper.make_node("Neg", ["x"], ["a"]),
    ]
    # an initialiser that is listed among the inputs too, as old exporters do
    file = _saved(tmp_path, nodes, constants={"c": ONE})
    model = onnx.load(file)
    model.graph.input.append(helper.make_tensor_value_info("c", TensorProto.FLOAT, [1, 2]))
    onnx.save(model, file)
    assert _value(file, 3.0, -1.0) == [-2.0, 2.0]


def test_constants_are_computed_as_they_run(tmp_path: Path) -> None:
    """1e8 + 1 is 1e8 in float32, in which the file has it."""
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Sub", ["c", "a"], ["d"])]
    big = {"a": np.full(2, 1e8, np.float32), "b": np.ones(2, np.float32)}
    assert _value(_saved(tmp_path, [*nodes, _node("Add", "x", "d")], constants=big), 3, 4) == [3, 4]
    one_third = [helper.make_node("Cast", ["h"], ["f"], to=1), _node("Mul", "x", "f")]
    half = {"h": np.array([1 / 3, 1], np.float16)}
    found = _value(_saved(tmp_path, one_third, constants=half), 3, 4)
    assert found == [3 * float(np.float16(1 / 3)), 4]


def test_a_network_in_float64_is_read(tmp_path: Path) -> None:
    file = _saved(tmp_path, [_node("Mul", "x", "c")], kind=TensorProto.DOUBLE,
                  constants={"c": np.array([1 / 3, 0.1])})  # fmt: skip
    assert _value(file, 1, 1) == [1 / 3, 0.1]
    assert load(file).deployed(np.ones(2)).tolist() == [1 / 3, 0.1]


def test_gzipped_files_and_weights_beside_the_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(size=(2, 300)).astype(np.float32)
    file = write(tmp_path / "net.onnx", [_node("MatMul", "x", "w")], {"w": weight}, [1, 2])
    wanted = _value(file, 1, 2)
    packed = tmp_path / "only.onnx.gz"
    packed.write_bytes(gzip.compress(Path(file).read_bytes()))
    assert _value(str(packed), 1, 2) == _value(str(tmp_path / "only.onnx"), 1, 2) == wanted
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(InputError, match="gzipped, but cannot be unpacked"):
        load(str(packed))
    onnx.save(onnx.load(file), file, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert _value(file, 1, 2) == wanted
    (tmp_path / "w.bin").unlink()
    with pytest.raises(InputError, match="not an ONNX file"):
        load(file)


def test_probes_lie_in_the_box_that_is_asked_about(tmp_path: Path) -> None:
    """A reading that is wrong above 100 alone is found out there, and nowhere else."""
    model = load(_saved(tmp_path, [RELU], dims=[1, 2]))
    network = read_onnx(model)
    wrong = model._replace(exact=lambda x: np.maximum(x, 0) + (x > 100))
    check_reading(wrong, network, np.zeros(2), np.full(2, 100.0))
    with pytest.raises(InputError, match="do not compute"):
        check_reading(wrong, network, np.zeros(2), np.full(2, 101.0))


@pytest.mark.parametrize("part", range(4))
def test_damaged_files_end_in_one_line(part: int, tmp_path: Path) -> None:
    """Bytes changed, cut or doubled: read as something, or refused; never another exception."""
    random = np.random.default_rng(part)
    kinds = list(KINDS.values())
    for k in range(15):
        made = kinds[(15 * part + k) % len(kinds)](random)
        file = Path(saved(tmp_path / "net.onnx", made))
        content = file.read_bytes()
        for _ in range(6):
            changed = bytearray(content)
            for place in random.integers(0, len(changed), int(random.integers(1, 4))):
                changed[place] = random.integers(256)
            cut = int(random.integers(len(changed) // 2, len(changed) + 1))
            file.write_bytes(bytes(changed[:cut] if random.random() < 0.3 else changed))
            assert "\n" not in _said(str(file))


def _said(file: str) -> str:
    """What is said of a file that is refused."""
    try:
        model = load(file)
        network = read_onnx(model)
        inputs = int(np.prod(model.shape))
        check_reading(model, network, np.zeros(inputs), np.ones(inputs))
    except InputError as error:
        return str(error)
    return ""
