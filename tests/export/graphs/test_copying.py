"""The copying generator's exported graph draws, to the last bit, what PyTorch draws."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from semia.core.images import RGB
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME
from semia.export.graphs.copying import CopyingGraph
from semia.export.onnx_writer import write_onnx
from semia.export.tensorrt.build import tensorrt_model
from semia.training.base import Renderer
from semia.training.copying import levels
from semia.training.copying.generator import CopyingGenerator
from semia.training.copying.settings import CopyingSettings
from semia.training.scene import load_scene
from semia.training.tensors import SceneTensors
from tests.export.tensorrt.operators import as_onnx_runtime_partitions, offences

Field = Callable[..., NDArray[np.uint8]]
SCENES = Path(__file__).parents[3] / "examples" / "scenes"
LONGER_SIDE = 150


@dataclasses.dataclass(frozen=True)
class Exported:
    """An example scene's graph, and what PyTorch draws."""

    path: Path
    layouts: NDArray[np.uint8]  # the photograph's own, then every target's
    pictures: NDArray[np.uint8]


def drawn(graph: Path | bytes, layouts: NDArray[np.uint8], *, together: int, threads: int) -> NDArray[np.uint8]:
    """What ONNX Runtime draws, so many layouts at a time."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    batches = [layouts[first : first + together] for first in range(0, len(layouts), together)]
    return np.concatenate([session.run([OUTPUT_NAME], {INPUT_NAME: batch})[0] for batch in batches])


def export(name: str, searched_pixels: int, folder: Path) -> Exported:
    scene = load_scene(SCENES / name, max_side=LONGER_SIDE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(levels, "SEARCHED_PIXELS", searched_pixels)
        tensors = SceneTensors.from_scene(scene, CopyingSettings.multiple, torch.device("cpu"))
        generator = CopyingGenerator(CopyingSettings(), tensors).eval()
    generator.prepare()
    assert (generator.sizes.finest > 0) == (searched_pixels < levels.SEARCHED_PIXELS)
    write_onnx(CopyingGraph(generator, tensors), folder / "model.onnx")
    layouts = [scene.labels, *scene.targets.values()]
    render = Renderer(generator, tensors)
    pictures: list[RGB] = [render(layout) for layout in layouts]
    return Exported(folder / "model.onnx", np.stack(layouts), np.stack(pictures))


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(("cat", levels.SEARCHED_PIXELS), id="cat, searched at full size"),
        pytest.param(("pavilion", 9000), id="pavilion, composed at full size"),
    ],
)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Two small example scenes, between them every part of a graph; exported once, for exporting is slow."""
    name, searched_pixels = request.param
    return export(name, searched_pixels, tmp_path_factory.mktemp("graphs"))


def test_the_graph_draws_what_the_generator_draws(
    copying: CopyingGenerator, field_tensors: SceneTensors, field: Field
) -> None:
    graph, render = CopyingGraph(copying, field_tensors).eval(), Renderer(copying, field_tensors)
    targets = [field((40, 24)), field((44, 77)), field((50, 3), (20, 60))]
    with torch.no_grad():
        pictures = graph(torch.from_numpy(np.stack(targets))).numpy()
    assert pictures.dtype == np.uint8
    for picture, target in zip(pictures, targets, strict=True):
        assert np.array_equal(picture, render(target))


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_onnx_runtime_draws_exactly_what_pytorch_draws(exported: Exported, threads: int) -> None:
    drew = drawn(exported.path, exported.layouts, together=1, threads=threads)
    assert np.array_equal(drew, exported.pictures)


def test_onnx_runtime_draws_layouts_together_as_it_draws_them_alone(exported: Exported) -> None:
    drew = drawn(exported.path, exported.layouts, together=3, threads=2)
    assert np.array_equal(drew, exported.pictures)


def test_no_operator_is_of_our_own(exported: Exported) -> None:
    model = onnx.load(exported.path)
    assert [entry.domain for entry in model.opset_import] == [""]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions


def test_the_graph_is_within_tensorrts_list(exported: Exported) -> None:
    """But for tables that are stored narrow: neither parser gets to see those."""
    narrow = ["Cast of INT8", "Cast of UINT8 inside the network"]
    assert offences(onnx.load(exported.path)) == narrow
    assert offences(as_onnx_runtime_partitions(exported.path)) == [], "given to TensorRT by ONNX Runtime"
    model = tensorrt_model(exported.path)
    assert offences(model) == [], "given to TensorRT by us"
    drew = drawn(model.SerializeToString(), exported.layouts[:2], together=2, threads=1)
    assert np.array_equal(drew, exported.pictures[:2])
