import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from semia.core.labels import ClassIds
from semia.core.palette import Palette
from semia.export.checks import psnr
from semia.export.exporter import parity_targets
from semia.export.graphs.published import SynthesisGraph
from semia.export.onnx_writer import OPSET
from semia.export.precision.half import BFLOAT16_OPSET, Cast, half_precision_graph, rounded_in_float32
from semia.export.precision.request import MIN_PSNR
from semia.training.published.generator import Generator, Translation
from semia.training.published.pretrained import read_published_generator
from semia.training.run_folder import RunFolder
from semia.training.scene import Scene
from semia.training.tensors import SceneTensors

REFERENCE = "SEMIA_REFERENCE_CHECKPOINT"
"""The variable that names a folder of latest_net_G.pth and io.npz, made with the public code."""

Lower = Callable[[SynthesisGraph, torch.dtype, list[ClassIds]], SynthesisGraph]


def graph_of_run(run: RunFolder, tensors: SceneTensors) -> SynthesisGraph:
    generator = run.load_generator().generator
    assert isinstance(generator, Generator)
    return SynthesisGraph(generator, tensors).eval()


@pytest.fixture(params=[(torch.float16, OPSET), (torch.bfloat16, BFLOAT16_OPSET)], ids=["fp16", "bf16"])
def lowered(
    request: pytest.FixtureRequest,
    run: RunFolder,
    scene: Scene,
    tensors: SceneTensors,
    write_once: Callable[[SynthesisGraph, Path, int], None],
    tmp_path: Path,
) -> tuple[onnx.ModelProto, int]:
    """The run's graph, whose ratios have no limit, in half precision; and which type that is."""
    dtype, opset = request.param
    # Ranges are measured on all layouts that the tests which share the graph draw.
    layouts = [*parity_targets(scene).values()]
    write_once(half_precision_graph(graph_of_run(run, tensors), dtype, layouts), tmp_path / "m.onnx", opset)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "m.onnx"))
    assert model.opset_import[0].version == opset
    return model, TensorProto.FLOAT16 if dtype == torch.float16 else TensorProto.BFLOAT16


