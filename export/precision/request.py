"""Lower precisions than float32: made, and offered only where their pictures stay and their graph is faster."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from semia.core.labels import ClassIds
from semia.core.model_card import GeneratorKind, Precision, PrecisionCheck
from semia.export.checks import measure_fidelity, measure_speed
from semia.export.errors import NoPrecisionError, PrecisionError
from semia.export.graphs.published import SynthesisGraph
from semia.export.onnx_writer import OPSET, write_onnx
from semia.export.precision.half import BFLOAT16_OPSET, half_precision_graph
from semia.export.precision.int8 import calibration_layouts, quantize
from semia.training.published.augmentation import AugmentationSettings

MIN_PSNR: Mapping[Precision, float] = {"fp16": 45.0, "bf16": 40.0, "int8": 35.0}
"""In dB: errors of 1.4, 2.5 and 4.5 levels of 255 (root mean square). None shows as noise in a photograph; a
trained generator lies about 20, 15 and 7 above, so that what falls below has a part that broke."""

FASTER, FASTER_SHARE = 1.05, 0.75
"""What counts as faster: by so much, and in so many of the turns. Two equal graphs on a busy machine now and then
pass the first by chance; of 31 turns, they pass the second once in some hundred exports."""


@dataclass(frozen=True)
class PrecisionRequest:
    """Which precision is wanted, and what it must hold."""

    precision: Precision = "fp32"
    min_psnr: float | None = None  # dB; None for the precision's own limit
    for_another_machine: bool = False  # then it need not be faster on this one

    def check(self, generator: GeneratorKind) -> None:
        """Refuse, before any work, what no export can give, by a NoPrecisionError."""
        if self.precision == "fp32":
            if self.min_psnr is not None or self.for_another_machine:
                raise NoPrecisionError(
                    "fp32 is what other precisions are compared with: choose one of them with --precision"
                )
        elif generator == "copying":
            raise NoPrecisionError(
                f"the copying generator has no {self.precision} form: it decides what to copy by sums that must be "
                "exact in float32, and copies pixels, which needs next to no arithmetic; export it as fp32"
            )

    @property
    def limit(self) -> float:
        """The least PSNR, in dB."""
        return MIN_PSNR[self.precision] if self.min_psnr is None else self.min_psnr

    @property
    def opset(self) -> int:
        """The ONNX operator set that the precision needs."""
        return BFLOAT16_OPSET if self.precision == "bf16" else OPSET


def lower_precision(
    model: Path,
    graph: SynthesisGraph,
    request: PrecisionRequest,
    targets: Mapping[str, ClassIds],
    augmentation: AugmentationSettings,
    on_check: Callable[[PrecisionCheck], None] = lambda _: None,
) -> PrecisionCheck:
    """Replace a float32 ``model.onnx`` by one of a lower precision, if it may be.

    The file ``model``, exported from ``graph``, already draws what PyTorch draws. Pictures are compared on ``targets``,
    the scene's own layout first; augmentations of that give ranges of values. ``on_check`` is told the figures before
    they are judged.

    Raises:
        PrecisionError: if pictures are too far from fp32's, or it is not faster where it must be.
        ExportError: if it cannot be made or run.
    """
    lowered = model.with_name("lowered.onnx")
    layouts = list(targets.values())
    augmented = calibration_layouts(layouts[0], augmentation)
    if request.precision == "int8":
        quantize(model, lowered, augmented)
    else:
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[request.precision]
        write_onnx(half_precision_graph(graph, dtype, [*layouts, *augmented]), lowered, request.opset)
    fidelity = measure_fidelity(model, lowered, targets)
    last_stage_in_float32 = request.precision == "int8" and not min(fidelity.values()) >= request.limit
    if last_stage_in_float32:
        quantize(model, lowered, augmented, last_stage_in_float32=True)
        fidelity = measure_fidelity(model, lowered, targets)
    speed, measured_on = measure_speed(model, lowered, layouts[0])
    check = PrecisionCheck(
        psnr=fidelity,
        min_psnr=request.limit,
        speedup=None if speed is None else speed.ratio,
        faster_share=None if speed is None else speed.faster_share,
        measured_on=measured_on,
        meant_for="another machine" if request.for_another_machine else "this machine",
        last_stage_in_float32=last_stage_in_float32,
    )
    on_check(check)
    check_precision(request.precision, check)
    lowered.replace(model)
    return check


def check_precision(precision: Precision, check: PrecisionCheck) -> None:
    """Raise a PrecisionError if a precision costs too much, or brings nothing where it is meant to run."""
    below = [f"{target} at {psnr:.1f}" for target, psnr in check.psnr.items() if not psnr >= check.min_psnr]
    if below:
        raise PrecisionError(
            f"its {precision} pictures are less than {check.min_psnr:g} dB from fp32's: {', '.join(below)}; "
            "nothing was exported (--min-psnr allows less)"
        )
    faster = (check.speedup or 0) >= FASTER and (check.faster_share or 0) >= FASTER_SHARE
    if check.meant_for == "this machine" and not faster:
        raise PrecisionError(
            f"{precision} is not faster than fp32 on {check.measured_on}: {describe_speed(check)}; "
            "nothing was exported (--for-another-machine exports it for a machine where it is)"
        )


def describe_speed(check: PrecisionCheck) -> str:
    """What was measured of the speed, in words."""
    if check.speedup is None or check.faster_share is None:
        return "ONNX Runtime has no kernels for it"
    return f"{check.speedup:.2f}x fp32's speed, faster in {check.faster_share:.0%} of the turns"
