from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from export.half_precision import BFLOAT16_OPSET, half_precision_graph, rounded_in_float32
from export.onnx_format import OPSET, write_onnx
from export.synthesis_graph import SynthesisGraph
from training.generator import Generator
from training.tensors import SceneTensors


def limited_graph(tensors: SceneTensors, limit: float | None) -> SynthesisGraph:
    torch.manual_seed(0)
    return SynthesisGraph(Generator(4, 3, limit).eval(), tensors)


def weights_by_type(model: onnx.ModelProto, data_type: int) -> set[str]:
    """The parts of the generator that hold convolutions with weights of a type."""
    names = {tensor.name for tensor in model.graph.initializer if tensor.data_type == data_type}
    weights = [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return {name.split(".")[1] for name in weights if name in names}


@pytest.mark.parametrize(
    ("limit", "dtype", "data_type", "opset"),
    [
        (None, torch.float16, TensorProto.FLOAT16, OPSET),
        (4.0, torch.bfloat16, TensorProto.BFLOAT16, BFLOAT16_OPSET),
    ],
)
def test_what_needs_float32_stays_there(
    tensors: SceneTensors, tmp_path: Path, limit: float | None, dtype: torch.dtype, data_type: int, opset: int
) -> None:
    write_onnx(half_precision_graph(limited_graph(tensors, limit), dtype), tmp_path / "model.onnx", opset)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "model.onnx"))
    assert model.opset_import[0].version == opset
    lowered = {"image_encoder", "decoder", "beta_heads"} | (set() if limit is None else {"gamma_heads"})
    assert weights_by_type(model, data_type) == lowered
    assert weights_by_type(model, TensorProto.FLOAT) == {"label_encoder", "gamma_heads"} - lowered

    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for operator in ("Div", "InstanceNormalization"):
        results = [node.output[0] for node in model.graph.node if node.op_type == operator]
        assert results
        assert {types[name] for name in results} == {TensorProto.FLOAT}


def test_nothing_is_cast_there_and_back(tensors: SceneTensors, tmp_path: Path) -> None:
    write_onnx(half_precision_graph(limited_graph(tensors, 4.0), torch.float16), tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    cast = {node.output[0] for node in nodes if node.op_type == "Cast"}
    assert not [node.name for node in nodes if node.op_type == "Cast" and node.input[0] in cast]


def test_the_original_graph_stays_whole(tensors: SceneTensors) -> None:
    graph = limited_graph(tensors, 4.0)
    half_precision_graph(graph, torch.float16)
    assert {parameter.dtype for parameter in graph.parameters()} == {torch.float32}


def doubling(data_type: int) -> onnx.ModelProto:
    """2x - 1 in a type of 16 bits, between casts."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["half"], to=data_type),
            helper.make_node("Add", ["half", "half"], ["sum"], name="add"),
            helper.make_node("Sub", ["sum", "one"], ["less"], name="subtract"),
            helper.make_node("Cast", ["less"], ["y"], to=TensorProto.FLOAT),
        ],
        "doubling",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
        [helper.make_tensor("one", data_type, [], [1.0])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)


@pytest.mark.parametrize(
    ("data_type", "expected"),
    [
        (TensorProto.FLOAT16, [7.0, 4096.0, np.inf]),  # 4095 is no float16; 80000 is beyond all
        (TensorProto.BFLOAT16, [7.0, 4096.0, 79872.0]),
    ],
)
def test_the_emulation_rounds_every_result(data_type: int, expected: list[float]) -> None:
    """ONNX Runtime by itself would compute it all in float32, and nothing would overflow."""
    model = rounded_in_float32(doubling(data_type))
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": np.array([4.0, 2048.0, 40000.0], dtype=np.float32)})
    assert y.tolist() == expected