def weights_by_type(model: onnx.ModelProto, data_type: int) -> set[str]:
    """The parts of the generator that hold convolutions with weights of a type."""
    names = {tensor.name for tensor in model.graph.initializer if tensor.data_type == data_type}
    weights = [node.input[1] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    return {name.split(".")[1] for name in weights if name in names}


def test_what_needs_float32_stays_there(lowered: tuple[onnx.ModelProto, int]) -> None:
    model, data_type = lowered
    assert weights_by_type(model, data_type) == {"image_encoder", "decoder", "beta_heads"}
    assert weights_by_type(model, TensorProto.FLOAT) == {"label_encoder", "gamma_heads"}
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for operator in ("Div", "InstanceNormalization"):
        results = [node.output[0] for node in model.graph.node if node.op_type == operator]
        assert results
        assert {types[name] for name in results} == {TensorProto.FLOAT}


def test_nothing_is_cast_there_and_back(lowered: tuple[onnx.ModelProto, int]) -> None:
    model, _ = lowered
    cast = {node.output[0] for node in model.graph.node if node.op_type == "Cast"}
    assert not [node.name for node in model.graph.node if node.op_type == "Cast" and node.input[0] in cast]


@pytest.mark.parametrize(("limit", "expected"), [(None, torch.float32), (4.0, torch.float16)])
def test_heads_that_read_ratios_are_lowered_where_those_are_limited(
    scene: Scene, tensors: SceneTensors, limit: float | None, expected: torch.dtype
) -> None:
    graph = SynthesisGraph(Generator(4, 2, limit).eval(), tensors)
    lowered = half_precision_graph(graph, torch.float16, [scene.labels])
    heads = lowered.generator.gamma_heads
    assert {tensor.dtype for tensor in [*heads.parameters(), *heads.buffers()]} == {expected}
    assert {parameter.dtype for parameter in graph.parameters()} == {torch.float32}  # the original stays whole


def overflowing(tensors: SceneTensors) -> SynthesisGraph:
    """A network whose ratios, gammas and modulated features are beyond float16: few denominators are almost 0."""
    torch.manual_seed(0)
    graph = SynthesisGraph(Generator(8, 2).eval(), tensors).eval()
    for level in range(graph.levels):
        graph.get_buffer(f"source_features_{level}")[:, 0, 5, 5:9] = 1e-7
    return graph


def pictures(graph: SynthesisGraph, layouts: list[ClassIds]) -> NDArray[np.uint8]:
    """In PyTorch, which computes float16 on the CPU as it is: what is too large is infinite."""
    with torch.no_grad():
        drawn: NDArray[np.uint8] = graph(torch.from_numpy(np.stack(layouts))).numpy()
    return drawn


def without_ranges(graph: SynthesisGraph, dtype: torch.dtype, layouts: list[ClassIds]) -> SynthesisGraph:
    """Features as they are, however large: what limited ratios can afford."""
    graph.generator.ratio_limit = 1e30  # limits nothing
    heads = graph.generator.gamma_heads
    lowered = half_precision_graph(graph, dtype, layouts)
    lowered.generator.gamma_heads = heads
    return lowered


def ratio_in_half(graph: SynthesisGraph, dtype: torch.dtype, layouts: list[ClassIds]) -> SynthesisGraph:
    """The ratio itself in half precision."""
    lowered = half_precision_graph(graph, dtype, layouts)
    generator = lowered.generator

    def translate(sources: list[Tensor], targets: list[Tensor]) -> Translation:
        ratios = [
            (target.to(dtype) / source.to(dtype)).float() for source, target in zip(sources, targets, strict=True)
        ]
        gammas = [head(ratio) for head, ratio in zip(generator.gamma_heads, ratios, strict=True)]
        pairs = zip(generator.beta_heads, sources, targets, strict=True)
        return Translation(gammas, [head(target - source) for head, source, target in pairs])

    vars(generator)["translate"] = translate
    return lowered


def heads_in_half(graph: SynthesisGraph, dtype: torch.dtype, layouts: list[ClassIds]) -> SynthesisGraph:
    """The heads that read ratios without a limit, in half precision."""
    lowered = half_precision_graph(graph, dtype, layouts)
    heads = lowered.generator.gamma_heads
    for index, head in enumerate(heads):
        heads[index] = nn.Sequential(Cast(dtype), head.to(dtype), Cast(torch.float32))
    return lowered


@pytest.mark.parametrize("broken", [without_ranges, ratio_in_half, heads_in_half])
def test_a_network_beyond_float16_is_drawn_and_no_lesser_conversion_draws_it(
    scene: Scene, tensors: SceneTensors, broken: Lower
) -> None:
    layouts = [scene.targets["moved"], np.uint8(2) - scene.labels]
    expected = pictures(overflowing(tensors), layouts)
    assert expected.std() > 1
    sound = pictures(half_precision_graph(overflowing(tensors), torch.float16, layouts[:1]), layouts)
    assert psnr(sound, expected) >= MIN_PSNR["fp16"]
    assert psnr(pictures(broken(overflowing(tensors), torch.float16, layouts), layouts), expected) < 20


def reference_scene(folder: Path) -> tuple[Generator, Scene]:
    pair: Mapping[str, NDArray[np.uint8]] = np.load(folder / "io.npz")
    colors = [(int(red), int(green), int(blue)) for red, green, blue in pair["palette"]]
    palette = Palette(tuple(colors), tuple(f"class{index}" for index in range(len(colors))))
    scene = Scene("pair", pair["source_image"], pair["source_labels"], palette, {"target": pair["target_labels"]})
    return read_published_generator(folder / "latest_net_G.pth"), scene


@pytest.mark.skipif(REFERENCE not in os.environ, reason=f"{REFERENCE} does not name a folder with a checkpoint")
def test_the_public_codes_checkpoint_survives() -> None:
    generator, scene = reference_scene(Path(os.environ[REFERENCE]))
    tensors = SceneTensors.from_scene(scene, 8, torch.device("cpu"))
    graph = SynthesisGraph(generator, tensors).eval()
    targets = list(parity_targets(scene).values())
    expected = pictures(graph, targets)
    lowered = half_precision_graph(graph, torch.float16, targets)
    for drawn, picture in zip(pictures(lowered, targets), expected, strict=True):
        assert psnr(drawn, picture) >= MIN_PSNR["fp16"]


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
