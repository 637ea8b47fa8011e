"""Networks in .mat and .npz, held against torch, whichever way an image is flattened."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.layers import evaluate
from robsweep.tasks.verification.reading.onnx.model import load
from robsweep.tasks.verification.reading.onnx.network import check_reading, read_onnx

pytest.importorskip("onnx")


def _saved(path: Path, arrays: dict[str, Any]) -> str:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        from scipy.io import savemat

        savemat(path, arrays)
    return str(path)


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def _arrays(**more: Any) -> dict[str, Any]:
    """An image of 4 x 5 with 2 channels, convolved to 2 x 3 x 3."""
    return {
        "conv1/weight": _numbers(3, 2, 2, 3),
        "conv1/bias": _numbers(1, 3),
        "conv1/stride": np.array([2, 2]),
        "fc1/weight": _numbers(18, 4),
        "fc1/bias": _numbers(4),
        "logits/weight": _numbers(4, 2),
        "logits/bias": _numbers(2),
        "input_shape": np.array([4, 5, 2]),
        **more,
    }


# image (channels, height, width) -> a vector
FLATTENED = {
    "CHW": lambda image: image.flatten(),
    "HWC": lambda image: image.permute(1, 2, 0).flatten(),
    "column-major": lambda image: torch.from_numpy(
        image.permute(1, 2, 0).numpy().flatten(order="F")
    ),
}


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
@pytest.mark.parametrize("order", [*FLATTENED, "permuted"])
def test_a_convolutional_network(order: str, suffix: str, tmp_path: Path) -> None:
    # MIPVerify's Flatten([1, 3, 2, 4]) is the order of CHW
    flatten: Any = np.array([1.0, 3, 2, 4]) if order == "permuted" else order
    arrays = _arrays(flatten=flatten)
    model = load(_saved(tmp_path / f"net{suffix}", arrays))
    network = read_onnx(model)
    assert network.shapes[0] == (4, 5, 2)
    x = _numbers(4, 5, 2)
    image = torch.from_numpy(x).permute(2, 0, 1)[None].double()
    kernel = torch.from_numpy(arrays["conv1/weight"]).permute(3, 2, 0, 1).double()
    # SAME: a row above and one below, of which the stride leaves the first; a column behind
    padded = F.pad(image, (0, 1, 0, 1))
    bias = torch.from_numpy(arrays["conv1/bias"]).flatten().double()
    hidden = F.conv2d(padded, kernel, bias, 2).relu()[0]
    assert hidden.shape == (3, 2, 3)
    flat = FLATTENED["CHW" if order == "permuted" else order](hidden)
    for name in ("fc1", "logits"):
        weight, shift = (torch.from_numpy(arrays[f"{name}/{p}"]).double() for p in
                         ("weight", "bias"))  # fmt: skip
        flat = flat @ weight + shift
        flat = flat.relu() if name == "fc1" else flat
    found = evaluate(network, torch.from_numpy(x)[None].double())[-1][0]
    torch.testing.assert_close(found, flat, rtol=1e-9, atol=1e-9)
    check_reading(model, network, np.full(40, -1.0), np.ones(40))


def test_dense_layers_in_an_order_of_their_own(tmp_path: Path) -> None:
    arrays = {"b/weight": _numbers(3, 4).astype(float), "b/bias": np.zeros(4),
              "a/weight": _numbers(4, 2).astype(float), "a/bias": np.ones((2, 1)),
              "layers": np.array(["b", "a"])}  # fmt: skip
    model = load(_saved(tmp_path / "net.npz", arrays))
    assert model.precision == np.float64
    x = np.array([0.5, -1.0, 2.0])
    wanted = np.maximum(x @ arrays["b/weight"], 0) @ arrays["a/weight"] + 1
    np.testing.assert_allclose(model.deployed(x), wanted)


WRONG = [
    ({"fc1/bias": None}, "lacks fc1/bias; holds conv1/bias.*expected NAME/weight"),
    ({"fc2/scale": np.ones(2)}, "holds fc2/scale; expected NAME/weight"),
    ({}, "fc1 takes an image of 2 x 3 x 3.*HWC, CHW or column-major"),
    ({"flatten": "WHC"}, "flatten 'WHC' is none of HWC"),
    ({"flatten": np.array([1, 2, 2, 4])}, "no permutation"),
    ({"input_shape": None}, "lacks input_shape"),
    ({"input_shape": np.array([4, 5])}, "no height, width, channels"),
    ({"input_shape": np.array([4, 5, 3])}, "conv1/weight takes 2 channels, there is 3"),
    ({"fc1/weight": _numbers(17, 4), "flatten": "HWC"}, "takes 17 inputs, there are 18"),
    ({"fc1/weight": np.ones((18, 4), np.int64)}, "fc1/weight is of int64"),
    ({"conv1/padding": "HALF"}, "neither SAME nor VALID"),
    ({"fc1/bias": _numbers(5)}, "fc1/bias has 5 numbers, its weight 4 outputs"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[words[:20] for _, words in WRONG])
def test_what_is_wrong_is_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    arrays = {k: v for k, v in (_arrays() | changes).items() if v is not None}
    with pytest.raises(InputError, match=words) as caught:
        load(_saved(tmp_path / "net.npz", arrays))
    assert "\n" not in str(caught.value)


def test_no_pickle_and_no_rubbish(tmp_path: Path) -> None:
    np.savez(tmp_path / "net.npz", **{"fc1/weight": np.array([{}], dtype=object)})
    (tmp_path / "net.mat").write_bytes(b"MATLAB 5.0 and then nothing")
    for name in ("net.npz", "net.mat"):
        with pytest.raises(InputError, match="cannot be read as arrays"):
            load(str(tmp_path / name))
    with pytest.raises(InputError, match="no such file"):
        load(str(tmp_path / "absent.mat"))
