"""Checks of exported graphs: parity with PyTorch in 8-bit levels; closeness and speed of two graphs."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as NoKernelError

from semia.core.images import RGB
from semia.core.labels import ClassIds
from semia.core.machine import usable_cores
from semia.core.model_card import INPUT_NAME, OUTPUT_NAME, TargetParity
from semia.export.errors import ExportError, ParityError, first_line
from semia.export.precision.half import HALF_TYPES, rounded_in_float32

HIGHEST_PSNR = 99.0
"""In dB: stands for all above, identical pictures included, whose PSNR is infinite."""

TURNS, PATIENCE_S = (11, 51), 10.0
"""Fewest and most turns that two graphs take; between them, as many as fit into so many seconds."""


def measure_parity(
    model: Path, render: Callable[[ClassIds], RGB], targets: Mapping[str, ClassIds]
) -> tuple[TargetParity, ...]:
    """Run ``model.onnx`` in ONNX Runtime on the CPU beside another renderer, on every target.

    Raises:
        ExportError: if ONNX Runtime cannot load or run the graph, or the other renderer fails.
    """
    try:
        session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        results = []
        for stem, ids in targets.items():
            (pictures,) = session.run([OUTPUT_NAME], {INPUT_NAME: ids[np.newaxis]})
            results.append(compare(stem, render(ids), pictures[0]))
    except ExportError:  # the other renderer's own
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ExportError(f"ONNX Runtime cannot run the exported graph: {first_line(error)}") from error
    return tuple(results)


def compare(target: str, drawn: RGB, expected: RGB) -> TargetParity:
    """How far pictures ``uint8[..., H, W, 3]`` are from others, under a target's name."""
    difference = np.abs(drawn.astype(np.int16) - expected.astype(np.int16))
    return TargetParity(target, int(difference.max()), round(float(difference.mean()), 6))


def check_parity(parity: tuple[TargetParity, ...], tolerance: int, reference: str = "PyTorch") -> None:
    """Refuse an export that differs from its reference by more than ``tolerance`` levels anywhere.

    Raises:
        ParityError: naming every target beyond the tolerance.
    """
    beyond = [f"{entry.target} by {entry.max_abs}" for entry in parity if entry.max_abs > tolerance]
    if beyond:
        raise ParityError(
            f"its pictures differ from {reference}'s by more than {tolerance} of 255: {', '.join(beyond)}; "
            "nothing was exported (--tolerance allows more)"
        )


def measure_fidelity(reference: Path, model: Path, targets: Mapping[str, ClassIds]) -> dict[str, float]:
    """How close a graph's pictures are to another's, in ONNX Runtime on the CPU: PSNR in dB by target.

    Raises:
        ExportError: if ONNX Runtime cannot run one of them.
    """
    sessions = [_cpu_session(path) for path in (reference, model)]
    fidelity = {}
    for stem, ids in targets.items():
        expected, drawn = (_draw(session, ids) for session in sessions)
        fidelity[stem] = round(psnr(drawn, expected), 2)
    return fidelity


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
    """Time a graph beside another, on this machine's GPU if it has one, else on its CPU.

    Args:
        reference: a graph that runs everywhere.
        model: the graph to judge.
        layout: ``uint8[H, W]``, what both draw.

    Returns:
        Its speed, None if ONNX Runtime lacks kernels for it; and where it was measured.

    Raises:
        ExportError: if ONNX Runtime cannot run one of them for another reason.
    """
    providers, place = _device()
    try:
        sessions = [_session(path, providers) for path in (reference, model)]
    except NoKernelError:
        return None, place
    if sessions[0].get_providers()[0] != providers[0]:
        raise ExportError(f"ONNX Runtime cannot use {place}, so no speed can be measured there")
    for session in sessions:
        _seconds(session, layout)  # warms up
    turns: list[tuple[float, float]] = []
    began = time.monotonic()
    while len(turns) < TURNS[0] or (len(turns) < TURNS[1] and time.monotonic() - began < PATIENCE_S):
        turns.append((_seconds(sessions[0], layout), _seconds(sessions[1], layout)))
    before, after = (statistics.median(times) for times in zip(*turns, strict=True))
    share = statistics.mean(theirs > own for theirs, own in turns)
    return Speed(round(before / after, 3), round(share, 3)), place


def _device() -> tuple[list[str], str]:
    """The providers that a server on this machine would run a graph with, and the device's name for people."""
    if torch.cuda.is_available() and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        onnxruntime.preload_dlls()
        return ["CUDAExecutionProvider", "CPUExecutionProvider"], f"this machine's {torch.cuda.get_device_name()}"
    return ["CPUExecutionProvider"], f"this machine's CPU, {usable_cores()} threads"


def _cpu_session(model: Path) -> Any:
    content = onnx.load(model)
    if any(tensor.data_type in HALF_TYPES for tensor in content.graph.initializer):
        content = rounded_in_float32(content)
    return _session(content.SerializeToString(), ["CPUExecutionProvider"])


def _session(model: Path | bytes, providers: list[str]) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    try:
        return onnxruntime.InferenceSession(model, options, providers=providers)
    except NoKernelError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise ExportError(f"ONNX Runtime cannot load the exported graph: {first_line(error)}") from error


def _draw(session: Any, layout: ClassIds) -> NDArray[np.uint8]:
    try:
        (pictures,) = session.run([OUTPUT_NAME], {INPUT_NAME: layout[np.newaxis]})
    except Exception as error:  # as above
        raise ExportError(f"ONNX Runtime cannot run the exported graph: {first_line(error)}") from error
    picture: NDArray[np.uint8] = pictures[0]
    return picture


def _seconds(session: Any, layout: ClassIds) -> float:
    began = time.perf_counter()
    _draw(session, layout)
    return time.perf_counter() - began
