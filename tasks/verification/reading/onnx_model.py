"""ONNX files: loading one, and what its network needs; nothing of its operators' meaning."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.catalogue.install import how_to_install
from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import content_of, one_line
from robsweep.tasks.verification.reading.onnx_constants import folded
from robsweep.tasks.verification.reading.onnx_reference import evaluator

Numbers = NDArray[Any]
Evaluated = Callable[[Numbers], Numbers]  # a flat input -> flat outputs
_LARGEST = 2**28  # entries of an input
_PRECISIONS = ("float32", "float64")
# onnxruntime runs none of an older set
_OLDEST = 7


class OnnxModel(NamedTuple):
    file: str
    nodes: list[Any]  # those that depend on the input and the output needs, in order
    opsets: dict[str, int]
    constants: dict[str, Numbers]  # in the file's own precision, computed ones too
    # those that float64 computes otherwise, as it does; None: another runtime may have any
    doubles: dict[str, Numbers] | None
    input: str
    dims: tuple[int, ...]  # of the input, with its batch axis where it has one
    precision: np.dtype[Any]  # of the input
    output: str
    exact: Evaluated  # in float64
    deployed: Evaluated  # in the file's own precision


def load(file: str) -> OnnxModel:
    """A file, gzipped or not, with its weights in it or beside it.

    Raises:
        InputError: No ONNX file, several inputs or outputs, weights that are not finite, a
            precision other than float32 and float64, a constant that cannot be computed.
    """
    onnx = _library()
    content = content_of(file)
    try:
        model = onnx.load_model_from_string(content)
        onnx.external_data_helper.load_external_data_for_model(model, str(Path(file).parent))
    except Exception as error:  # whatever protobuf says about a file that is none
        raise InputError(f"{file}: not an ONNX file: {one_line(error)}") from error
    return _checked(model, file)


def parsed(content: bytes, file: str) -> OnnxModel:
    """As `load`, from the file's bytes; its weights must be inside.

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
    return _checked(model, file)


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


def _checked(model: Any, file: str) -> OnnxModel:
    graph, opsets = model.graph, _opsets(model, file)
    constants = _initial(graph, file)
    inputs = [one for one in graph.input if one.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        counts = f"{len(inputs)} inputs and {len(graph.output)} outputs"
        names = ", ".join(one.name for one in (*inputs, *graph.output))
        raise InputError(f"{file}: has {counts} ({names[:200]}); give it with one of each")
    dims, precision = _dims(inputs[0], file), _precision(inputs[0], file)
    name, output = inputs[0].name, graph.output[0].name
    ordered = _in_order(graph, name, output, constants, file)
    nodes, doubles = folded(ordered, constants, opsets, file, where)
    if output in constants or output == name:
        what = "is its input" if output == name else "does not depend on its input"
        raise InputError(f"{file}: its output {what}")
    held = {one: constants[one] for node in nodes for one in node.input if one in constants}
    if doubles is not None:
        doubles = {one: value for one, value in doubles.items() if one in held}
    return OnnxModel(
        file,
        nodes,
        opsets,
        held,
        doubles,
        name,
        dims,
        precision,
        output,
        evaluator(nodes, held, opsets, (name, dims, np.dtype(np.float64)), output),
        evaluator(nodes, held, opsets, (name, dims, precision), output),
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
    graph: Any, given: str, output: str, constants: dict[str, Numbers], file: str
) -> list[Any]:
    """The nodes that the output needs, each after what it reads, however they lie in the file."""
    by_output: dict[str, int] = {}
    for k, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in by_output or name in constants or name == given:
                raise InputError(f"{where(file, node)} computes {name!r} a second time")
            by_output[name] = k
    ordered: list[Any] = []
    state: dict[int, str] = {}
    todo = [(output, "the output")]
    while todo:
        name, reader = todo[-1]
        if name == given or name in constants or not name:
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
    if len(dims) > 1 and dims[0] != 1:
        raise InputError(f"{file}: input {value.name!r} is a batch of {dims[0]}; export with 1")
    if float(np.prod(np.array(dims, dtype=np.float64))) > _LARGEST:
        raise InputError(f"{file}: input {value.name!r} of shape {tuple(dims)} is too large")
    return tuple(dims)
