from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from export.graphs.copying import CopyingGraph
from export.onnx_format import write_onnx
from export.tensorrt_graph import tensorrt_model
from semia.model_card import INPUT_NAME, OUTPUT_NAME
from tests.export.tensorrt_operators import as_onnx_runtime_partitions, offences
from training import layout_matching
from training.copying.generator import CopyingGenerator
from training.copying.settings import CopyingSettings
from training.rendering import Renderer
from training.scene import Scene
from training.tensors import SceneTensors

Field = Callable[..., NDArray[np.uint8]]


def test_the_graph_draws_what_the_generator_draws(
    copying: CopyingGenerator, field_tensors: SceneTensors, field: Field
) -> None:
    graph, render = CopyingGraph(copying, field_tensors).eval(), Renderer(copying, field_tensors)
    targets = [field((40, 24)), field((44, 77)), field((50, 3), (20, 60))]
    with torch.no_grad():
        pictures = graph(torch.from_numpy(np.stack(targets))).numpy()
    assert pictures.dtype == np.uint8
    for picture, target in zip(pictures, targets, strict=True):
        assert np.abs(picture.astype(int) - render(target)).max() <= 1


def test_onnx_runtime_draws_what_pytorch_draws(
    scene: Scene,
    copying_settings: CopyingSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Rounds are unrolled; more of the same would only make the exporter slow.
    monkeypatch.setattr(layout_matching, "COARSE_ROUNDS", 1)
    monkeypatch.setattr(layout_matching, "FINE_ROUNDS", 1)
    tensors = SceneTensors.from_scene(scene, 4, torch.device("cpu"))  # 44x60: the graph pads to 48x64
    generator = CopyingGenerator(copying_settings, tensors).eval()
    generator.prepare()
    write_onnx(CopyingGraph(generator, tensors), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    targets = [scene.labels, scene.targets["moved"], scene.labels[:, ::-1]]
    (pictures,) = session.run([OUTPUT_NAME], {INPUT_NAME: np.stack(targets)})
    render = Renderer(generator, tensors)
    for picture, target in zip(pictures, targets, strict=True):
        assert np.abs(picture.astype(int) - render(np.ascontiguousarray(target))).max() <= 1
    (alone,) = session.run([OUTPUT_NAME], {INPUT_NAME: targets[1][None]})
    assert np.array_equal(alone[0], pictures[1])
    _check_for_tensorrt(tmp_path / "model.onnx", np.stack(targets), pictures)


def _check_for_tensorrt(path: Path, targets: NDArray[np.uint8], pictures: NDArray[np.uint8]) -> None:
    """All is within TensorRT's list, but for tables that are stored narrow: neither parser gets to see those."""
    assert offences(onnx.load(path)) == ["Cast of INT16", "Cast of UINT8 inside the network"]
    assert offences(as_onnx_runtime_partitions(path)) == [], "given to TensorRT by ONNX Runtime"
    model = tensorrt_model(path)
    assert offences(model) == [], "given to TensorRT by us"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    assert np.array_equal(session.run([OUTPUT_NAME], {INPUT_NAME: targets})[0], pictures)
