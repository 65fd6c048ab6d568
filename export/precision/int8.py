"""INT8 by static quantization: QuantizeLinear and DequantizeLinear around convolutions, for ONNX Runtime's CPU kernels.

Quantized are the image encoder's and the decoder's convolutions, where the time goes. What the feature ratio
depends on, and what reads it, is not: eight bits hold no ratio. Nor is the last convolution, whose result is
the picture itself. The decoder's last stage, next to it, is quantized where it can be: it makes most of the error of
some generators, and brings a tenth of the time.
"""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from semia.core.labels import ClassIds
from semia.core.model_card import INPUT_NAME
from semia.training.published.augmentation import AugmentationSettings, draw_grid, warp_ids

QUANTIZED = ("generator.image_encoder.", "generator.decoder.")
SENSITIVE = "generator.decoder.tail."
STAGES = "generator.decoder.ups."
"""Weights' names begin so; a stage's number follows."""

CALIBRATION_LAYOUTS = 16  # each takes a forward pass; value ranges hardly grow after the first few


def calibration_layouts(labels: ClassIds, augmentation: AugmentationSettings) -> list[ClassIds]:
    """A scene's own layout and augmentations of it at full strength, the same at every call: ``uint8[H, W]`` each."""
    ids = torch.from_numpy(labels.astype(np.int64)).unsqueeze(0)
    layouts, (height, width) = [labels], labels.shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        while len(layouts) < CALIBRATION_LAYOUTS:
            grid = draw_grid(augmentation, 1.0, height, width, torch.device("cpu"))
            layouts.append(warp_ids(ids, grid)[0].to(torch.uint8).numpy())
    return layouts


def quantize(
    model: Path, destination: Path, layouts: Sequence[ClassIds], *, last_stage_in_float32: bool = False
) -> None:
    """Quantize a float32 ``model.onnx`` of a `SynthesisGraph`: activations to uint8, weights to int8 by channel.

    Value ranges are taken from layouts, ``uint8[H, W]`` each. The decoder's last stage may be left as it is.
    """
    prepared = destination.with_name("prepared.onnx")
    try:
        with warnings.catch_warnings():
            # NumPy's on being asked about float32 in a process that trained: there, next to zero is zero.
            warnings.filterwarnings("ignore", "The value of the smallest subnormal", UserWarning)
            quant_pre_process(model, prepared, skip_optimization=True, skip_symbolic_shape=True)
            quantize_static(
                prepared,
                destination,
                _Layouts(layouts),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_quantize=_convolutions(onnx.load(prepared), last_stage_in_float32),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        prepared.unlink(missing_ok=True)


def _convolutions(model: onnx.ModelProto, last_stage_in_float32: bool) -> list[str]:
    """Names of the nodes to quantize."""
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    last_stage = max(_stage(weight) for weight in weights.values())
    return [
        name
        for name, weight in weights.items()
        if weight.startswith(QUANTIZED)
        and not weight.startswith(SENSITIVE)
        and not (last_stage_in_float32 and _stage(weight) == last_stage)
    ]


def _stage(weight: str) -> int:
    """The number of the decoder's stage that a weight belongs to; -1 for one elsewhere."""
    return int(weight.removeprefix(STAGES).partition(".")[0]) if weight.startswith(STAGES) else -1


class _Layouts(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no types
    """Layouts as ONNX Runtime's calibrator asks for them."""

    def __init__(self, layouts: Sequence[ClassIds]) -> None:
        self._layouts: Iterator[ClassIds] = iter(layouts)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """The next input, or None after the last."""
        layout = next(self._layouts, None)
        return None if layout is None else {INPUT_NAME: layout[np.newaxis]}
