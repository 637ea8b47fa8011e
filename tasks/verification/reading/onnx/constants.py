"""What an ONNX file computes from constants alone, and how far runtimes may differ about it."""

from typing import Any

from numpy.typing import NDArray

from robsweep.tasks.errors import InputError
from robsweep.tasks.verification.reading.files import one_line
from robsweep.tasks.verification.reading.onnx.reference import computed, in_double, widened

Numbers = NDArray[Any]
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}
# operators whose results are some of their inputs' numbers, or those with another sign
_MOVING = {
    "Abs",
    "Cast",
    "CastLike",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "DepthToSpace",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Max",
    "Min",
    "Neg",
    "Pad",
    "Relu",
    "Reshape",
    "Size",
    "Shape",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
}
# exact of what is exact; of what is not, they jump
_JUMPING = {
    "And",
    "Ceil",
    "Equal",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "IsInf",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "NonZero",
    "Not",
    "Or",
    "Round",
    "Sign",
    "Where",
    "Xor",
}
# arithmetic, which is off by as little as float32 differs from float64
_ROUNDING = {
    "Add",
    "BatchNormalization",
    "Clip",
    "Conv",
    "Cos",
    "Div",
    "Erf",
    "Exp",
    "Gemm",
    "Log",
    "MatMul",
    "Mean",
    "Mul",
    "Pow",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceMean",
    "ReduceSum",
    "ReduceSumSquare",
    "Sigmoid",
    "Sin",
    "Softmax",
    "Softplus",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
}


def folded(
    nodes: list[Any], constants: dict[str, Numbers], opsets: dict[str, int], file: str, at: Any
) -> tuple[list[Any], dict[str, Numbers] | None]:
    """The nodes that depend on the input; what the others compute joins the constants.

    Constants are computed in the file's own precision, as they are when it runs.

    Args:
        at: How messages call a node of the file.

    Returns:
        The nodes, and constants that come out otherwise in float64, as they do there; None where
        another runtime may have quite different ones.

    Raises:
        InputError: A node that cannot be computed, or whose result depends on chance.
    """
    left, depends, doubles = [], set[str](), dict[str, Numbers]()
    known = True
    for node in nodes:
        _check(node, constants, at(file, node))
        if any(name and name not in constants for name in node.input):
            depends.update(node.output)
            left.append(node)
            continue
        given = [constants.get(name) for name in node.input]
        try:
            results = computed(node, given, opsets)
            if any(name in doubles for name in node.input) or not is_exact(node, given):
                known = known and _is_smooth(node, given)
                wide = [doubles.get(n, widened(v)) for n, v in zip(node.input, given, strict=True)]
                others = computed(in_double(node), wide, opsets) if known else []
                doubles.update(zip(node.output, others, strict=False))
        except Exception as error:  # whatever the reference says: the node is not what it should be
            raise InputError(f"{at(file, node)} cannot be computed: {one_line(error)}") from error
        constants.update(zip(node.output, results, strict=False))
    return left, doubles if known else None


def is_exact(node: Any, given: list[Numbers | None]) -> bool:
    """Whether every runtime computes the same of these constants."""
    floats = any(one is not None and one.dtype.kind not in "biu" for one in given)
    return not floats or node.op_type in _MOVING or node.op_type in _JUMPING


def _is_smooth(node: Any, given: list[Numbers | None]) -> bool:
    """Whether what comes out in float64 says how far other runtimes may be off."""
    from onnx import TensorProto

    if any(one is not None and one.dtype.kind not in "biu" and one.itemsize < 4 for one in given):
        return False
    if node.op_type in ("Cast", "CastLike"):
        to = [one.i for one in node.attribute if one.name == "to"]
        return bool(to) and to[0] in (TensorProto.FLOAT, TensorProto.DOUBLE)
    return node.op_type in _MOVING or node.op_type in _ROUNDING


def _check(node: Any, constants: dict[str, Numbers], at: str) -> None:
    if node.domain not in ("", "ai.onnx"):
        raise InputError(f"{at} cannot be verified: it is none of ONNX's own")
    if any(one.HasField("g") or one.graphs for one in node.attribute):
        raise InputError(f"{at} cannot be verified: it holds a network of its own")
    if node.op_type in _RANDOM or (node.op_type == "Dropout" and len(node.input) > 2):
        training = constants.get(node.input[2]) if node.op_type == "Dropout" else None
        if node.op_type in _RANDOM or (node.input[2] and (training is None or bool(training))):
            raise InputError(f"{at} cannot be verified: what it computes depends on chance")
