"""The ONNX operators that can be verified, as `tasks.verification` reads them. Torch-free."""

EXACT = frozenset({
    "Abs", "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose",
    "DepthToSpace", "Div", "Dropout", "Expand", "Flatten", "Gather", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "HardSigmoid", "Identity", "LeakyRelu", "MatMul", "Max", "MaxPool", "Mean",
    "Min", "Mul", "Neg", "PRelu", "Pad", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum",
    "Relu", "Reshape", "Resize", "Shape", "Size", "Slice", "SpaceToDepth", "Split", "Squeeze",
    "Sub", "Sum", "Tile", "Transpose", "Unsqueeze", "Upsample",
})
# Proofs by bounds, branching on their pieces included; counterexamples by search.
BOUNDED = frozenset({
    "Cast", "CastLike", "Ceil", "Celu", "Elu", "Equal", "Floor", "Gelu", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Round", "Selu", "Sigmoid", "Sign", "Softmax",
    "Softplus", "Tanh",
})
# With a constant condition, or between constants; so the standard's command does not report it.
PARTLY = frozenset({"Where"})
# Of constants alone.
FOLDED = frozenset({"Constant", "ConstantOfShape"})
