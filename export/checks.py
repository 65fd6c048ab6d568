"""Checks of exported graphs: parity with PyTorch in 8-bit levels; closeness and speed of two graphs."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.machine import usable_cores
from semia.core.model_card import TargetParity
from semia.export.errors import ExportError, NoKernelsError, ParityError
from semia.export.precision.half import HALF_TYPES, rounded_in_float32
from semia.export.session import CPU_ONLY, OnnxRenderer

HIGHEST_PSNR = 99.0  # in dB: stands for all above, identical pictures included, whose PSNR is infinite

TURNS, TURNS_S = (11, 51), 10.0
"""Fewest and most turns that two graphs take; between them, as many as fit into so many seconds."""


def measure_parity(
    model: Path, render: Callable[[ClassIds], RGB], targets: Mapping[str, ClassIds]
) -> tuple[TargetParity, ...]:
    """Run ``model.onnx`` on the CPU beside another renderer, on every target; an ExportError if ONNX Runtime cannot."""
    draw = OnnxRenderer(model)
    return tuple(compare(stem, render(ids), draw(ids)) for stem, ids in targets.items())


def compare(target: str, drawn: RGB, expected: RGB) -> TargetParity:
    """How far pictures ``uint8[..., H, W, 3]`` are from others, under a target's name."""
    difference = np.abs(drawn.astype(np.int16) - expected.astype(np.int16))
    return TargetParity(target, int(difference.max()), round(float(difference.mean()), 6))


def check_parity(parity: tuple[TargetParity, ...], tolerance: int, reference: str = "PyTorch") -> None:
    """Raise a ParityError that names all targets with a pixel more than ``tolerance`` levels from the reference."""
    beyond = [f"{entry.target} by {entry.max_abs}" for entry in parity if entry.max_abs > tolerance]
    if beyond:
        raise ParityError(
            f"its pictures differ from {reference}'s by more than {tolerance} of 255: {', '.join(beyond)}; "
            "nothing was exported (--tolerance allows more)"
        )


def measure_fidelity(reference: Path, model: Path, targets: Mapping[str, ClassIds]) -> dict[str, float]:
    """How close two graphs' pictures are in ONNX Runtime on the CPU: PSNR in dB by target, or an ExportError."""
    draw_reference, draw = (OnnxRenderer(_for_the_cpu(path)) for path in (reference, model))
    return {stem: round(psnr(draw(ids), draw_reference(ids)), 2) for stem, ids in targets.items()}


def psnr(picture: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of two pictures of 8 bits, in dB, at most `HIGHEST_PSNR`."""
    mean_square = float(np.square(picture.astype(np.float64) - reference).mean())
    return HIGHEST_PSNR if mean_square == 0 else min(HIGHEST_PSNR, 10 * float(np.log10(255**2 / mean_square)))


@dataclass(frozen=True)
class Speed:
    """How fast a graph is beside another that draws the same; both took turns, so what disturbs one disturbs both."""

    ratio: float  # of the other's median time to its own
    faster_share: float  # of the turns in which it was the faster one, in [0, 1]


def measure_speed(reference: Path, model: Path, layout: ClassIds) -> tuple[Speed | None, str]:
    """Time a graph beside one that runs everywhere, on this machine's GPU if it has one, else on its CPU.

    Both draw a layout, ``uint8[H, W]``.

    Returns:
        Its speed, None if ONNX Runtime lacks kernels for it; and where it was measured.

    Raises:
        ExportError: if ONNX Runtime cannot run one of them for another reason.
    """
    providers, place = _device()
    try:
        renderers = [OnnxRenderer(path, threads=usable_cores(), providers=providers) for path in (reference, model)]
    except NoKernelsError:
        return None, place
    if renderers[0].provider != providers[0]:
        raise ExportError(f"ONNX Runtime cannot use {place}, so no speed can be measured there")
    for render in renderers:
        render(layout)  # warms up
    turns: list[tuple[float, float]] = []
    began = time.monotonic()
    while len(turns) < TURNS[0] or (len(turns) < TURNS[1] and time.monotonic() - began < TURNS_S):
        turns.append((_seconds(renderers[0], layout), _seconds(renderers[1], layout)))
    before, after = (statistics.median(times) for times in zip(*turns, strict=True))
    share = statistics.mean(theirs > own for theirs, own in turns)
    return Speed(round(before / after, 3), round(share, 3)), place


def _device() -> tuple[list[str], str]:
    """The providers that a server on this machine would run a graph with, and the device's name for people."""
    if torch.cuda.is_available() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()
        return ["CUDAExecutionProvider", "CPUExecutionProvider"], f"this machine's {torch.cuda.get_device_name()}"
    return [*CPU_ONLY], f"this machine's CPU, {usable_cores()} threads"


def _for_the_cpu(model: Path) -> Path | bytes:
    """A graph that the CPU has kernels for: half-precision arithmetic is done in float32 and rounded."""
    content = onnx.load(model)
    if any(tensor.data_type in HALF_TYPES for tensor in content.graph.initializer):
        rounded: bytes = rounded_in_float32(content).SerializeToString()
        return rounded
    return model


def _seconds(render: OnnxRenderer, layout: ClassIds) -> float:
    began = time.perf_counter()
    render(layout)
    return time.perf_counter() - began
