from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from semia.core.model_card import MODEL_FILE
from semia.export.precision.int8 import CALIBRATION_LAYOUTS, calibration_layouts, quantize
from semia.training.published.augmentation import AugmentationSettings
from semia.training.scene import Scene


def test_layouts_are_the_scenes_own_bent_and_always_the_same(scene: Scene) -> None:
    layouts = calibration_layouts(scene.labels, AugmentationSettings())
    again = calibration_layouts(scene.labels, AugmentationSettings())
    assert len(layouts) == CALIBRATION_LAYOUTS
    assert np.array_equal(layouts[0], scene.labels)
    assert all(np.array_equal(one, other) for one, other in zip(layouts, again, strict=True))
    assert len({layout.tobytes() for layout in layouts}) > CALIBRATION_LAYOUTS // 2
    assert {(layout.shape, layout.dtype) for layout in layouts} == {(scene.labels.shape, np.dtype(np.uint8))}
    assert set(np.unique(layouts)) <= {0, 1, 2}


def convolutions(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """The names of eight-bit weights of convolutions, and those of float32 ones."""
    producers = {name: node for node in model.graph.node for name in node.output}
    integer, plain = set[str](), set[str]()
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            source = producers.get(node.input[1])
            if source is not None and source.op_type == "DequantizeLinear":
                integer.add(source.input[0].removeprefix("generator.").removesuffix("_quantized"))
            else:
                plain.add(node.input[1].removeprefix("generator."))
    return integer, plain


@pytest.fixture(scope="module")
def quantized(exported: Path, scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    path = tmp_path_factory.mktemp("int8") / "model.onnx"
    quantize(exported / MODEL_FILE, path, calibration_layouts(scene.labels, AugmentationSettings())[:3])
    assert list(path.parent.iterdir()) == [path]
    return onnx.load(path)


def test_only_what_bears_it_is_quantized(quantized: onnx.ModelProto) -> None:
    onnx.checker.check_model(quantized, full_check=True)
    integer, plain = ({".".join(weight.split(".")[:2]) for weight in each} for each in convolutions(quantized))
    assert integer == {"image_encoder.downs", "image_encoder.tail", "decoder.head", "decoder.ups"}
    assert {"decoder.tail", "gamma_heads.0", "beta_heads.0", "label_encoder.head", "label_encoder.downs"} <= plain


def test_the_last_stage_can_be_left_as_it_is(
    quantized: onnx.ModelProto, exported: Path, scene: Scene, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    quantize(exported / MODEL_FILE, path, [scene.labels], last_stage_in_float32=True)
    all_integer, _ = convolutions(quantized)
    integer, plain = convolutions(onnx.load(path))
    stages = {weight.split(".")[2] for weight in all_integer if weight.startswith("decoder.ups.")}
    left = {weight for weight in all_integer if weight.startswith(f"decoder.ups.{max(stages)}.")}
    assert left
    assert integer == all_integer - left
    assert left <= plain


def test_weights_have_a_scale_a_channel(quantized: onnx.ModelProto) -> None:
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    # A weight's DequantizeLinear: the tensor itself, then its scales; activations come from other nodes.
    dequantized = [
        (tensors[node.input[0]], tensors[node.input[1]])
        for node in quantized.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in tensors
    ]
    weights = [(weight, scales) for weight, scales in dequantized if len(weight.dims) == 4]
    assert weights
    assert {weight.data_type for weight, _ in weights} == {TensorProto.INT8}
    assert all(list(scales.dims) == [weight.dims[0]] for weight, scales in weights)
