"""ONNX's own reference implementation: for constants, and to hold a reading against."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robsweep.tasks.verification.reading.onnx.corrections import corrections

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


Given = tuple[Sequence[Any], np.dtype[Any]]  # inputs, each with name, dims and size; precision


def evaluator(
    nodes: list[Any],
    constants: dict[str, Numbers],
    opsets: dict[str, int],
    given: Given,
    outputs: Sequence[str],
) -> Callable[[Numbers], Numbers]:
    """A network as a function of its flat inputs, in the precision of its constants and casts."""
    ports, precision = given
    made: list[Any] = []
    ends = np.cumsum([one.size for one in ports])[:-1]

    def run(x: Numbers) -> Numbers:
        if not made:  # only when something is asked of it
            made.append(_reference(nodes, constants, opsets, given, outputs))
        parts = zip(ports, np.split(x.ravel(), ends), strict=True)
        feed = {one.name: part.reshape(one.dims).astype(precision) for one, part in parts}
        with np.errstate(all="ignore"):
            found = made[0].run(None, feed)
        return np.concatenate([np.asarray(one).ravel() for one in found])

    return run


def _reference(
    nodes: list[Any],
    constants: dict[str, Numbers],
    opsets: dict[str, int],
    given: Given,
    outputs: Sequence[str],
) -> Any:
    from onnx import TypeProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_value_info(one.name, TypeProto()) for one in given[0]],
        [helper.make_value_info(name, TypeProto()) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset_imports = [helper.make_opsetid(*one) for one in opsets.items()]
    model = helper.make_model(graph, opset_imports=opset_imports)
    return ReferenceEvaluator(model, new_ops=corrections())


def widened(value: Any) -> Any:
    """Float32 as float64; anything else, None too, as it is."""
    return value.astype(np.float64) if value is not None and value.dtype == np.float32 else value


def in_double(node: Any) -> Any:
    """What is float32 by its own word is float64 there: casts, and tensors of one number."""
    from onnx import NodeProto, TensorProto, helper, numpy_helper

    if node.op_type not in ("Cast", "ConstantOfShape"):
        return node
    changed = NodeProto()
    changed.CopyFrom(node)
    if node.op_type == "ConstantOfShape":
        old = next((one.t for one in node.attribute if one.name == "value"), None)
        value = np.zeros(1, np.float32) if old is None else numpy_helper.to_array(old)
        del changed.attribute[:]
        changed.attribute.append(
            helper.make_attribute("value", numpy_helper.from_array(widened(value)))
        )
        return changed
    for attribute in changed.attribute:
        if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
    return changed
