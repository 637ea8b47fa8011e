"""ONNX's own reference implementation: for constants, and to hold a reading against."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.verification.reading.onnx_corrections import corrections

Numbers = NDArray[Any]


def computed(node: Any, inputs: list[Numbers | None], opsets: dict[str, int]) -> list[Numbers]:
    """What one operator makes of constants; None is an input that is left out.

    Raises:
        Exception: Of any type: the node is not what it should be.
    """
    from onnx import TypeProto, helper
    from onnx.reference import ReferenceEvaluator

    given = {
        name: value for name, value in zip(node.input, inputs, strict=True) if value is not None
    }
    # a node alone would be taken for one of the newest operator set
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_value_info(name, TypeProto()) for name in given],
        [helper.make_value_info(name, TypeProto()) for name in node.output if name],
    )
    opset_imports = [helper.make_opsetid(*one) for one in opsets.items()]
    model = helper.make_model(graph, opset_imports=opset_imports)
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(model, new_ops=corrections()).run(None, given)
    found = iter(results)
    return [np.asarray(next(found)) if name else np.zeros(0) for name in node.output]


def evaluator(
    nodes: list[Any],
    constants: dict[str, Numbers],
    opsets: dict[str, int],
    given: tuple[str, tuple[int, ...], np.dtype[Any]],
    output: str,
) -> Callable[[Numbers], Numbers]:
    """A network as a function of its flat input, in the given precision.

    Args:
        given: Name, shape and precision of the input; in float64, all floats become float64.
    """
    name, dims, precision = given
    made: list[Any] = []

    def run(x: Numbers) -> Numbers:
        if not made:  # only when something is asked of it
            made.append(_reference(nodes, constants, opsets, given, output))
        with np.errstate(all="ignore"):
            (found,) = made[0].run(None, {name: x.reshape(dims).astype(precision)})
        result: Numbers = np.asarray(found).ravel()
        return result

    return run


def _reference(
    nodes: list[Any],
    constants: dict[str, Numbers],
    opsets: dict[str, int],
    given: tuple[str, tuple[int, ...], np.dtype[Any]],
    output: str,
) -> Any:
    from onnx import TypeProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    double = given[2] == np.float64
    graph = helper.make_graph(
        [in_double(node) for node in nodes] if double else nodes,
        "net",
        [helper.make_value_info(given[0], TypeProto())],
        [helper.make_value_info(output, TypeProto())],
        [
            numpy_helper.from_array(
                value.astype(np.float64) if double and value.dtype == np.float32 else value, name
            )
            for name, value in constants.items()
        ],
    )
    opset_imports = [helper.make_opsetid(*one) for one in opsets.items()]
    model = helper.make_model(graph, opset_imports=opset_imports)
    return ReferenceEvaluator(model, new_ops=corrections())


def in_double(node: Any) -> Any:
    """A cast to float32 is one to float64 there."""
    from onnx import NodeProto, TensorProto

    if node.op_type != "Cast":
        return node
    changed = NodeProto()
    changed.CopyFrom(node)
    for attribute in changed.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
    return changed
