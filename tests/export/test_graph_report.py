import math
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from semia.core.model_card import CARD_FILE, MODEL_FILE, ModelCard
from semia.export.errors import ExportError
from semia.export.graph_report import report_graph
from semia.export.onnx_writer import STAGE_PROPERTY

Shapes = dict[str, Sequence[int | str | None]]
WriteGraph = Callable[..., Path]


@pytest.fixture
def write_graph(tmp_path: Path) -> WriteGraph:
    """Write a graph from its nodes and the shapes of its float inputs, outputs and stored tensors."""

    def write(nodes: list[onnx.NodeProto], inputs: Shapes, outputs: Shapes, stored: dict[str, list[int]]) -> Path:
        def values(shapes: Shapes) -> list[onnx.ValueInfoProto]:
            return [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]

        tensors = [
            helper.make_tensor(name, TensorProto.FLOAT, shape, bytes(4 * math.prod(shape)), raw=True)
            for name, shape in stored.items()
        ]
        graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), tensors)
        path = tmp_path / "graph.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
        return path

    return write


OPERATORS = [
    # 4x4 outputs of 6 channels, each from 3x3 places of 2 channels
    (helper.make_node("Conv", ["x", "w"], ["y"], group=3), [6, 2, 3, 3], ["N", 6, 4, 4], 2 * 6 * 16 * 2 * 9),
    # 36 inputs of 6 channels, each spread over 4x4 weights to 5 channels
    (helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]), [6, 5, 4, 4], None, 2 * 6 * 36 * 5 * 16),
    (helper.make_node("MatMul", ["x", "w"], ["y"]), [6, 7], ["N", 6, 6, 7], 2 * 36 * 7 * 6),
    (helper.make_node("Einsum", ["x", "w"], ["y"], equation="nchw, cd->nhwd"), [6, 7], None, 2 * 36 * 6 * 7),
    (helper.make_node("Mul", ["x", "w"], ["y"]), [6, 6], None, 0),
]


@pytest.mark.parametrize(
    ("node", "weight", "output", "flops"), OPERATORS, ids=lambda value: getattr(value, "op_type", "")
)
def test_two_flops_a_multiply_add_at_batch_1(
    write_graph: WriteGraph, node: onnx.NodeProto, weight: list[int], output: list[int | str] | None, flops: int
) -> None:
    path = write_graph([node], {"x": ["N", 6, 6, 6]}, {"y": output or [None] * 4}, {"w": weight})
    report = report_graph(path)
    assert report.operators == {node.op_type: 1}
    assert [(stage.name, stage.nodes, stage.flops) for stage in report.stages] == [("other", 1, flops)]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_sums_over_the_side_that_both_share(write_graph: WriteGraph, transposed: int) -> None:
    node = helper.make_node("Gemm", ["x", "w"], ["y"], transA=transposed)
    path = write_graph([node], {"x": [5, 3] if transposed else [3, 5]}, {"y": [3, 7]}, {"w": [5, 7]})
    assert report_graph(path).stages[0].flops == 2 * 3 * 5 * 7


def test_products_of_stored_values_do_not_count(write_graph: WriteGraph) -> None:
    nodes = [
        helper.make_node("Neg", ["v"], ["negative"]),
        helper.make_node("MatMul", ["negative", "w"], ["product"]),
        helper.make_node("MatMul", ["x", "product"], ["y"]),
    ]
    report = report_graph(write_graph(nodes, {"x": [2, 3]}, {"y": [2, 5]}, {"v": [3, 4], "w": [4, 5]}))
    assert (sum(report.operators.values()), report.stages[0].flops) == (3, 2 * 2 * 3 * 5)


def test_inserted_nodes_belong_to_their_neighbors(write_graph: WriteGraph) -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Abs", ["negative"], ["first"]),
        helper.make_node("Neg", ["first"], ["again"]),
        helper.make_node("Abs", ["again"], ["y"]),
    ]
    for node, stage in ((nodes[1], "encoder"), (nodes[3], "decoder")):
        node.metadata_props.add(key=STAGE_PROPERTY, value=stage)
    report = report_graph(write_graph(nodes, {"x": ["N", 4]}, {"y": ["N", 4]}, {}))
    assert [(stage.name, stage.nodes) for stage in report.stages] == [("encoder", 3), ("decoder", 1)]


def test_a_shape_that_only_running_tells_is_refused(write_graph: WriteGraph) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["places"]),
        helper.make_node("Cast", ["places"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "floats"], ["y"], name="product"),
    ]
    path = write_graph(nodes, {"x": ["N", 4]}, {"y": [3, None]}, {"w": [3, 2]})
    with pytest.raises(ExportError, match="'y', of MatMul product, is not known"):
        report_graph(path)


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("no graph")
    with pytest.raises(ExportError, match=r"cannot read .*model\.onnx"):
        report_graph(tmp_path / "model.onnx")


def test_every_node_of_an_export_has_its_stage_and_no_path_of_this_machine(exported: Path) -> None:
    model = onnx.load(exported / MODEL_FILE)
    for node in model.graph.node:
        assert [entry.key for entry in node.metadata_props] in ([STAGE_PROPERTY], [])
    assert b".py" not in (exported / MODEL_FILE).read_bytes()


def test_the_card_says_what_the_graph_consists_of(exported: Path) -> None:
    graph = ModelCard.read(exported / CARD_FILE).graph
    assert graph == report_graph(exported / MODEL_FILE)
    assert graph is not None
    names = ["layout", "label encoder", "feature translation", "image encoder", "decoder", "pixels"]
    assert [stage.name for stage in graph.stages] == names
    computing = [stage.name for stage in graph.stages if stage.flops]
    assert computing == ["label encoder", "feature translation", "image encoder", "decoder"]
    assert sum(graph.operators.values()) == sum(stage.nodes for stage in graph.stages)
