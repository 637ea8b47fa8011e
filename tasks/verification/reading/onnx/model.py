"""ONNX files: loading one, and what its network needs; nothing of its operators' meaning."""

import importlib.util
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.catalogue.code.install import how_to_install
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading import weights_file
from robsweep.tasks.verification.reading.files import content_of, one_line
from robsweep.tasks.verification.reading.onnx.constants import folded
from robsweep.tasks.verification.reading.onnx.reference import evaluator, in_double, widened

Numbers = NDArray[Any]
Evaluated = Callable[[Numbers], Numbers]  # flat inputs -> flat outputs
_LARGEST = 2**28  # entries of an input
_PRECISIONS = ("float32", "float64")
# onnxruntime runs none of an older set
_OLDEST = 7


class Port(NamedTuple):
    """An input of a file."""

    name: str
    dims: tuple[int, ...]  # with its batch axis where it has one

    @property
    def size(self) -> int:
        return prod(self.dims)


class OnnxModel(NamedTuple):
    file: str
    nodes: list[Any]  # those that depend on an input and the outputs need, in order
    opsets: dict[str, int]
    constants: dict[str, Numbers]  # in the file's own precision, computed ones too
    # those that float64 computes otherwise, as it does; None: another runtime may have any
    doubles: dict[str, Numbers] | None
    inputs: tuple[Port, ...]
    precision: np.dtype[Any]  # of the inputs
    outputs: tuple[str, ...]  # and what was asked for of what lies before them
    # of all inputs one behind the other, all outputs one behind the other:
    exact: Evaluated  # in float64
    deployed: Evaluated  # in the file's own precision

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one sample: without the batch axis of a single input; several inputs are in a row."""
        if len(self.inputs) != 1:
            return (sum(one.size for one in self.inputs),)
        (dims,) = (one.dims for one in self.inputs)
        return dims[1:] if len(dims) > 1 and dims[0] == 1 else dims


def load(file: str, hidden: Sequence[str] = ()) -> OnnxModel:
    """A file, gzipped or not, with its weights in it or beside it; or one of weights alone.

    Args:
        hidden: Names of what it computes on the way, which become outputs behind its own.

    Raises:
        InputError: No ONNX file, weights that are not finite, a precision other than float32 and
            float64, a constant that cannot be computed, a hidden name that it does not have.
    """
    onnx = _library()
    if file.endswith(weights_file.SUFFIXES):
        return _checked(weights_file.model_of(file), file, hidden)
    content = content_of(file)
    try:
        model = onnx.load_model_from_string(content)
        onnx.external_data_helper.load_external_data_for_model(model, str(Path(file).parent))
    except Exception as error:  # whatever protobuf says about a file that is none
        raise InputError(f"{file}: not an ONNX file: {one_line(error)}") from error
    return _checked(model, file, hidden)


def parsed(content: bytes, file: str) -> OnnxModel:
    """As `load`, from the file's bytes, which must have one input, one output and the weights.

    Args:
        file: Its name, for messages.
    """
    onnx = _library()
    try:
        model = onnx.load_model_from_string(content)
        for one in model.graph.initializer:
            onnx.numpy_helper.to_array(one)
    except Exception as error:
        what = f"not an ONNX file with its weights in it: {one_line(error)}"
        raise InputError(f"{file}: {what}") from error
    found = _checked(model, file)
    if len(found.inputs) != 1 or len(found.outputs) != 1:
        counts = f"{len(found.inputs)} inputs and {len(found.outputs)} outputs"
        names = ", ".join([*(one.name for one in found.inputs), *found.outputs])
        raise InputError(f"{file}: has {counts} ({names[:200]}); give it with one of each")
    (only,) = found.inputs
    if len(only.dims) > 1 and only.dims[0] != 1:
        raise InputError(f"{file}: input {only.name!r} is a batch of {only.dims[0]}; export with 1")
    return found


def where(file: str, node: Any) -> str:
    """How messages call a node."""
    name = node.name or next(iter(node.output), "")
    domain = "" if node.domain in ("", "ai.onnx") else f" of {node.domain}"
    called = " ".join(f"operator {node.op_type}{domain} ({name})".split())
    return f"{file}: {called}"


def _library() -> Any:
    if importlib.util.find_spec("onnx") is None:
        raise InputError(f"onnx is not installed: {how_to_install('verification')}")
    import onnx

    return onnx


def _checked(model: Any, file: str, hidden: Sequence[str] = ()) -> OnnxModel:
    graph, opsets = model.graph, _opsets(model, file)
    constants = _initial(graph, file)
    given = [one for one in graph.input if one.name not in constants]
    if not given or not graph.output:
        raise InputError(f"{file}: has {len(given)} inputs and {len(graph.output)} outputs")
    ports = tuple(Port(one.name, _dims(one, file)) for one in given)
    if sum(one.size for one in ports) > _LARGEST:
        raise InputError(f"{file}: its inputs are too large")
    kinds = {_precision(one, file) for one in given}
    if len(kinds) > 1:
        raise InputError(f"{file}: its inputs are of several precisions, which cannot be verified")
    (precision,) = kinds
    names = {one.name for one in ports}
    outputs = (*(one.name for one in graph.output), *hidden)
    ordered = _in_order(graph, names, outputs, constants, file)
    nodes, doubles = folded(ordered, constants, opsets, file, where)
    for name in outputs:
        if name in constants or name in names:
            what = "is an input" if name in names else "does not depend on its inputs"
            raise InputError(f"{file}: its output {name!r} {what}")
    held = {one: constants[one] for node in nodes for one in node.input if one in constants}
    if doubles is not None:
        doubles = {one: value for one, value in doubles.items() if one in held}
    wide = {one: widened(value) for one, value in held.items()}
    all_double = [in_double(node) for node in nodes]
    return OnnxModel(
        file,
        nodes,
        opsets,
        held,
        doubles,
        ports,
        precision,
        outputs,
        evaluator(all_double, wide, opsets, (ports, np.dtype(np.float64)), outputs),
        evaluator(nodes, held, opsets, (ports, precision), outputs),
    )


def _opsets(model: Any, file: str) -> dict[str, int]:
    from onnx import defs

    opsets = {one.domain.replace("ai.onnx", "", 1) if one.domain == "ai.onnx" else one.domain:
              one.version for one in model.opset_import}  # fmt: skip
    if "" not in opsets:
        raise InputError(f"{file}: does not say which operator set it is written in")
    if not _OLDEST <= opsets[""] <= defs.onnx_opset_version():
        known = f"{_OLDEST} to {defs.onnx_opset_version()}"
        raise InputError(f"{file}: is written in operator set {opsets['']}; {known} are known")
    return opsets


def _initial(graph: Any, file: str) -> dict[str, Numbers]:
    from onnx import numpy_helper

    if graph.sparse_initializer:
        name = graph.sparse_initializer[0].values.name
        raise InputError(f"{file}: weights {name!r} are sparse, which cannot be verified")
    constants = {}
    for one in graph.initializer:
        try:
            value = numpy_helper.to_array(one)
        except Exception as error:  # whatever numpy says about numbers that do not fit their shape
            what = f"weights {one.name!r} cannot be read: {one_line(error)}"
            raise InputError(f"{file}: {what}") from error
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError(f"{file}: weights {one.name!r} are not finite")
        constants[one.name] = value
    return constants


def _in_order(
    graph: Any,
    given: set[str],
    outputs: Sequence[str],
    constants: dict[str, Numbers],
    file: str,
) -> list[Any]:
    """The nodes that the outputs need, each after what it reads, however they lie in the file."""
    by_output: dict[str, int] = {}
    for k, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in by_output or name in constants or name in given:
                raise InputError(f"{where(file, node)} computes {name!r} a second time")
            by_output[name] = k
    ordered: list[Any] = []
    state: dict[int, str] = {}
    todo = [(output, "the output") for output in reversed(outputs)]
    while todo:
        name, reader = todo[-1]
        if name in given or name in constants or not name:
            todo.pop()
            continue
        if name not in by_output:
            raise InputError(f"{file}: {reader} needs {name!r}, which nothing computes")
        k = by_output[name]
        node = graph.node[k]
        if state.get(k) == "done":
            todo.pop()
        elif state.get(k) == "open":
            state[k] = "done"
            ordered.append(node)
            todo.pop()
        else:
            state[k] = "open"
            for one in node.input:
                if state.get(by_output.get(one, -1)) == "open":
                    raise InputError(f"{where(file, node)} needs its own output {one!r}")
                todo.append((one, f"operator {node.op_type}"))
    return ordered


def _precision(value: Any, file: str) -> np.dtype[Any]:
    from onnx import TensorProto, helper

    kind = value.type.tensor_type.elem_type
    known = kind in (TensorProto.FLOAT, TensorProto.DOUBLE)
    if not known:
        name = TensorProto.DataType.Name(kind) if kind in TensorProto.DataType.values() else kind
        raise InputError(
            f"{file}: input {value.name!r} is of type {name}; only networks of "
            f"{' or '.join(_PRECISIONS)} can be verified"
        )
    precision: np.dtype[Any] = np.dtype(helper.tensor_dtype_to_np_dtype(kind))
    return precision


def _dims(value: Any, file: str) -> tuple[int, ...]:
    if not value.type.HasField("tensor_type"):
        raise InputError(f"{file}: input {value.name!r} is no tensor")
    dims = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    if dims and dims[0] <= 0:
        dims[0] = 1  # a batch of any size
    if not dims or min(dims) <= 0:
        raise InputError(f"{file}: the shape of input {value.name!r} is not fixed")
    if float(np.prod(np.array(dims, dtype=np.float64))) > _LARGEST:
        raise InputError(f"{file}: input {value.name!r} of shape {tuple(dims)} is too large")
    return tuple(dims)
