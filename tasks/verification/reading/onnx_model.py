"""ONNX files: loading one in float64, and evaluating it by ONNX's own reference implementation."""

import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.errors import InputError

Numbers = NDArray[Any]
Evaluated = Callable[[Numbers], Numbers]  # a flat input -> flat outputs


class OnnxModel(NamedTuple):
    file: str
    graph: Any  # GraphProto, in float64
    opsets: dict[str, int]
    constants: dict[str, Numbers]
    input: str
    dims: tuple[int, ...]  # of the input, with its batch axis where it has one
    output: str
    exact: Evaluated
    deployed: Evaluated  # in the file's own precision
    single: Any  # GraphProto, in the file's own precision


def load(file: str) -> OnnxModel:
    """Raises: InputError: No ONNX file, several inputs or outputs, or weights not finite."""
    onnx = _library()
    try:
        model = onnx.load(file)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None
    except Exception as error:  # whatever protobuf says about a file that is none
        raise InputError(f"{file}: not an ONNX file: {error}") from error
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
        raise InputError(f"{file}: not an ONNX file with its weights in it: {error}") from error
    return _checked(model, file)


def _library() -> Any:
    if importlib.util.find_spec("onnx") is None:
        raise InputError("onnx is not installed: pip install 'robsweep[verification]'")
    import onnx

    return onnx


def _checked(model: Any, file: str) -> OnnxModel:
    import onnx

    single = onnx.ModelProto()
    single.CopyFrom(model)
    _to_double(model.graph)
    constants = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    for name, value in constants.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise InputError(f"{file}: weights {name!r} are not finite")
    inputs = [one for one in model.graph.input if one.name not in constants]
    if len(inputs) != 1 or len(model.graph.output) != 1:
        raise InputError(f"{file}: has {len(inputs)} inputs and {len(model.graph.output)} outputs")
    dims = _dims(inputs[0], file)
    opsets = {one.domain: one.version for one in model.opset_import}
    name, output = inputs[0].name, model.graph.output[0].name
    precision = onnx.helper.tensor_dtype_to_np_dtype(
        next(one for one in single.graph.input if one.name == name).type.tensor_type.elem_type
    )
    return OnnxModel(
        file,
        model.graph,
        opsets,
        constants,
        name,
        dims,
        output,
        _evaluator(model, name, dims, np.dtype(np.float64)),
        _evaluator(single, name, dims, precision),
        single.graph,
    )


def computed(node: Any, inputs: list[Numbers], opsets: dict[str, int]) -> Numbers:
    """What one operator makes of constants."""
    from onnx import TypeProto, helper
    from onnx.reference import ReferenceEvaluator

    names = [name for name in node.input if name]
    # a node alone would be taken for one of the newest operator set
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_value_info(name, TypeProto()) for name in names],
        [helper.make_value_info(node.output[0], TypeProto())],
    )
    opset_imports = [helper.make_opsetid(*one) for one in opsets.items()]
    model = helper.make_model(graph, opset_imports=opset_imports)
    result: Numbers = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]
    return result


def _evaluator(model: Any, name: str, dims: tuple[int, ...], dtype: Any) -> Evaluated:
    def run(x: Numbers) -> Numbers:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model, new_ops=[_batch_normalization()])
        (output,) = evaluator.run(None, {name: x.reshape(dims).astype(dtype)})
        result: Numbers = np.asarray(output).ravel()
        return result

    return run


def _batch_normalization() -> Any:
    """In evaluation mode: ONNX's own one mixes in batch statistics below operator set 14."""
    from onnx.reference.op_run import OpRun

    class BatchNormalization(OpRun):  # type: ignore[misc]
        def _run(
            self,
            x: Numbers,
            scale: Numbers,
            bias: Numbers,
            mean: Numbers,
            var: Numbers,
            epsilon: float | None = None,
            **_: Any,
        ) -> tuple[Numbers]:
            shape = (-1, *[1] * (x.ndim - 2))
            scale, bias, mean, var = (one.reshape(shape) for one in (scale, bias, mean, var))
            epsilon = 1e-5 if epsilon is None else epsilon
            return (scale * (x - mean) / np.sqrt(var + epsilon).astype(x.dtype) + bias,)

    return BatchNormalization


def _dims(value: Any, file: str) -> tuple[int, ...]:
    dims = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    if dims and dims[0] == 0:
        dims[0] = 1  # a batch of any size
    if not dims or 0 in dims:
        raise InputError(f"{file}: the shape of input {value.name!r} is not fixed")
    if len(dims) > 1 and dims[0] != 1:
        raise InputError(f"{file}: input {value.name!r} is a batch of {dims[0]}; export with 1")
    return tuple(dims)


def _to_double(graph: Any) -> None:
    """Makes all floats of a graph float64, in place."""
    from onnx import TensorProto, helper, numpy_helper

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)

    def convert(tensor: Any) -> None:
        if tensor.data_type in floats:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    for tensor in graph.initializer:
        convert(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                convert(attribute.t)
            elif node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
                value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                tensor = numpy_helper.from_array(np.array(value, dtype=np.float64))
                attribute.CopyFrom(helper.make_attribute("value", tensor))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.i in floats:
                attribute.i = TensorProto.DOUBLE
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
