"""What onnxruntime runs is read as it runs it, to the last bit that rounding leaves, or refused."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.bounds.intervals import Bounds, interval
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.onnx.model import load
from robsweep.tasks.verification.reading.onnx.network import check_reading, read_onnx
from tests.tasks.verification.reading.onnx_configurations import KINDS
from tests.tasks.verification.reading.onnx_setups import Made, saved

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

_SIZES = (-2.0, 2.0)  # of the box
# The share of what onnxruntime runs that must be read; the rest is what no bounds are known for
# (Exp, Mish, products of branches), or what changes numbers (casts to integers).
_READ = {
    "activation": 0.4,
    "reduction": 0.4,
    "slicing": 0.4,
    "resizing": 0.1,
    "casting": 0.2,
    "ending": 0.4,
}


def _run(file: str, points: list[np.ndarray]) -> list[np.ndarray] | None:
    """What onnxruntime computes; None where it does not run the file."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(file, options)
        return [session.run(None, {"x": x})[0].ravel() for x in points]
    except Exception:  # noqa: BLE001  # of its own types: it has no such operator, or not for these numbers
        return None


def _compared(file: str, made: Made, dtype: Any, random: np.random.Generator) -> str:
    low, high = (np.full(int(np.prod(made.dims)), end) for end in _SIZES)
    corners = [random.choice(_SIZES, made.dims) for _ in range(2)]
    inside = [random.uniform(*_SIZES, made.dims) for _ in range(2)]
    points = [x.astype(dtype) for x in (*corners, *inside)]
    wanted = _run(file, points)
    said = ""
    try:
        model = load(file)
        network = read_onnx(model)
        check_reading(model, network, low, high)
    except InputError as error:
        said = str(error)
    if said:
        assert "\n" not in said
        # which operator it is, or else that the reference differs
        assert any(n.op_type in said for n in made.nodes) or "evaluated" in said, said
        return "neither" if wanted is None else "refused"
    if wanted is None:
        return "not run"
    for x, expected in zip(points, wanted, strict=True):
        value = torch.from_numpy(x.astype(np.float64)).reshape(1, *network.shapes[0])
        layers = evaluate(network, value)[-1][0]
        for group in network.softmaxes:
            layers[list(group)] = layers[list(group)].softmax(0)
        for found in (layers.numpy(), model.deployed(x.ravel())):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=str(made))
        least, most = (end[0].numpy() for end in interval(network, Bounds(value, value))[-1])
        if (
            network.steps is not None and not network.softmaxes
        ):  # its bounds are those of the network as it runs
            assert (least <= expected).all(), made
            assert (expected <= most).all(), made
    return "read" if network.steps is not None else "over the reals"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "seeds", [range(12), pytest.param(range(12, 300), marks=pytest.mark.slow)], ids=["few", "many"]
)
def test_operators_are_read_as_onnxruntime_runs_them(
    kind: str, seeds: range, tmp_path: Path
) -> None:
    ends = Counter[str]()
    for seed in seeds:
        random = np.random.default_rng([seed, *kind.encode()])
        made = KINDS[kind](random)
        dtype = np.float64 if random.random() < 0.2 else np.float32
        file = saved(tmp_path / "net.onnx", made, dtype)
        ends[_compared(file, made, dtype, random)] += 1
    read = ends["read"] + ends["over the reals"]
    assert read >= _READ.get(kind, 0.6) * (read + ends["refused"]), ends
    assert ends["read"] > 0.8 * read, ends
