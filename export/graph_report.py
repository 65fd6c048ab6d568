"""What an exported graph consists of: its operators, and how much each stage computes."""

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx

from export.errors import ExportError
from export.graph_stages import stages_of
from semia.model_card import GraphReport, GraphStage

UNCOUNTED_OPERATORS = {"Constant"}
"""They hold values and compute nothing."""

Shapes = Mapping[str, Sequence[int]]


def report_graph(path: Path) -> GraphReport:
    """Count a graph's nodes by operator, and every stage's nodes and FLOPs at batch 1.

    FLOPs are two for each multiply-add of Conv, ConvTranspose, MatMul, Gemm and Einsum, biases, padding and all other
    operators left out. Multiplications by a padding's zeros count, as in most published figures.

    Raises:
        ExportError: if the file cannot be read, or leaves the shape of a counted operator open.
    """
    try:
        model = onnx.load(path)
        shapes = shapes_at_batch_1(model)
    except Exception as error:  # protobuf's and ONNX's exceptions have no base class in common
        raise ExportError(
            f"cannot read {path}: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
    counted = [
        (node, stage)
        for node, stage in zip(model.graph.node, stages_of(model.graph), strict=True)
        if node.op_type not in UNCOUNTED_OPERATORS
    ]
    nodes, flops = Counter[str](), Counter[str]()
    for node, stage in counted:
        nodes[stage] += 1
        flops[stage] += flops_of(node, shapes)
    return GraphReport(
        operators=dict(Counter(node.op_type for node, _ in counted).most_common()),
        stages=tuple(GraphStage(stage, count, flops[stage]) for stage, count in nodes.items()),
    )


def shapes_at_batch_1(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of every value that ONNX's shape inference can tell; the batch is the only open size of our graphs."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]  # inferred for any batch
    for value in [*fixed.graph.input, *fixed.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if not dimension.HasField("dim_value"):
                dimension.dim_value = 1
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in inferred.initializer}
    for value in itertools.chain(inferred.input, inferred.value_info, inferred.output):
        dimensions = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(size.HasField("dim_value") for size in dimensions):
            shapes[value.name] = tuple(size.dim_value for size in dimensions)
    return shapes


def flops_of(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Twice the multiply-adds of a node; 0 if it is none of the counted operators.

    Raises:
        ExportError: if a shape that it takes is unknown.
    """
    try:
        return 2 * _multiply_adds(node, shapes)
    except KeyError as error:
        raise ExportError(
            f"the shape of {error}, of {node.op_type} {node.name}, is not known: its FLOPs cannot be counted"
        ) from None


def _multiply_adds(node: onnx.NodeProto, shapes: Shapes) -> int:
    match node.op_type:
        case "Conv":  # weight [out, in / groups, ...]: every output element sums over all but the first
            return math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        case "ConvTranspose":  # weight [in, out / groups, ...]: every input element spreads over all but the first
            return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        case "MatMul":
            return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
        case "Gemm":
            transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
            return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else 1]
        case "Einsum":
            return _einsum_multiply_adds(node, shapes)
    return 0


def _einsum_multiply_adds(node: onnx.NodeProto, shapes: Shapes) -> int:
    """The product of all indices' sizes, as if all operands were multiplied at once; no ellipsis."""
    (equation,) = (attribute.s.decode() for attribute in node.attribute if attribute.name == "equation")
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if "." in equation:
        raise ExportError(f"Einsum {node.name} has an ellipsis in {equation!r}: its FLOPs cannot be counted")
    sizes = {
        index: size
        for term, value in zip(terms, node.input, strict=True)
        for index, size in zip(term, shapes[value], strict=True)
    }
    return math.prod(sizes.values())
