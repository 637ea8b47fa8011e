"""ONNX files as models: the same numbers as ONNX's own, gradients, batches, verdicts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from robsweep.tasks.errors import InputError
from robsweep.tasks.job import Inputs, ModelRef, Setting
from robsweep.tasks.jobs import run
from robsweep.tasks.models.load import load
from robsweep.tasks.recheck.network import read as read_again
from robsweep.tasks.verification.reading.torch.module import read
from tests.tasks.digit_jobs import job_of
from tests.tasks.verification.deciding import lower_bound_of, margin_at, verdict_of
from tests.tasks.verification.reading.onnx_files import write

pytest.importorskip("onnx")
from onnx import helper
from onnx.reference import ReferenceEvaluator

CPU = torch.device("cpu")
SHAPE = (1, 8, 8)


def skip_file(path: Path, dims: tuple[int, ...] = (1, 1, 8, 8), seed: int = 0) -> str:
    """Normalisation, a residual block with batch norm, both poolings, a dense layer."""
    random = np.random.default_rng(seed)
    nodes = [
        ("Reshape", ["x", "image"], "image_x", {}),
        ("Sub", ["image_x", "mean"], "centred", {}),
        ("Conv", ["centred", "w1"], "c1", {"pads": [1, 1, 1, 1]}),
        ("BatchNormalization", ["c1", "s", "t", "m", "v"], "n1", {}),
        ("Relu", ["n1"], "r1", {}),
        ("Conv", ["r1", "w2", "b2"], "c2", {"pads": [1, 1, 1, 1]}),
        ("Add", ["c2", "centred"], "sum", {}),
        ("Relu", ["sum"], "r2", {}),
        ("MaxPool", ["r2"], "p1", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("AveragePool", ["p1"], "p2", {"kernel_shape": [2, 2]}),
        ("Flatten", ["p2"], "flat", {}),
        ("Gemm", ["flat", "w3", "b3"], "y", {}),
    ]
    shapes = {"w1": (2, 1, 3, 3), "w2": (1, 2, 3, 3), "b2": (1,), "w3": (9, 10), "b3": (10,)}
    shapes |= {"mean": (1, 8, 8), "s": (2,), "t": (2,), "m": (2,)}
    constants = {name: random.normal(size=shape) for name, shape in shapes.items()}
    constants |= {"v": random.uniform(0.5, 2, 2), "image": np.array([1, 1, 8, 8])}
    made = [helper.make_node(kind, ins, [out], **more) for kind, ins, out, more in nodes]
    return write(path, made, constants, list(dims), opset=15)


def ref_of(file: str, shape: tuple[int, ...] = SHAPE) -> ModelRef:
    return ModelRef("import-0", "onnx", {}, shape, 10, weights=file, name="mine")


@pytest.mark.parametrize("dims", [(1, 1, 8, 8), (1, 64), (1, 8, 8, 1), (64,)])
def test_it_computes_what_onnx_computes(dims: tuple[int, ...], tmp_path: Path) -> None:
    file = skip_file(tmp_path / "net.onnx", dims)
    model = load(ref_of(file), None, CPU).model
    x = torch.rand(5, *SHAPE)
    found = model(x)
    assert found.dtype == torch.float32
    evaluator = ReferenceEvaluator(file)
    expected = [evaluator.run(None, {"x": one.numpy().reshape(dims)})[0].ravel() for one in x]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model(x[:1]), found[:1])
    torch.testing.assert_close(model(x[:0]), found[:0])


def test_gradients_are_those_of_differences(tmp_path: Path) -> None:
    model = load(ref_of(skip_file(tmp_path / "net.onnx")), None, CPU).model.double()
    x = torch.rand(2, *SHAPE, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,), eps=1e-7, atol=1e-4)
    model.float()


def test_verifier_and_recheck_read_it(tmp_path: Path) -> None:
    model = load(ref_of(skip_file(tmp_path / "net.onnx")), None, CPU).model
    read(model, SHAPE)
    read_again(model, SHAPE)
    image = torch.rand(SHAPE)
    label = int(model(image[None]).argmax())
    bound = lower_bound_of(model, image, label, 0.001)
    near = image + 0.001 * (2 * torch.rand(100, *SHAPE) - 1)
    assert bound <= margin_at(model, near.clamp(0, 1), label).min()
    assert verdict_of(model, image, label, 1e-4) == "verified"


def test_what_only_moves_values_can_be_verified_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Pad", ["x", "sides", "filled"], ["padded"]),
        helper.make_node("Transpose", ["padded"], ["turned"], perm=[0, 3, 1, 2]),
        helper.make_node("Slice", ["turned", "start", "stop"], ["cut"]),
        helper.make_node("Mul", ["cut", "factor"], ["more"]),
        helper.make_node("Reshape", ["more", "flat"], ["row"]),
        helper.make_node("Sub", ["one", "row"], ["less"]),
        helper.make_node("Neg", ["less"], ["y"]),
    ]
    random = np.random.default_rng(0)
    constants = {
        "sides": np.array([0, 0, 1, 0, 0, 0, 0, 1]),
        "filled": np.float32(3.0),
        "start": np.array([0, 0, 0, 0]),
        "stop": np.array([1, 5, 1, 2]),
        "factor": random.normal(size=(5, 1, 2)),
        "flat": np.array([1, 10]),
        "one": random.normal(size=10),
    }
    file = write(tmp_path / "net.onnx", nodes, constants, [1, 1, 8, 8])
    model = load(ref_of(file), None, CPU).model
    x = torch.rand(1, *SHAPE)
    expected = ReferenceEvaluator(file).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(model(x).numpy(), expected, rtol=1e-5, atol=1e-5)
    read(model, SHAPE)


def test_identity_is_the_file(tmp_path: Path) -> None:
    one, other = (skip_file(tmp_path / f"{seed}.onnx", seed=seed) for seed in (0, 1))
    first, second = (load(ref_of(file), None, CPU) for file in (one, other))
    assert first.weights_sha256 != second.weights_sha256
    assert load(ref_of(one), Path(one).read_bytes(), CPU).model is first.model


@pytest.mark.parametrize("dims", [(1, 1, 28, 28), (1, 63), (1, 2, 4, 8), (1, 4, 16)])
def test_another_shape_than_the_data_sets(dims: tuple[int, ...], tmp_path: Path) -> None:
    size = int(np.prod(dims))
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("Gemm", ["f", "w"], ["y"])]
    file = write(tmp_path / "net.onnx", nodes, {"w": np.ones((size, 10))}, list(dims))
    setting = Setting(data_dir="")
    job = job_of("preflight", {}, model=ref_of(file), setting=setting)
    with pytest.raises(InputError, match=r"net.onnx takes inputs of shape .* \(1, 8, 8\)"):
        run(job, Inputs())


def test_files_that_are_none(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    ref = ref_of(str(file))
    for content in (b"", b"garbage" * 20):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"net\.onnx"):
            load(ref, None, CPU)
    skip_file(file)
    job = job_of("preflight", {}, model=replace(ref, classes=7), setting=Setting(data_dir=""))
    with pytest.raises(InputError, match=r"shape \(2, 10\), not logits \(2, 7\)"):
        run(job, Inputs())
