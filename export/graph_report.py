"""What an exported graph consists of: its operators, and how much each stage computes."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx_ir
from onnxscript.optimizer import fold_constants

from semia.core.model_card import GraphReport, GraphStage
from semia.export.errors import ExportError, first_line
from semia.export.onnx_writer import stages_of

UNCOUNTED_OPERATORS = {"Constant"}  # they hold values and compute nothing

Shapes = Mapping[str, Sequence[int]]


def report_graph(path: Path) -> GraphReport:
    """Count a graph's nodes by operator, and every stage's nodes and FLOPs at batch 1.

    FLOPs are two for each multiply-add of Conv, ConvTranspose, MatMul, Gemm and Einsum, biases, padding and all other
    operators left out. Multiplications by a padding's zeros count, as in most published figures; products of nothing
    but stored values do not, for a runtime works them out once, when it loads the graph.

    Raises:
        ExportError: if the file cannot be read, or leaves the shape of a counted operator open.
    """
    try:
        model = onnx.load(path)
        shapes = shapes_at_batch_1(path)
    except Exception as error:  # protobuf's and ONNX's exceptions have no base class in common
        raise ExportError(f"cannot read {path}: {first_line(error)}") from error
    stages = stages_of(model.graph)
    operators = Counter[str]()
    numbers: dict[str, list[int]] = {}
    flops = Counter[str]()
    constant = {tensor.name for tensor in model.graph.initializer}
    for number, (node, stage) in enumerate(zip(model.graph.node, stages, strict=True)):
        if node.op_type not in UNCOUNTED_OPERATORS:
            operators[node.op_type] += 1
            numbers.setdefault(stage, []).append(number)
        if constant.issuperset(filter(None, node.input)):  # an input that is left out has an empty name
            constant.update(node.output)
        else:
            flops[stage] += flops_of(node, shapes)
    # Stages overlap where the exporter moved a shape's computation forward; their middles are in the true order.
    in_order = sorted(numbers, key=lambda stage: statistics.median(numbers[stage]))
    return GraphReport(
        operators=dict(operators.most_common()),
        stages=tuple(GraphStage(stage, len(numbers[stage]), flops[stage]) for stage in in_order),
    )


def shapes_at_batch_1(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every value of a graph that can be told from its inputs' shapes; their one open size is the batch.

    A matching computes shapes in the graph itself. Folding them away tells more than ONNX's shape inference alone.
    """
    model = onnx_ir.load(path)
    for value in model.graph.inputs:
        assert value.shape is not None
        value.shape = onnx_ir.Shape(size if isinstance(size, int) else 1 for size in value.shape)
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.shape = None  # it was inferred for any batch
    fold_constants(model, onnx_shape_inference=True)
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    for node in model.graph.all_nodes():
        values += node.outputs
    shapes = {}
    for value in values:
        if value.name and value.shape is not None:
            sizes = tuple(size for size in value.shape if isinstance(size, int))
            if len(sizes) == len(value.shape):
                shapes[value.name] = sizes
    return shapes


def flops_of(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Twice a node's multiply-adds, 0 if it is not counted; an ExportError if a shape that it takes is unknown."""
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
