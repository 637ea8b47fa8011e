"""Conjunctions that leave little room: each output is `room - |u_j . (x - middle)|`."""

from pathlib import Path

import numpy as np
import pytest

from robsweep.tasks.verification.instance import verify
from tests.tasks.verification.reading.onnx_files import declared, write

for library in ("onnx", "ortools"):
    pytest.importorskip(library)

_NODES = [("Gemm", "xwb", "h"), ("Relu", "h", "r"), ("Gemm", "rvc", "y")]


def narrow(path: Path, room: float, inputs: int, outputs: int, seed: int) -> tuple[str, str]:
    """A network and a property that holds within `room` of some point of the unit box alone."""
    from onnx import helper

    random = np.random.default_rng(seed)
    u = random.normal(size=(inputs, outputs))
    shift = -random.uniform(0.1, 0.9, inputs) @ u
    constants = {
        "w": np.concatenate([u, -u], 1),
        "b": np.concatenate([shift, -shift]),
        "v": -np.concatenate([np.eye(outputs), np.eye(outputs)]),
        "c": np.full(outputs, room),
    }
    text = declared(inputs, outputs)
    text += "".join(f"(assert (>= X_{i} 0))(assert (<= X_{i} 1))\n" for i in range(inputs))
    parts = " ".join(f"(>= Y_{j} 0)" for j in range(outputs))
    (path / "p.vnnlib").write_text(text + f"(assert (and {parts}))\n")
    nodes = [helper.make_node(kind, [*names], [output]) for kind, names, output in _NODES]
    return write(path / "net.onnx", nodes, constants, [1, inputs]), str(path / "p.vnnlib")


@pytest.mark.parametrize("room", [5e-4, 1e-5])
@pytest.mark.parametrize(("inputs", "outputs"), [(2, 2), (5, 2), (5, 5), (3, 6)])
def test_little_room_is_found(room: float, inputs: int, outputs: int, tmp_path: Path) -> None:
    onnx, vnnlib = narrow(tmp_path, room, inputs, outputs, inputs + outputs)
    outcome = verify(onnx, vnnlib, 60.0)
    assert outcome.answer == "sat"
    assert outcome.counterexample is not None
    # float32 as the file has it, which is what was asked for
    assert (outcome.counterexample.outputs >= 0).all()
    assert (abs(outcome.counterexample.outputs) <= room * (1 + 1e-5)).all()


@pytest.mark.parametrize(("inputs", "outputs"), [(2, 2), (3, 4)])
def test_no_room_is_not_found(inputs: int, outputs: int, tmp_path: Path) -> None:
    assert verify(*narrow(tmp_path, -1e-3, inputs, outputs, 0), 60.0).answer == "unsat"
