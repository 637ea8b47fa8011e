"""Weights in MATLAB's or NumPy's files as a network: dense and convolutional layers in a row.

`NAME/weight` and `NAME/bias` are a layer, with a ReLU between each two:

- a dense one has a weight of (inputs, outputs), a convolution one of (height, width, inputs,
  outputs), as MIPVerify and TensorFlow have them; a bias is a vector, whatever its shape;
- `NAME/stride` is 1 if left out; `NAME/padding` is `SAME` if left out, or `VALID`, or one number;
- `layers` are the names in their order; if left out, the conv1, conv2, ... that there are, then
  fc1, fc2, ..., then logits;
- `input_shape` is (height, width, channels), for a network of images; its inputs are numbered row
  by row, the channels of a pixel side by side;
- `flatten` is how an image becomes the inputs of a dense layer: `HWC`, `CHW` (the last letter
  changes first), `column-major` (the height changes first, then the width, as MATLAB and Julia
  flatten an array of (height, width, channels)), or MIPVerify's permutation of its four axes, e.g.
  [1, 3, 2, 4]. Only where there is one channel in one column may it be left out.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import one_line

SUFFIXES = (".mat", ".npz")
_OPSET = 13
_PARTS = ("weight", "bias", "stride", "padding")
_SETTINGS = ("layers", "input_shape", "flatten")
_ORDERS = {"CHW": (0, 1, 2, 3), "HWC": (0, 2, 3, 1), "COLUMN-MAJOR": (0, 1, 3, 2)}  # of N, C, H, W
_NAMED = re.compile(r"(conv|fc)(\d+)")
_EXPECTED = (
    "expected NAME/weight and NAME/bias for each of conv1, conv2, ..., fc1, fc2, ..., logits, or "
    "for the names in `layers`; NAME/stride, NAME/padding, input_shape, flatten where needed"
)

Arrays = dict[str, NDArray[Any]]


def model_of(file: str) -> Any:
    """The network as an ONNX model, in the widest precision of the file's weights.

    Raises:
        InputError: The file cannot be read, or does not hold what is described above.
    """
    arrays = _arrays(file)
    names = _layers(arrays, file)
    known = {f"{name}/{part}" for name in names for part in _PARTS} | {*_SETTINGS}
    if unknown := sorted(arrays.keys() - known):
        raise InputError(f"{file}: holds {', '.join(unknown)[:200]}; {_EXPECTED}")
    build = _Building(file, arrays, names)
    for name in names:
        build.layer(name)
    return build.model()


def _arrays(file: str) -> Arrays:
    if not Path(file).is_file():
        raise InputError(f"{file}: no such file")
    try:
        if file.endswith(".npz"):
            with np.load(file, allow_pickle=False) as loaded:
                return {name: loaded[name] for name in loaded.files}
        from scipy.io import loadmat

        found = loadmat(file)
    except Exception as error:  # whatever a damaged file ends in
        raise InputError(f"{file}: cannot be read as arrays: {one_line(error)}") from error
    return {name: np.asarray(one) for name, one in found.items() if not name.startswith("__")}


def _layers(arrays: Arrays, file: str) -> list[str]:
    if "layers" in arrays:
        names = [str(one).strip() for one in arrays["layers"].ravel()]
    else:
        there = {name.split("/")[0] for name in arrays if name.endswith("/weight")}
        numbered = sorted(
            (found[1], int(found[2]), found[0])
            for name in there
            if (found := _NAMED.fullmatch(name))
        )
        names = [name for _, _, name in numbered] + (["logits"] if "logits" in there else [])
    missing = [f"{name}/{part}" for name in names for part in _PARTS[:2]]
    if not names or (missing := [name for name in missing if name not in arrays]):
        lacks = f"lacks {missing[0]}" if names else "names no layer"
        raise InputError(f"{file}: {lacks}; holds {', '.join(sorted(arrays))[:200]}; {_EXPECTED}")
    return names


class _Building:
    """An ONNX graph, layer by layer; `dims` are (channels, height, width) or (features,)."""

    def __init__(self, file: str, arrays: Arrays, names: list[str]) -> None:
        self.file, self.arrays, self.names = file, arrays, names
        self.nodes: list[Any] = []
        self.constants: Arrays = {}
        self.value, self.count = "x", 0
        weights = [self._numbers(f"{name}/{part}") for name in names for part in _PARTS[:2]]
        self.precision = np.result_type(*weights)
        shape = arrays.get("input_shape")
        if shape is None:
            first = weights[0]
            if first.ndim != 2:
                raise InputError(f"{file}: lacks input_shape (height, width, channels)")
            self.dims: tuple[int, ...] = (first.shape[0],)
            self.input: tuple[int, ...] = (1, *self.dims)
            return
        sides = [int(one) for one in shape.ravel()]
        if len(sides) != 3 or min(sides) < 1:
            raise InputError(f"{file}: input_shape {sides} is no height, width, channels")
        self.input = (1, *sides)
        self.dims = (sides[2], sides[0], sides[1])
        self._add("Transpose", perm=[0, 3, 1, 2])

    def layer(self, name: str) -> None:
        weight, bias = (self._numbers(f"{name}/{part}") for part in _PARTS[:2])
        if weight.ndim not in (2, 4):
            what = f"{name}/weight is of shape {weight.shape}; (inputs, outputs) of a dense layer"
            raise InputError(f"{self.file}: {what}, (height, width, inputs, outputs) of conv")
        if bias.size != weight.shape[-1]:
            what = f"{name}/bias has {bias.size} numbers, its weight {weight.shape[-1]} outputs"
            raise InputError(f"{self.file}: {what}")
        if weight.ndim == 4:
            self._convolution(name, weight)
        else:
            self._dense(name, weight)
        self.constants[f"{name}/bias"] = bias.ravel().astype(self.precision)
        if name != self.names[-1]:
            self._add("Relu")

    def _convolution(self, name: str, weight: NDArray[Any]) -> None:
        if len(self.dims) != 3 or self.dims[0] != weight.shape[2]:
            have = f"{self.dims[0]} channels" if len(self.dims) == 3 else "a vector"
            what = f"{name}/weight takes {weight.shape[2]} channels, there is {have}"
            raise InputError(f"{self.file}: {what}")
        self.constants[f"{name}/weight"] = weight.transpose(3, 2, 0, 1).astype(self.precision)
        strides = self._setting(f"{name}/stride", [1])
        strides = strides * 2 if len(strides) == 1 else strides
        given = self.arrays.get(f"{name}/padding", np.array("SAME"))
        if given.dtype.kind in "US":
            word = str(given.ravel()[0]).strip().upper()
            if word not in ("SAME", "VALID"):
                what = f"{name}/padding {word!r} is neither SAME nor VALID nor a number"
                raise InputError(f"{self.file}: {what}")
            padding: dict[str, Any] = {"auto_pad": "SAME_UPPER" if word == "SAME" else "VALID"}
            ends = [0, 0] if word == "VALID" else None
        else:
            pads = self._setting(f"{name}/padding", [0])
            pads = pads * 2 if len(pads) == 1 else pads
            padding, ends = {"pads": pads * 2}, pads
        self._add("Conv", f"{name}/weight", f"{name}/bias", strides=strides, **padding)
        sizes = [
            -(-side // step) if ends is None else (side + 2 * end - kernel) // step + 1
            for side, step, kernel, end in zip(
                self.dims[1:], strides, weight.shape[:2], ends or [0, 0], strict=True
            )
        ]
        self.dims = (weight.shape[3], *sizes)

    def _dense(self, name: str, weight: NDArray[Any]) -> None:
        if len(self.dims) == 3:
            self._flatten(name)
        if self.dims[0] != weight.shape[0]:
            what = f"{name}/weight takes {weight.shape[0]} inputs, there are {self.dims[0]}"
            raise InputError(f"{self.file}: {what}")
        self.constants[f"{name}/weight"] = weight.astype(self.precision)
        self._add("Gemm", f"{name}/weight", f"{name}/bias")
        self.dims = (weight.shape[1],)

    def _flatten(self, name: str) -> None:
        given = self.arrays.get("flatten")
        if given is None and sum(side > 1 for side in self.dims) > 1:
            channels, height, width = self.dims
            sizes = f"{height} x {width} x {channels}"
            what = (
                f"{name} takes an image of {sizes}, and the file does not say how it is flattened"
            )
            raise InputError(f"{self.file}: {what}: set `flatten` to HWC, CHW or column-major")
        word = "CHW" if given is None else str(given.ravel()[0]).strip().upper()
        if given is not None and given.dtype.kind in "iuf" and given.size == 4:
            axes = [int(one) for one in given.ravel()]
            if sorted(axes) != [1, 2, 3, 4]:
                raise InputError(f"{self.file}: flatten {axes} is no permutation of 1, 2, 3, 4")
            of = (0, 2, 3, 1)  # where N, H, W, C are in N, C, H, W
            order = [of[axis - 1] for axis in reversed(axes)]  # the first one changes first
        elif word in _ORDERS:
            order = list(_ORDERS[word])
        else:
            raise InputError(f"{self.file}: flatten {word!r} is none of HWC, CHW, column-major")
        self._add("Transpose", perm=order)
        self._add("Flatten", axis=0 if order[0] else 1)
        self.dims = (int(np.prod(self.dims)),)

    def _setting(self, key: str, default: list[int]) -> list[int]:
        found = self.arrays.get(key)
        if found is None:
            return default
        if found.dtype.kind not in "iuf" or found.size not in (1, 2) or (found < 0).any():
            raise InputError(f"{self.file}: {key} is not one or two numbers")
        return [int(one) for one in found.ravel()]

    def _numbers(self, key: str) -> NDArray[Any]:
        found = self.arrays[key]
        if found.dtype not in (np.float32, np.float64):
            raise InputError(f"{self.file}: {key} is of {found.dtype}, not float32 or float64")
        return found

    def _add(self, kind: str, *constants: str, **attributes: Any) -> None:
        from onnx import helper

        self.count += 1
        given, self.value = self.value, f"v{self.count}"
        self.nodes.append(helper.make_node(kind, [given, *constants], [self.value], **attributes))

    def model(self) -> Any:
        from onnx import helper, numpy_helper

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(self.precision))
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, self.input)],
            [helper.make_tensor_value_info(self.value, kind, None)],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)])
