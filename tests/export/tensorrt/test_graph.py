"""Every operator of an exported graph is in TensorRT's published list: as it stands, or once tables are computed."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from semia.core.model_card import INPUT_NAME, MODEL_FILE, OUTPUT_NAME
from semia.export.tensorrt.build import tensorrt_model
from semia.training.scene import Scene
from tests.export.tensorrt.operators import offences


def test_the_published_generators_graph_is_within_the_list(exported: Path) -> None:
    """The copying generator's is looked at in graphs/test_copying, where it is exported."""
    assert offences(onnx.load(exported / MODEL_FILE)) == []
    assert offences(tensorrt_model(exported / MODEL_FILE)) == []


def test_rewriting_changes_no_picture(exported: Path, scene: Scene) -> None:
    layouts = np.stack([scene.labels, scene.targets["moved"]])
    expected, actual = (
        onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"]).run(None, {INPUT_NAME: layouts})[0]
        for graph in (str(exported / MODEL_FILE), tensorrt_model(exported / MODEL_FILE).SerializeToString())
    )
    # What is computed beforehand is rounded by another program.
    assert np.abs(actual.astype(int) - expected.astype(int)).max() <= 1


def test_stored_integers_are_widened(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT_NAME], ["ids"], to=TensorProto.INT32),
            helper.make_node("Cast", ["table"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["wide", "ids"], ["values"], axis=0),
            helper.make_node("Cast", ["values"], [OUTPUT_NAME], to=TensorProto.UINT8),
        ],
        "table",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", 2])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.UINT8, ["N", 2])],
        [numpy_helper.from_array(np.array([7, 250], np.int16), "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "m.onnx")
    assert offences(onnx.load(tmp_path / "m.onnx")) == ["Cast of INT16"]
    model = tensorrt_model(tmp_path / "m.onnx")
    assert offences(model) == []
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert session.run(None, {INPUT_NAME: np.array([[1, 0]], np.uint8)})[0].tolist() == [[250, 7]]


def test_the_lists_restrictions_are_seen() -> None:
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["top", "where"]),
        helper.make_node("Unique", ["x"], ["unique"]),
        helper.make_node("ReduceSum", ["x", "axes"], ["sum"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.DOUBLE, [4000]),
        helper.make_tensor_value_info("axes", TensorProto.INT64, [1]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, [], [numpy_helper.from_array(np.array([3840]), "k")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert offences(model) == [
        "ReduceSum of DOUBLE",
        "ReduceSum: axes are computed",
        "TopK of DOUBLE",
        "TopK: K is too large or computed",
        "Unique: not listed",
    ]
