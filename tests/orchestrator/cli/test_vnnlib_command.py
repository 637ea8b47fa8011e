"""The command that VNN-LIB's standard asks of a solver."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robsweep.orchestrator.cli import vnnlib
from robsweep.tasks.catalogue.onnx_operators import BOUNDED, EXACT, FOLDED, PARTLY

pytest.importorskip("onnx")
import onnx
from onnx import TensorProto, helper, numpy_helper

QUERY = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1, 2])
  (declare-hidden H float32 [2] "sum") (declare-output Y float32 [1, 1]))
(assert (and (>= X[0, 0] 0.25) (<= X[0, 0] 0.5) (== X[0, 1] 1)))
(assert (>= Y[0, 0] {}))
"""


@pytest.fixture
def network(tmp_path: Path) -> str:
    """Y = relu(x0 + x1), H = (x0 + x1, 0)."""
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r"]),
        helper.make_node("ReduceSum", ["r", "axes"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.array([[1, 0], [1, 0]], np.float32), "w"),
        numpy_helper.from_array(np.array([1]), "axes"),
    ]
    given = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])]
    graph = helper.make_graph(nodes, "net", given, outputs, weights)
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(path))
    return str(path)


def _query(tmp_path: Path, least: float) -> str:
    (tmp_path / "q.vnnlib").write_text(QUERY.format(least))
    return str(tmp_path / "q.vnnlib")


def test_a_witness_is_printed_written_and_serialised(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", _query(tmp_path, 1.4), "--network", f"f={network}", "--timeout", "20"]
    assert vnnlib.run([*command, "--witness", str(tmp_path / "w.txt")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "sat"
    assert [lines[1], lines[4], lines[7]] == ["X float32 [1,2]", "H float32 [2]", "Y float32 [1,1]"]
    x = [float(one) for one in lines[2:4]]
    assert 0.4 <= x[0] <= 0.5
    assert x[1] == 1
    assert float(lines[8]) == pytest.approx(sum(x)) == pytest.approx(float(lines[5]))
    witness = (tmp_path / "w.txt").read_text()
    found = dict(re.findall(r"\((\w+_\d+) (\S+)\)", witness.replace("((", "(")))
    assert list(found) == ["X_0", "X_1", "Y_0", "Y_1", "Y_2"]
    # the same numbers as tensors, which run through the network give what is said of it
    folder = tmp_path / "found"
    assert vnnlib.run([*command, "--serialise-assignments", str(folder)]) == 0
    assert capsys.readouterr().out == "sat\n"
    tensors = {one.stem: onnx.load_tensor(str(one)) for one in folder.iterdir()}
    assert sorted(tensors) == ["H", "X", "Y"]
    arrays = {name: numpy_helper.to_array(one) for name, one in tensors.items()}
    assert arrays["X"].shape == (1, 2)
    assert arrays["X"].dtype == np.float32
    onnxruntime = pytest.importorskip("onnxruntime")
    (y,) = onnxruntime.InferenceSession(network).run(None, {"x": arrays["X"]})
    np.testing.assert_allclose(y, arrays["Y"], rtol=1e-6)
    assert y >= 1.4


def test_unsat_and_an_empty_box(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", _query(tmp_path, 1.6), "--network", f"f={network}"]
    assert vnnlib.run(command) == 0
    assert capsys.readouterr().out == "unsat\n"
    file = Path(command[1])
    file.write_text(file.read_text() + "(assert (>= X[0, 0] 0.75))")
    assert vnnlib.run(command) == 0
    out, err = capsys.readouterr()
    assert out == "unsat\n"
    assert "no input satisfies it: X_0 >= 0.75 and X_0 <= 0.5" in err


def test_what_is_wrong_ends_on_stderr(
    network: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = _query(tmp_path, 1)
    for words, message in (
        (["verify", query], "give --network"),
        (["verify", query, "--network", network], "must be NAME=FILE"),
        (["verify", query, "--network", f"g={network}"], "'g' is not in"),
        (["verify", query, *["--network", f"f={network}"] * 2], "given twice"),
        (["verify", "absent", "--network", f"f={network}"], "no such file"),
        (["verify", query, "--network", f"f={network}", "--timeout", "0"], "must be above 0"),
    ):
        assert vnnlib.run(words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert message in err
        assert err.count("\n") == 1
    for words in ([], ["verify"], ["supports", "--everything"], ["verify", query, "--time", "3"]):
        with pytest.raises(SystemExit) as caught:
            vnnlib.run(words)
        assert caught.value.code == 2
        assert capsys.readouterr().out == ""


def test_capabilities(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for one in vnnlib.CAPABILITIES:
        assert vnnlib.run(["supports", f"--{one}"]) == 0
        said[one] = capsys.readouterr().out
    assert vnnlib.run(["supports", "vnnlib-versions"]) == 0
    assert capsys.readouterr().out == said["vnnlib-versions"] == "1.0\n2.0\n"
    least, most = map(int, said["onnx-opset-versions"].split())
    assert 7 == least < most
    assert set(said["onnx-operators"].split()) == EXACT | BOUNDED | FOLDED
    assert said["serialise-assignments"] == "true\n"


def test_operators_are_those_that_are_read() -> None:
    from robsweep.tasks.verification.reading.onnx.network import _OPERATORS

    assert set(_OPERATORS) == EXACT | BOUNDED | PARTLY
    assert not EXACT & BOUNDED


def test_asking_what_is_supported_loads_no_torch() -> None:
    code = "import sys; from robsweep.orchestrator.cli import vnnlib as v; "
    code += "v.run(['supports', '--onnx-operators']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for option in ("--version", "--name"):
        with pytest.raises(SystemExit) as caught:
            vnnlib.run([option])
        assert not caught.value.code
